"""The hourly run: a job that moves the counters of past hours to the closed statistics, in small steps.

The schedule makes one job for each hour, whichever process looks first, and one run is in progress at a time. Its lease
is the lock, and fences each step: a run that has lost it writes nothing more. A run works on whatever is due: late
events of any hour, and hours that earlier runs missed or did not finish. What one does not finish in ten minutes is
left to the next.
"""

import time
from datetime import datetime

import msgspec

from callboard.actors.errors import SERVER_TIMEOUT, Problem
from callboard.actors.infrastructure.job_kinds import Job, JobKind, Later, Outcome, on_job
from callboard.actors.infrastructure.schedules import Schedule
from callboard.runtime import Actor
from callboard.streams.adaptive_batch import AdaptiveBatch
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

MAX_RUN_S = 600.0
MAX_BATCH = 2_000  # rows of one step
SLOW_DELAY_S = 30.0


class CloseHours(msgspec.Struct, frozen=True):
    """Close all hours that have ended. `due_at` is the hour of the run."""

    due_at: datetime | None = None


CLOSE_HOURS = JobKind(
    "close_hours", CloseHours, slots=1, max_running=1, timeout_s=MAX_RUN_S, deadline_s=MAX_RUN_S, alarm_s=7200.0
)
HOURLY_RUN = Schedule("close_hours", CloseHours(), "0 * * * *")


class HourlyRun(Actor[Job[CloseHours]]):
    """Closes hours."""

    def __init__(self) -> None:
        self.batch = AdaptiveBatch(MAX_BATCH)

    @on_job
    async def close(self, job: Job[CloseHours]) -> Outcome:
        """Move rows until no past hour has one. Events that are being counted now are left to the next run."""
        done = int(job.cursor or 0)
        while True:
            size, began = self.batch.size, time.monotonic()
            try:
                async with job.step() as step:
                    moved = int(await QUERIES.close_rows(step.connection, limit=size))
                    done += moved
                    step.report(done, cursor=done)
            except Problem as problem:
                if problem.code is not SERVER_TIMEOUT:
                    raise
                if not self.batch.timed_out():
                    return Later(SLOW_DELAY_S, "even one row takes too long")
                continue
            if moved < size:
                return None
            self.batch.succeeded(moved, time.monotonic() - began)
