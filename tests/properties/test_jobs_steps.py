"""Long jobs in steps: each step is committed with its progress, once, by the holder of the job alone."""

import asyncio
import random
from contextlib import suppress

import pytest
from kit.jobs import Note, Process, effect, effects, kind, outcomes
from kit.mortal import MortalDatabase

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Backoff, Job, Outcome
from callboard.actors.infrastructure.job_sweeper import Sweep

STEPS = 12
FAST = {"lease_s": 0.6, "backoff": Backoff(0.001, 0.002), "max_attempts": 20}


async def walk(job: Job[Note]) -> Outcome:
    """Do every step that is left."""
    for number in range(int(job.cursor or 0), STEPS):
        async with job.step() as step:
            await step.connection.execute(
                "insert into job_effects values ($1, $2, $3)", job.job_id, job.lease_id, f"{job.payload.text}.{number}"
            )
            step.report(number + 1, STEPS, cursor=number + 1)
    return await effect(job)


@pytest.mark.parametrize("seed", range(4))
async def test_wherever_a_process_dies_each_step_is_done_once(database: Database, url: str, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - a seed that can be repeated
    declared = kind(slots=2, **FAST)
    last = Process(database, (declared, walk), name="last")
    names = [f"{seed}-{n}" for n in range(3)]
    await last.put(*names)
    for life in range(3):
        mortal = MortalDatabase(url, dies_at=rng.randrange(10, 90))
        await mortal.connect()
        async with Process(mortal, (declared, walk), name=f"mortal {life}").working():
            with suppress(TimeoutError):
                async with asyncio.timeout(0.4):
                    await mortal.dead.wait()
            mortal.die()
        await mortal.leave()
    async with last.working():
        await last.settled(30.0)
    every = {f"{name}.{number}" for name in names for number in range(STEPS)} | set(names)
    assert await effects(last) == dict.fromkeys(every, 1)
    assert await outcomes(last) == {"done": len(names)}


async def test_a_holder_that_was_frozen_past_its_lease_does_not_take_another_step(database: Database) -> None:
    begun, go_on, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def frozen(job: Job[Note]) -> Outcome:
        begun.set()
        await go_on.wait()
        try:
            async with job.step() as step:  # it reports nothing: that would be refused by itself
                await step.connection.execute(
                    "insert into job_effects values ($1, $2, 'frozen')", job.job_id, job.lease_id
                )
        finally:
            refused.set()
        return None

    async def other(job: Job[Note]) -> Outcome:
        go_on.set()
        await refused.wait()
        return await walk(job)

    declared = kind(slots=1, backoff=Backoff(0.001, 0.002))
    first, second = Process(database, (declared, frozen), sweeps=False), Process(database, (declared, other))
    async with first.working():
        await first.put("one")
        await asyncio.wait_for(begun.wait(), 10)
        await first.execute("update jobs set lease_until = now() - interval '1 second'")
        async with second.working():
            await second.sweeper.ask(Sweep())
            await second.settled()
    assert "frozen" not in await effects(second)


async def test_a_step_that_fails_leaves_neither_effect_nor_progress(database: Database) -> None:
    seen: list[object] = []

    async def stumble(job: Job[Note]) -> Outcome:
        seen.append(job.cursor)
        async with job.step() as step:
            await step.connection.execute("insert into job_effects values ($1, $2, 'one')", job.job_id, job.lease_id)
            step.report(1, 1, cursor="done")
            if len(seen) < 2:
                raise ZeroDivisionError
        return None

    process = Process(database, (kind(), stumble))
    async with process.working():
        await process.put("one")
        await process.settled()
    assert seen == [None, None]
    assert await effects(process) == {"one": 1}


async def test_a_job_whose_cause_names_no_deadline_has_that_of_its_kind(database: Database) -> None:
    process = Process(database, (kind(deadline_s=600.0), effect))
    await process.put("usual")
    await process.put("own", deadline_s=60.0)
    rows = await process.rows(
        "select payload->>'text' as text, extract(epoch from deadline - created_at)::int as s from jobs order by job_id"
    )
    assert rows == [{"text": "usual", "s": 600}, {"text": "own", "s": 60}]
