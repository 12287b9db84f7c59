"""The invariants of the job queue, with several processes on one database that die wherever a seed says."""

import asyncio
import random
from collections import Counter
from contextlib import suppress

import pytest
from kit.jobs import Note, Process, effect, effects, kind, outcomes
from kit.mortal import MortalDatabase

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import (
    Backoff,
    Done,
    Job,
    Later,
    LeaseLostError,
    Outcome,
    Priority,
    Retry,
)
from callboard.actors.infrastructure.job_sweeper import JobSweeper, Sweep

FAST = {"lease_s": 0.6, "backoff": Backoff(0.001, 0.002), "max_attempts": 6}


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_dies_wherever_each_job_has_one_effect_or_is_dead_and_no_attempt_is_uncounted(
    database: Database, url: str, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 - a seed that can be repeated
    attempts: Counter[str] = Counter()

    async def handle(job: Job[Note]) -> Outcome:
        attempts[job.payload.text] += 1
        assert attempts[job.payload.text] <= job.attempt <= job.max_attempts
        if rng.random() < 0.1:
            return Retry("now and then")
        await asyncio.sleep(0)
        return await effect(job)

    declared = kind(slots=3, **FAST)
    names = [f"{seed}-{n}" for n in range(25)]
    last = Process(database, (declared, handle), name="last")
    await last.put(*names)
    for life in range(3):  # one after the other: each is killed at a step of its own
        mortal = MortalDatabase(url, dies_at=rng.randrange(5, 120))
        await mortal.connect()
        async with Process(mortal, (declared, handle), name=f"mortal {life}").working():
            with suppress(TimeoutError):
                async with asyncio.timeout(0.4):
                    await mortal.dead.wait()
            mortal.die()
        await mortal.leave()
    async with last.working():
        await last.settled(30.0)
    done = await effects(last)
    assert max(done.values(), default=1) == 1
    ended = await outcomes(last)
    assert set(ended) <= {"done", "dead"}
    assert sum(ended.values()) == len(names)
    assert ended.get("done", 0) == len(done)
    dead = await last.rows("select attempts, max_attempts, payload->>'text' as text from dead_jobs")
    assert {row["text"] for row in dead} == set(names) - set(done)
    assert all(row["attempts"] == row["max_attempts"] for row in dead)


@pytest.mark.parametrize("keep_s", [3600.0, 0.0])  # without it the fenced delete goes with the BEGIN
async def test_of_two_holders_only_the_last_one_has_an_effect_however_late_the_first_is(
    database: Database, keep_s: float
) -> None:
    begun, go_on, held, tried = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    refused: list[BaseException] = []

    async def slow(job: Job[Note]) -> Outcome:
        begun.set()
        await go_on.wait()
        try:
            return await effect(job)
        except LeaseLostError as error:
            refused.append(error)
            raise
        finally:
            tried.set()

    async def last(job: Job[Note]) -> Outcome:
        held.set()
        await tried.wait()
        return await effect(job)

    declared = kind(slots=1, backoff=Backoff(0.001, 0.002), keep_s=keep_s)
    first, second = Process(database, (declared, slow), sweeps=False), Process(database, (declared, last))
    async with first.working():
        (job_id,) = await first.put("one")
        await asyncio.wait_for(begun.wait(), 10)
        await first.execute("update jobs set lease_until = now() - interval '1 second'")
        async with second.working():
            await second.sweeper.ask(Sweep())
            await asyncio.wait_for(held.wait(), 10)
            (lease_id,) = [row["lease_id"] for row in await second.rows("select lease_id from jobs")]
            go_on.set()
            await second.settled()
    assert len(refused) == 1
    assert await second.rows("select job_id, lease_id from job_effects") == [{"job_id": job_id, "lease_id": lease_id}]
    if keep_s:
        assert await second.rows("select outcome, attempts from finished_jobs") == [{"outcome": "done", "attempts": 2}]


async def test_a_holder_that_cannot_renew_stops_by_itself_before_its_lease_is_over(
    database: Database, url: str
) -> None:
    mortal = MortalDatabase(url)
    await mortal.connect()
    stopped: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    begun = asyncio.Event()

    async def hang(_job: Job[Note]) -> Outcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set_result(asyncio.get_running_loop().time())
        return Done()

    process = Process(mortal, (kind(lease_s=0.6), hang), sweeps=False)
    put = Process(database, (kind(), hang))
    async with process.working():
        await put.put("one")
        await asyncio.wait_for(begun.wait(), 10)
        mortal.thawed.clear()
        await asyncio.wait_for(asyncio.shield(stopped), 10)
        assert await put.value("select lease_until > now() - interval '10 seconds' from jobs")
        mortal.die()
        mortal.thawed.set()
    await mortal.leave()


async def test_a_job_longer_than_its_lease_is_renewed_and_not_given_away(database: Database) -> None:
    starts = 0

    async def long(job: Job[Note]) -> Outcome:
        nonlocal starts
        starts += 1
        await asyncio.sleep(1.5)
        return await effect(job)

    declared = kind(lease_s=0.9)
    one, two = Process(database, (declared, long)), Process(database, (declared, long))
    async with one.working(), two.working():
        await one.put("long")
        await one.settled()
    assert starts == 1
    assert await effects(one) == {"long": 1}


async def test_a_handler_past_its_time_is_cancelled_though_its_process_is_well(database: Database) -> None:
    ends: list[str] = []

    async def hang(_job: Job[Note]) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        return Done()

    process = Process(database, (kind(timeout_s=0.05, max_attempts=2, backoff=Backoff(0.001, 0.002)), hang))
    async with process.working():
        await process.put("hangs")
        await process.settled()
    assert ends == ["cancelled"] * 2
    assert await process.value("select error from dead_jobs") == "the attempt took too long"


async def test_a_stop_gives_back_what_it_has_in_hand_with_its_attempt(database: Database) -> None:
    begun = asyncio.Event()

    async def hang(_job: Job[Note]) -> Outcome:
        begun.set()
        await asyncio.Event().wait()
        return Done()

    process = Process(database, (kind(), hang))
    async with process.working():
        await process.put("one")
        await asyncio.wait_for(begun.wait(), 10)
    rows = await process.rows("select state, attempts, lost, postponed from jobs")
    assert rows == [{"state": "waiting", "attempts": 0, "lost": 0, "postponed": 1}]


async def test_a_poison_job_is_run_alone_and_its_neighbours_lose_one_attempt_at_most(
    database: Database, url: str
) -> None:
    company: list[int] = []
    lives: list[MortalDatabase] = []

    async def handle(job: Job[Note]) -> Outcome:
        if job.payload.text == "poison":
            company.append(len(lives[-1].runs) if lives else 0)  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)
            lives[-1].die()
            await asyncio.Event().wait()
        await asyncio.sleep(0.2)
        return await effect(job)

    declared = kind(slots=5, backoff=Backoff(0.001, 0.002), max_attempts=3)  # the test ends the leases
    last = Process(database, (declared, handle))
    await last.put("poison", *(f"neighbour {n}" for n in range(4)))
    for _ in range(3):
        mortal = MortalDatabase(url)
        await mortal.connect()
        process = Process(mortal, (declared, handle))
        lives.append(mortal)
        async with process.working():
            mortal.runs = process.worker.runs.by_id  # type: ignore[attr-defined]
            async with asyncio.timeout(15):
                await mortal.dead.wait()
        await mortal.leave()
        await last.execute("update jobs set lease_until = now() - interval '1 second' where state = 'running'")
        await last.sweeper_once()
    async with last.working():
        await last.settled()
    assert company == [5, 1, 1]
    assert await last.rows("select payload->>'text' as text from dead_jobs") == [{"text": "poison"}]
    done = await last.rows("select attempts from finished_jobs where outcome = 'done'")
    assert len(done) == 4
    assert all(row["attempts"] <= 2 for row in done)


async def test_a_database_that_is_away_costs_a_job_no_attempt(database: Database) -> None:
    tries = 0

    async def handle(job: Job[Note]) -> Outcome:
        nonlocal tries
        tries += 1
        if tries <= 3:
            async with Database("postgresql://nowhere").acquire():
                pass
        return await effect(job)

    process = Process(database, (kind(max_attempts=1), handle))
    async with process.working():
        await process.put("one")
        while tries < 3:
            await asyncio.sleep(0.01)
            await process.execute("update jobs set run_at = now() where state = 'waiting'")
            process.queue.ring()
        await process.execute("update jobs set run_at = now() where state = 'waiting'")
        process.queue.ring()
        await process.settled()
    assert await effects(process) == {"one": 1}
    assert await process.value("select attempts from finished_jobs") == 1


async def test_one_that_says_a_server_is_away_keeps_its_kind_back_but_for_one_probe(database: Database) -> None:
    started: list[str] = []
    here = False

    async def handle(job: Job[Note]) -> Outcome:
        started.append(job.payload.text)
        return Done() if here else Later(0.0, "the server is away", away=True)

    process = Process(database, (kind(slots=2), handle))
    await process.put(*(str(n) for n in range(20)))
    async with process.working():
        async with asyncio.timeout(10):
            while len(started) < 3:  # noqa: ASYNC110 - the first two, and the probe after a second
                await asyncio.sleep(0.01)
        assert len(started) == 3
        here = True
        await process.settled(30.0)
    assert await outcomes(process) == {"done": 20}


async def test_jobs_of_a_kind_or_a_version_that_is_not_known_are_left_alone(database: Database) -> None:
    process = Process(database, (kind(), effect))
    newer = Process(database, (kind(version=2), effect))
    other = Process(database, (kind(name="other"), effect))
    await newer.put("newer")
    await newer.put("newer and waiting", priority=Priority.SECURITY)
    await other.put("other")
    await process.put("mine")
    await process.execute(
        "update jobs set state = 'running', lease_id = 1, lease_until = now() - interval '1 hour', attempts = 1 "
        "where payload->>'text' in ('newer', 'other')"
    )
    async with process.working():
        async with asyncio.timeout(10):
            while await process.value("select count(*) from jobs") > 3:  # noqa: ASYNC110 - it is in PostgreSQL
                await asyncio.sleep(0.01)
        assert await process.sweeper.ask(Sweep()) == 0
    assert await effects(process) == {"mine": 1}
    assert [row["lost"] for row in await process.rows("select lost from jobs")] == [0, 0, 0]


async def test_the_jobs_of_a_holder_that_is_proved_dead_do_not_wait_for_their_leases_and_their_attempt_stays_spent(
    database: Database,
) -> None:
    declared = kind(lease_s=3600.0, backoff=Backoff(0.001, 0.002))
    process = Process(database, (declared, effect), sweeps=False)
    await process.put("of the dead", "of the living")
    await process.execute(
        "update jobs set state = 'running', attempts = 1, lease_id = nextval('job_leases'), "
        "lease_until = now() + interval '1 hour', worker = payload->>'text'"
    )
    for is_gone, swept in ((lambda _: False, 0), (lambda name: name == "of the dead", 1)):
        sweeper = JobSweeper(database, process.queue, [declared], process.counts, is_gone=is_gone)
        assert await sweeper.sweep(Sweep()) == swept
    async with process.working():
        async with asyncio.timeout(10):
            while await process.value("select count(*) from jobs") > 1:  # noqa: ASYNC110 - it is in PostgreSQL
                await asyncio.sleep(0.005)
    assert await effects(process) == {"of the dead": 1}
    assert await process.value("select attempts from finished_jobs") == 2
    assert await process.rows("select worker, attempts, lost from jobs") == [
        {"worker": "of the living", "attempts": 1, "lost": 0}
    ]
