"""What a handler is given and may do: its deadline, hooks, progress, groups; and the door for requests from outside."""

from pathlib import Path

import pytest
from kit.jobs import Note, Process, effect, effects, kind, outcomes

from callboard.actors.errors import Problem
from callboard.actors.infrastructure import job_queue
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Done, Job, LeaseLostError, Outcome, Retry


async def test_past_its_deadline_a_job_is_not_started_and_its_hook_runs_in_the_transaction_of_its_end(
    database: Database,
) -> None:
    async def expired(connection: object, ended: object) -> None:
        await connection.execute("insert into job_effects values ($1, 0, 'expired')", ended.job_id)  # type: ignore[attr-defined]

    process = Process(database, (kind(on_expired=expired), effect))
    await process.put("late", deadline_s=-1.0)
    await process.put("in time", deadline_s=60.0)
    async with process.working():
        await process.settled()
    assert await effects(process) == {"expired": 1, "in time": 1}
    assert await outcomes(process) == {"expired": 1, "done": 1}


async def test_the_hook_of_a_dead_job_is_in_its_transaction_and_one_that_raises_holds_up_nothing(
    database: Database,
) -> None:
    async def dead(connection: object, ended: object) -> None:
        await connection.execute("insert into job_effects values ($1, 0, 'dead')", ended.job_id)  # type: ignore[attr-defined]
        if ended.payload.text == "bad":  # type: ignore[attr-defined]
            raise ZeroDivisionError

    async def fail(_job: Job[Note]) -> Outcome:
        return Retry("no", delay_s=0.0)

    process = Process(database, (kind(on_dead=dead, max_attempts=2), fail))
    await process.put("good", "bad")
    async with process.working():
        await process.settled()
    assert await process.value("select count(*) from dead_jobs") == 2
    assert await effects(process) == {"dead": 1}


async def test_progress_is_where_the_next_attempt_begins(database: Database) -> None:
    cursors: list[object] = []

    async def handle(job: Job[Note]) -> Outcome:
        cursors.append(job.cursor)
        await job.progress(len(cursors), 3, cursor=[len(cursors)])
        await job.progress(len(cursors), 3, cursor=[len(cursors), "late"])
        return Done() if len(cursors) == 3 else Retry("again", delay_s=0.0)

    process = Process(database, (kind(), handle))
    async with process.working():
        await process.put("one")
        await process.settled()
    assert cursors == [None, [1, "late"], [2, "late"]]


async def test_a_confirmed_job_is_still_held(database: Database) -> None:
    answers: list[str] = []

    async def handle(job: Job[Note]) -> Outcome:
        await job.confirm()
        answers.append("held")
        await process.execute("update jobs set lease_id = nextval('job_leases')")
        try:
            await job.confirm()
        except LeaseLostError:
            answers.append("lost")
        await process.execute("delete from jobs")
        return Done()

    process = Process(database, (kind(), handle))
    async with process.working():
        await process.put("one")
        await process.settled()
    assert answers == ["held", "lost"]


async def test_a_group_shares_a_transaction_and_is_done_again_one_by_one_when_it_fails(database: Database) -> None:
    sizes: list[int] = []

    async def handle(group: object) -> Outcome:
        jobs = group.jobs  # type: ignore[attr-defined]
        sizes.append(len(jobs))
        async with group.finish() as (connection, held):  # type: ignore[attr-defined]
            for job in jobs:
                assert job.job_id in held
                await connection.execute(
                    "insert into job_effects values ($1, $2, $3)", job.job_id, job.lease_id, job.payload.text
                )
                if job.payload.text == "7":
                    raise ZeroDivisionError
        return None

    process = Process(database, (kind(group=10, slots=1, max_attempts=1), handle))
    async with database.transaction() as connection:
        await process.queue.enqueue_many(connection, [Note(str(n)) for n in range(10)])
    async with process.working():
        await process.settled()
    assert sizes == [10] + [1] * 10
    assert await effects(process) == {str(n): 1 for n in range(10) if n != 7}
    assert await outcomes(process) == {"done": 9, "dead": 1}


async def test_no_module_of_the_queue_knows_the_time_of_the_process() -> None:
    folder = Path(job_queue.__file__).parent
    for path in [*folder.glob("job_*.py"), folder / "schedules.py"]:
        text = path.read_text()
        assert "datetime.now" not in text, path
        assert "time.time" not in text, path


async def test_requests_from_outside_are_refused_when_too_many_wait(database: Database) -> None:
    declared = kind(max_waiting=3)
    process = Process(database, (declared, effect))
    for n in range(3):
        async with database.transaction() as connection:
            await process.queue.admit(connection, declared)
            await process.queue.enqueue(connection, Note(str(n)))
    with pytest.raises(Problem):
        async with database.transaction() as connection:
            await process.queue.admit(connection, declared)
