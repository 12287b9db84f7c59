"""The writer: stores the outcomes of attempts, done ones together, and keeps those that the database cannot
take now.
"""

import asyncio
import logging
import random
from typing import Any

import msgspec

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import JITTER, Done, EndedJob, Later, LeaseLostError, Permanent, Retry
from callboard.actors.infrastructure.job_loops import AGAIN_S, DATABASE_ERRORS, Trouble
from callboard.actors.infrastructure.job_outcomes import Ending, JobOutcomes, Reasons, complete, failure
from callboard.actors.infrastructure.job_runs import RunningJob, RunningJobs, save_progress

GATHER_S = 0.005  # how long completions are collected
MAX_WRITE = 500
WRITES_AT_ONCE = 4
MAX_UNWRITTEN = 2_000  # outcomes that wait to be written; above it nothing is claimed

log = logging.getLogger(__name__)


class Unwritten(msgspec.Struct, frozen=True, eq=False):
    """An ended attempt and its outcome."""

    run: RunningJob
    outcome: Any


class JobWriter:
    """Writes outcomes, and rings `freed` if an order key may have been freed."""

    def __init__(self, database: Database, runs: RunningJobs, counts: JobCounts, rng: random.Random) -> None:
        self.database = database
        self.runs = runs
        self.counts = counts
        self.rng = rng
        self.outcomes = JobOutcomes(database, Reasons())
        self.freed = asyncio.Event()
        self._due = asyncio.Event()
        self._done: list[RunningJob] = []
        self._others: list[Unwritten] = []
        self._trouble = Trouble(log, "outcomes of jobs cannot be written")

    @property
    def full(self) -> bool:
        """Whether too many outcomes wait to be written for another claim."""
        return len(self._done) + len(self._others) >= MAX_UNWRITTEN

    def write(self, run: RunningJob, outcome: Any) -> None:
        """Queue an outcome: one of job_kinds, an EndedJob that has expired, an error, or `cancelled`."""
        if outcome is None or isinstance(outcome, Done):
            self._done.append(run)
        else:
            self._others.append(Unwritten(run, outcome))
        self._due.set()

    def hurry(self) -> None:
        """Write at once: no other running job could be collected."""
        self._due.set()

    async def run(self) -> None:
        """Write outcomes until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self.runs.by_id and len(self._done) < MAX_WRITE:
                await asyncio.sleep(GATHER_S)
            await self._write_some()

    async def write_all(self) -> None:
        """Write all outcomes at once."""
        while self._done or self._others:
            await self._write_some()

    async def _write_some(self) -> None:
        """Write some outcomes. Those that the database cannot take now are tried again while their leases are
        trusted.
        """
        done, self._done = self._done[:MAX_WRITE], self._done[MAX_WRITE:]
        others, self._others = self._others[:WRITES_AT_ONCE], self._others[WRITES_AT_ONCE:]
        try:
            wrote = await asyncio.gather(self._write_done(done), *(self._write_other(each) for each in others))
        except BaseException:  # interrupted: the next writer repeats it, and the fence refuses a second write
            self._done[:0], self._others[:0] = done, others
            raise
        if not all(wrote):
            await asyncio.sleep(AGAIN_S)
        if self._done or self._others:
            self._due.set()

    async def _write_done(self, runs: list[RunningJob]) -> bool:
        if not runs:
            return True
        plain = all(run.order_key is None for run in runs)
        try:
            async with self.database.acquire() if plain else self.database.transaction() as connection:
                held, free_keys = await complete(connection, runs)
                await free_keys()
        except DATABASE_ERRORS as error:
            self._trouble.tell(error)
            self._done[:0] = self._still_ours(runs)
            return False
        for run in runs:
            self.counts.end(run.kind.name, "done" if run.job.job_id in held else "stale")
        if not plain:
            self.freed.set()
        return True

    async def _write_other(self, each: Unwritten) -> bool:
        run = each.run
        try:
            outcome = await self._record(run, each.outcome)
        except DATABASE_ERRORS as error:
            self._trouble.tell(error)
            if self._still_ours([run]):
                self._others.append(each)
            return False
        self.counts.end(run.kind.name, outcome)
        if run.order_key is not None:
            self.freed.set()
        return True

    def _still_ours(self, runs: list[RunningJob]) -> list[RunningJob]:
        now = asyncio.get_running_loop().time()
        for run in runs:
            if run.trusted_until <= now:
                self.counts.end(run.kind.name, "stale")
        return [run for run in runs if run.trusted_until > now]

    async def _record(self, run: RunningJob, outcome: Any) -> str:
        """Write one outcome; return its name for the counters. Raises Problem."""
        kind, job = run.kind, run.job
        if isinstance(outcome, LeaseLostError):
            return "stale"
        if isinstance(outcome, EndedJob):
            return await self.outcomes.expire(kind, job.job_id, job.lease_id, outcome)
        if outcome == "cancelled":
            return await self.outcomes.cancel(kind, job.job_id, job.lease_id)
        if run.unsaved is not None:
            try:
                async with self.database.acquire() as connection:
                    await save_progress(connection, run)
            except LeaseLostError:
                return "stale"
        return await self.outcomes.end_attempt(kind, job.job_id, job.lease_id, self._ending(run, outcome))

    def _ending(self, run: RunningJob, outcome: Any) -> Ending:
        kind, job = run.kind, run.job
        if isinstance(outcome, Later):
            named = "released" if run.stopped == "stopping" else "later"
            delay_s = outcome.delay_s * (1 + JITTER * self.rng.random())
            return Ending(named, failure(outcome.reason), delay_s)
        why = failure(outcome.reason if isinstance(outcome, Retry | Permanent) else outcome)
        if isinstance(outcome, Permanent) or job.last_attempt:
            return Ending("dead", why)
        asked_s = outcome.delay_s if isinstance(outcome, Retry) else None
        return Ending("retry", why, kind.backoff.delay_s(job.attempt, self.rng) if asked_s is None else asked_s)
