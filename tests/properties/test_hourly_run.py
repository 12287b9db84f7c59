"""Hourly statistics: any order, repetition and lateness of events, with runs that die or freeze anywhere, gives the
totals of a plain sum.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kit.domain import consume, envelope
from kit.jobs import Process, effect
from kit.mortal import MortalDatabase

from callboard.actors.analytics.aggregator import Aggregator
from callboard.actors.analytics.events import ActivityRecorded
from callboard.actors.analytics.hourly_run import CLOSE_HOURS, CloseHours, HourlyRun
from callboard.actors.analytics.hourly_sums import aggregate, hour_of
from callboard.actors.analytics.live_counters import StatBounds
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Job, LeaseLostError, Raised
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.job_runs import RunningJob, RunningJobs
from callboard.streams.event_types import Envelope

CLAIM = """
    update jobs set state = 'running', lease_id = nextval('job_leases'), lease_until = now() - interval '1 second',
        attempts = attempts + 1
    where job_id = (select min(job_id) from jobs where state = 'waiting')
    returning job_id, lease_id, attempts, max_attempts, created_at, deadline, progress, order_key, priority, traceparent
"""
EVERYTHING = """
    select metric, subject_id, hour, sum(sum) as sum, sum(count)::int as count, min(min) as min, max(max) as max
    from (select metric, subject_id, hour, sum, count, min, max from aggregated_stats
          union all select metric, subject_id, hour, sum, count, min, max from live_stats) as s
    group by metric, subject_id, hour
"""
SMALL_STEP = 3


async def claim(database: Database, runs_on: Database | None = None) -> Job[CloseHours] | None:
    """The job of an hourly run, held; None if another holds it. It works on `runs_on`."""
    queue = JobQueue([CLOSE_HOURS])
    async with database.transaction() as connection:
        if not await connection.fetchval("select count(*) from jobs"):
            await queue.enqueue(connection, CloseHours())
        row = await connection.fetchrow(CLAIM)
    if row is None:
        return None
    runs = RunningJobs(runs_on or database, runs_on or database)
    job: Job[CloseHours] = runs.make(row, CloseHours())
    runs.add(RunningJob(job, CLOSE_HOURS, row, 0.0, 0.0))
    return job


async def run(job: Job[CloseHours]) -> Any:
    """Work on a job in small steps, and end it as its worker does; its outcome."""
    hourly = HourlyRun()
    hourly.batch.size = hourly.batch._most = SMALL_STEP
    outcome = await hourly.close(job)
    if outcome is None:
        with suppress(LeaseLostError, Problem):
            async with job.finish():
                pass
    return outcome


def some_events(rng: random.Random, count: int) -> list[Envelope]:
    """Events of the last hours and of the running one, whose values add up exactly in any order."""
    now = datetime.now(UTC)
    hours = [now, *(hour_of(now) - timedelta(hours=back, minutes=-30) for back in (1, 2, 26))]
    return [
        envelope(
            ActivityRecorded(
                rng.choice(["views", "reads"]), rng.randrange(-400, 400) / 4, rng.choice("abc"), rng.choice(hours)
            )
        )
        for _ in range(count)
    ]


async def check_totals(database: Database, delivered: Sequence[Envelope]) -> None:
    """Each sum is that of the events that were delivered at least once."""
    once = {each.event_id: each.event for each in delivered}
    wanted = aggregate(event for event in once.values() if isinstance(event, ActivityRecorded))
    async with database.acquire() as connection:
        rows = await connection.fetch(EVERYTHING)
    found = {(row["hour"], row["metric"], row["subject_id"]): row for row in rows}
    assert set(found) == set(wanted)
    for key, sums in wanted.items():
        row = found[key]
        assert (row["sum"], row["count"], row["min"], row["max"]) == (sums.sum, sums.count, sums.min, sums.max), key


@pytest.mark.parametrize("seed", range(8))
async def test_any_order_repetition_and_lateness_with_runs_that_die_anywhere_gives_the_plain_sums(
    database: Database, url: str, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 - a seed that can be repeated
    aggregator, events = Aggregator(database, StatBounds()), some_events(rng, 60)
    delivered: list[Envelope] = []
    for _ in range(8):
        batches = [rng.choices(events, k=rng.randrange(1, 12)) for _ in range(3)]
        mortal = MortalDatabase(url, dies_at=rng.randrange(1, 25))
        await mortal.connect()
        job = await claim(database, rng.choice([database, mortal]))
        assert job is not None
        with suppress(Problem):
            await asyncio.gather(run(job), *(aggregator.consume(consume(*batch)) for batch in batches))
        mortal.die()
        await mortal.leave()
        delivered += [each for batch in batches for each in batch]
        await check_totals(database, delivered)
        async with database.acquire() as connection:  # the sweeper's work
            await connection.execute(
                "update jobs set state = 'waiting', lease_id = null, lease_until = null where state = 'running'"
            )
    await aggregator.consume(consume(*events, *delivered))
    last = await claim(database)
    assert last is not None
    assert await run(last) is None
    await check_totals(database, events)
    async with database.acquire() as connection:
        assert await connection.fetchval("select count(distinct hour) from live_stats") <= 1  # the running one


async def test_a_holder_that_freezes_anywhere_and_thaws_after_its_lease_changes_no_total(
    database: Database, url: str
) -> None:
    rng = random.Random(7)  # noqa: S311 - the same each time
    aggregator = Aggregator(database, StatBounds())
    sweeping = Process(database, (CLOSE_HOURS, effect))
    delivered: list[Envelope] = []
    refused = 0
    for freezes_at in range(1, 24, 2):
        events = some_events(rng, 12)
        await aggregator.consume(consume(*events))
        delivered += events
        freezing = FreezingDatabase(url, freezes_at)
        await freezing.connect()
        first = await claim(database, freezing)
        assert first is not None
        running = asyncio.ensure_future(run(first))
        running.add_done_callback(lambda _ended, frozen=freezing.frozen: frozen.set())
        await freezing.frozen.wait()
        await sweeping.sweeper_once()
        second = await claim(database)
        if second is not None:  # else the frozen one holds the lock of the row: nobody can take it
            await run(second)
        await check_totals(database, delivered)
        freezing.thawed.set()
        outcome = await running
        refused += isinstance(outcome, Raised) and isinstance(outcome.error, LeaseLostError)
        await freezing.leave()
        await check_totals(database, delivered)
        async with database.acquire() as connection:
            await connection.execute("delete from jobs")
    assert refused >= 3


class FreezingDatabase(MortalDatabase):
    """A handle of PostgreSQL that freezes at a step, as its process does at SIGSTOP."""

    def __init__(self, url: str, freezes_at: int) -> None:
        super().__init__(url)
        self.freezes_at = freezes_at
        self.frozen = asyncio.Event()

    async def step(self) -> None:
        if self.steps == self.freezes_at - 1 and not self.frozen.is_set():
            self.thawed.clear()
            self.frozen.set()
        await super().step()
