"""Unique keys and order keys: one unstarted job a key, a run that sees each cause, and one after the other in order."""

import asyncio
import random
from collections import defaultdict
from contextlib import suppress
from typing import Any

import pytest
from kit.jobs import Note, Process, effect, kind, outcomes

from callboard.actors.infrastructure.database import Database, TransactionConflict
from callboard.actors.infrastructure.job_kinds import Backoff, Done, Job, Later, Outcome, Permanent, Retry
from callboard.actors.infrastructure.job_sweeper import Sweep

QUICK = {"backoff": Backoff(0.001, 0.003)}


async def test_at_most_one_unstarted_job_has_a_key_and_a_rivals_rollback_lets_ours_in(database: Database) -> None:
    process = Process(database, (kind(), effect))
    assert await process.put("one", unique="k") != [None]
    assert await process.put("two", unique="k") == [None]
    assert await process.put("other", unique="l") != [None]
    await process.execute("delete from jobs")
    async with database.acquire() as rival:
        transaction = rival.transaction()
        await transaction.start()
        await process.queue.enqueue(rival, Note("rolled back"), unique="k")
        ours = asyncio.ensure_future(process.put("ours", unique="k"))
        await asyncio.sleep(0.05)
        assert not ours.done()
        await transaction.rollback()
        assert await ours != [None]
    assert [row["text"] for row in await process.rows("select payload->>'text' as text from jobs")] == ["ours"]


@pytest.mark.parametrize("seed", range(3))
async def test_after_each_committed_cause_a_run_starts_that_sees_it(database: Database, seed: int) -> None:
    """The causes count a row up; a run notes what it has read. The last run must have read the last count."""
    rng = random.Random(seed)  # noqa: S311 - a seed that can be repeated
    read: list[int] = []

    async def handle(job: Job[Note]) -> Outcome:
        async with job.finish() as connection:
            read.append(await connection.fetchval("select version from feature_flags"))
            if rng.random() < 0.2:
                raise ZeroDivisionError
        return None

    declared = kind(slots=2, max_attempts=50, **QUICK)
    one, two = Process(database, (declared, handle)), Process(database, (declared, handle))
    await one.execute("insert into feature_flags (name) values ('enable_new_ui')")
    async with one.working(), two.working():

        async def change(process: Process, first: bool) -> None:
            async with database.transaction() as connection:
                for enqueues in (first, not first):
                    if enqueues:
                        await process.queue.enqueue(connection, Note(), unique="k")
                    else:
                        await connection.execute("update feature_flags set version = version + 1")
                    await asyncio.sleep(rng.random() * 0.004)

        async def cause(process: Process) -> None:
            left = 15
            while left:
                with suppress(TransactionConflict):  # one that locks the row first, and one that locks the key first
                    await change(process, rng.random() < 0.5)
                    left -= 1

        await asyncio.gather(cause(one), cause(two))
        await one.settled()
    assert max(read) == 31
    assert await one.value("select version from feature_flags") == 31


async def test_a_job_does_not_start_before_the_cause_that_met_it_has_ended(database: Database) -> None:
    started: list[str] = []

    async def handle(job: Job[Note]) -> Outcome:
        started.append(job.payload.text)
        return Done()

    process = Process(database, (kind(), handle))
    await process.put("twin", unique="k")
    async with database.transaction() as cause:
        assert await process.queue.enqueue(cause, Note("again"), unique="k") is None
        async with process.working():
            await process.put("other")
            async with asyncio.timeout(10):
                while started != ["other"]:
                    assert "twin" not in started
                    await asyncio.sleep(0.002)
            await asyncio.sleep(0.1)
            assert started == ["other"]
    async with Process(database, (kind(), handle)).working():
        await process.settled()
    assert started == ["other", "twin"]


async def test_a_retry_that_meets_its_twin_is_superseded_and_the_twin_takes_the_larger_attempts(
    database: Database,
) -> None:
    attempts: list[tuple[str, int]] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(job: Job[Note]) -> Outcome:
        attempts.append((job.payload.text, job.attempt))
        if job.payload.text == "first":
            begun.set()
            await go_on.wait()
            return Retry("no")
        return Done()

    process = Process(database, (kind(slots=1, **QUICK), handle))
    async with process.working():
        await process.put("first", unique="k")
        await asyncio.wait_for(begun.wait(), 10)
        assert await process.put("second", unique="k", delay_s=0.3) != [
            None
        ]  # so it has not started when the first ends
        go_on.set()
        await process.settled()
    assert attempts == [("first", 1), ("second", 2)]
    assert await outcomes(process) == {"superseded": 1, "done": 1}


async def test_a_lost_lease_that_meets_its_twin_stops_no_other_from_being_swept(database: Database) -> None:
    process = Process(database, (kind(**QUICK), effect))
    await process.put("one", unique="k")
    await process.put("plain", "another")
    await process.execute(
        "update jobs set state = 'running', attempts = 2, lease_id = nextval('job_leases'), "
        "lease_until = now() - interval '1 hour'"
    )
    await process.put("twin", unique="k")
    await process.sweeper_once()
    async with process.working():
        await process.settled()
    assert await outcomes(process) == {"superseded": 1, "done": 3}


async def test_with_unique_active_one_unfinished_job_has_a_key(database: Database) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(_job: Job[Note]) -> Outcome:
        begun.set()
        await go_on.wait()
        return Done()

    process = Process(database, (kind(unique_active=True), handle))
    async with process.working():
        await process.put("one", unique="k")
        await asyncio.wait_for(begun.wait(), 10)
        assert await process.put("two", unique="k") == [None]
        go_on.set()
        await process.settled()
        assert await process.put("three", unique="k") != [None]
        await process.settled()


async def test_two_batches_that_share_keys_do_not_stop_each_other(database: Database) -> None:
    process = Process(database, (kind(), effect))
    keys = [str(n) for n in range(50)]

    async def batch(order: list[str]) -> int:
        async with database.transaction() as connection:
            return len(await process.queue.enqueue_many(connection, [Note(key) for key in order], unique=order))

    added = await asyncio.gather(*(batch(keys[::way]) for way in (1, -1) * 5))
    assert sum(added) == 50


@pytest.mark.parametrize("seed", range(4))
async def test_the_jobs_of_a_key_never_overlap_and_start_in_the_order_of_their_commits(
    database: Database, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 - a seed that can be repeated
    committed: defaultdict[str, list[str]] = defaultdict(list)
    started: defaultdict[str, list[str]] = defaultdict(list)
    running: set[str] = set()

    async def handle(job: Job[Note]) -> Outcome:
        key = job.payload.text.partition(":")[0]
        assert key not in running
        running.add(key)
        try:
            await asyncio.sleep(rng.random() * 0.003)
            if not started[key] or started[key][-1] != job.payload.text:
                started[key].append(job.payload.text)
            chance = rng.random()
            if chance < 0.1:
                return Retry("again")
            if chance < 0.15:
                return Later(0.001, "later")
            if chance < 0.2:
                async with job.finish():
                    pass
            return Done()
        finally:
            running.discard(key)

    declared = kind(slots=3, max_attempts=100, lease_s=3.0, **QUICK)
    processes = [Process(database, (declared, handle)) for _ in range(2)]

    async def cause(number: int) -> None:
        for n in range(12):
            key = str(rng.randrange(3))
            name = f"{key}:{number}.{n}"
            async with database.transaction() as connection:
                await processes[number % 2].queue.enqueue(connection, Note(name), order=key)
                await asyncio.sleep(rng.random() * 0.003)
                committed[key].append(name)  # the lock of the key is held to the commit

    async with processes[0].working(), processes[1].working():
        await asyncio.gather(*(cause(number) for number in range(4)))
        await processes[0].settled()
    assert started == committed


@pytest.mark.parametrize("halts", [False, True])
async def test_a_dead_head_frees_its_key_or_holds_it_as_the_kind_says(database: Database, halts: bool) -> None:
    seen: list[str] = []

    async def handle(job: Job[Note]) -> Outcome:
        seen.append(job.payload.text)
        return Permanent("no") if job.payload.text == "bad" else Done()

    process = Process(database, (kind(halt=halts), handle))
    async with process.working():
        await process.put("bad", "next", order="k")
        async with asyncio.timeout(10):
            while not await process.value("select count(*) from dead_jobs"):  # noqa: ASYNC110 - it is in PostgreSQL
                await asyncio.sleep(0.005)
        if halts:
            await process.put("last", order="k")
            await process.sweeper.ask(Sweep())
            assert await process.value("select count(*) from jobs where state = 'blocked'") == 2
            await process.execute("update dead_jobs set discarded_at = now()")
            await process.sweeper.ask(Sweep())
        await process.settled()
    assert seen == (["bad", "next", "last"] if halts else ["bad", "next"])


async def test_a_missed_promotion_is_swept(database: Database) -> None:
    process = Process(database, (kind(), effect))
    await process.put("one", "two", order="k")
    await process.execute("delete from jobs where state = 'waiting'")
    async with process.working():
        assert await process.sweeper.ask(Sweep()) == 1
        await process.settled()


async def test_a_batch_of_one_key_is_in_the_order_of_the_list(database: Database) -> None:
    seen: list[str] = []

    async def handle(job: Job[Note]) -> Outcome:
        seen.append(job.payload.text)
        return Done()

    process = Process(database, (kind(), handle))
    names: list[Any] = [str(n) for n in range(10)]
    async with process.working():
        async with database.transaction() as connection:
            await process.queue.enqueue_many(connection, [Note(name) for name in names], order=["k"] * 10)
        await process.settled()
    assert seen == names
