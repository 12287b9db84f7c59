"""The job queue: a job exists with its cause, is run by one holder, and comes to one end."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from kit.jobs import Note, Process, kind

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_claims import Claims
from callboard.actors.infrastructure.job_kinds import Done, Job, Later, Outcome, Permanent, Priority, Retry
from callboard.actors.infrastructure.job_queue import UnknownJobKindError


async def done(_job: Job[Note]) -> Outcome:
    return Done()


async def test_a_committed_cause_has_its_job_and_one_that_is_rolled_back_has_none(database: Database) -> None:
    seen: list[str] = []

    async def handle(job: Job[Note]) -> Outcome:
        seen.append(job.payload.text)
        return None

    process = Process(database, (kind(), handle))
    async with process.working():
        with suppress(ZeroDivisionError):
            async with database.transaction() as connection:
                await process.queue.enqueue(connection, Note("rolled back"))
                raise ZeroDivisionError
        await process.put("committed")
        await process.settled()
    assert seen == ["committed"]
    assert await process.rows("select outcome, attempts from finished_jobs") == [{"outcome": "done", "attempts": 1}]


async def test_a_job_starts_at_once_though_nobody_polls(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.infrastructure.job_worker.POLL_S", 3600.0)
    monkeypatch.setattr("callboard.actors.infrastructure.job_worker.BUSY_POLL_S", 3600.0)
    monkeypatch.setattr("callboard.actors.infrastructure.job_worker.QUIET_POLL_S", 3600.0)
    process = Process(database, (kind(), done))
    async with process.working():
        for _ in range(3):
            await process.put("now")
            await process.settled(5.0)


async def test_a_job_that_becomes_due_between_a_claim_and_the_look_after_it_is_not_taken_for_a_paused_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("POLL_S", "BUSY_POLL_S", "QUIET_POLL_S"):
        monkeypatch.setattr(f"callboard.actors.infrastructure.job_worker.{name}", 3600.0)
    process = Process(database, (kind(), done))
    look = Claims.look

    async def look_late(claims: Claims, kinds: Any) -> Any:
        while await process.value("select bool_or(run_at > clock_timestamp()) from jobs"):
            pass
        return await look(claims, kinds)

    await process.put("soon", delay_s=1.0)
    monkeypatch.setattr(Claims, "look", look_late)
    async with process.working():
        await process.settled(6.0)


@pytest.mark.parametrize(
    ("answers", "end", "attempts"),
    [
        ([Retry("no")] * 3, "dead", 3),
        ([Retry("no"), Done()], "done", 2),
        ([Permanent("never")], "dead", 1),
        ([Later(0.01, "busy")] * 5 + [Done()], "done", 1),
        ([ValueError("odd")] * 3, "dead", 3),
        ([KeyError("a kind's permanent error")], "dead", 1),
    ],
)
async def test_a_job_ends_as_its_handler_answers(
    database: Database, answers: list[Any], end: str, attempts: int
) -> None:
    left = list(answers)

    async def handle(_job: Job[Note]) -> Outcome:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    process = Process(database, (kind(max_attempts=3, permanent=(KeyError,)), handle))
    async with process.working():
        await process.put("x")
        await process.settled()
    assert left == []
    assert await process.rows("select outcome, attempts from finished_jobs") == [{"outcome": end, "attempts": attempts}]
    dead = await process.rows("select payload, attempts, error, reason from dead_jobs")
    assert len(dead) == (end == "dead")


async def test_the_effect_and_the_end_of_a_job_are_one_transaction(database: Database) -> None:
    tries = 0

    async def handle(job: Job[Note]) -> Outcome:
        nonlocal tries
        tries += 1
        async with job.finish() as connection:
            await connection.execute("insert into feature_flags (name) values ('enable_new_ui')")
            if tries == 1:
                raise ZeroDivisionError
        return None

    process = Process(database, (kind(), handle))
    async with process.working():
        await process.put("x")
        await process.settled()
    assert tries == 2
    assert await process.value("select count(*) from feature_flags") == 1


async def test_a_payload_of_no_kind_or_over_its_bound_or_outside_of_a_transaction_is_refused(
    database: Database,
) -> None:
    process = Process(database, (kind(), done))
    async with database.transaction() as connection:
        with pytest.raises(UnknownJobKindError):
            await process.queue.enqueue(connection, Later(1, ""))
        with pytest.raises(ValueError, match="16384"):
            await process.queue.enqueue(connection, Note("x" * 20_000))
    async with database.acquire() as connection:
        with pytest.raises(RuntimeError):
            await process.queue.enqueue(connection, Note())


async def test_a_thousand_jobs_are_run_once_each_by_several_processes(database: Database) -> None:
    seen: list[str] = []

    async def handle(job: Job[Note]) -> Outcome:
        seen.append(job.payload.text)
        return None

    processes = [Process(database, (kind(), handle), name=f"p{n}") for n in range(3)]
    async with processes[0].working(), processes[1].working(), processes[2].working():
        async with database.transaction() as connection:
            await processes[0].queue.enqueue_many(connection, [Note(str(n)) for n in range(1000)])
        await processes[0].settled()
    assert sorted(map(int, seen)) == list(range(1000))


async def test_urgent_jobs_start_before_normal_ones_and_those_before_bulk(database: Database) -> None:
    order: list[str] = []

    async def handle(job: Job[Note]) -> Outcome:
        order.append(job.payload.text)
        return None

    process = Process(database, (kind(slots=1), handle))
    for priority in (Priority.BULK, Priority.NORMAL, Priority.SECURITY):
        await process.put(*[priority.name] * 2, priority=priority)
    async with process.working():
        await process.settled()
    assert order == ["SECURITY"] * 2 + ["NORMAL"] * 2 + ["BULK"] * 2


async def test_a_job_that_comes_while_a_claim_is_on_its_way_waits_for_no_poll(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.actors.infrastructure.job_worker.POLL_S", 3600.0)
    monkeypatch.setattr("callboard.actors.infrastructure.job_worker.BUSY_POLL_S", 3600.0)
    process, look, overtaken = Process(database, (kind(), done)), Claims._run, asyncio.Event()

    async def slow(claims: Claims, *asked: Any, **options: Any) -> list[Any]:
        rows = await look(claims, *asked, **options)
        if not overtaken.is_set():  # it has looked, and has not said yet that there is nothing
            await process.queue.submit(database, Note("late"))
            overtaken.set()
        return rows

    monkeypatch.setattr(Claims, "_run", slow)
    async with process.working():
        await overtaken.wait()
        await process.settled(60.0)  # less than a poll


async def test_a_job_without_a_cause_is_one_statement_and_starts_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.actors.infrastructure.job_worker.POLL_S", 3600.0)
    monkeypatch.setattr("callboard.actors.infrastructure.job_worker.BUSY_POLL_S", 3600.0)
    process = Process(database, (kind(), done))
    async with process.working():
        for _ in range(3):
            assert await process.queue.submit(database, Note("now"))
            await process.settled(60.0)  # less than a poll
