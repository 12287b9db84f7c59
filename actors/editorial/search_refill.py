"""Rebuild the search columns of articles that an earlier release wrote, by a job that works in small batches.

Until its turn an article is found as before; see `search_content` in content_search.sql.
"""

import time

import msgspec

from callboard.actors.errors import SERVER_TIMEOUT, Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Job, JobKind, Later, Outcome, Permanent, Priority, on_job
from callboard.runtime import Actor
from callboard.streams.adaptive_batch import AdaptiveBatch
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

MAX_BATCH = 50  # articles in one statement: an edit of one of them waits for it
TURN_S = 60.0  # the duration of one attempt
LOCKED_DELAY_S = 5.0


class RefillSearch(msgspec.Struct, frozen=True):
    """Rebuild the search of all outdated articles. A migration enqueues this job."""


REFILL_SEARCH = JobKind(
    "search_refill",
    RefillSearch,
    priority=Priority.BULK,
    slots=1,
    max_running=1,
    timeout_s=2 * TURN_S,
    max_attempts=20,
    alarm_s=6 * 3600.0,
)


class SearchRefill(Actor[Job[RefillSearch]]):
    """Refills the search of outdated articles, the newest publications first."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.batch = AdaptiveBatch(MAX_BATCH)

    @on_job
    async def refill(self, job: Job[RefillSearch]) -> Outcome:
        """Work until no article is outdated; after a minute, continue in a later attempt."""
        end, done = time.monotonic() + TURN_S, int(job.cursor or 0)
        while time.monotonic() < end:
            count = await self._refill_batch()
            if count is None and not self.batch.timed_out():
                return Permanent("one article takes too long")
            if count == 0:
                async with self.database.acquire() as connection:
                    outdated = await QUERIES.search_is_outdated(connection)
                return Later(LOCKED_DELAY_S, "the remaining articles are being edited") if outdated else None
            done += count or 0
            await job.progress(done, cursor=done)
        return Later(0.0, "more rows remain")

    async def _refill_batch(self) -> int | None:
        """Refill one batch and return its size; None if it took too long."""
        began = time.monotonic()
        try:
            async with self.database.acquire() as connection:
                count = int(await QUERIES.refill_search(connection, limit=self.batch.size))
        except Problem as problem:
            if problem.code is SERVER_TIMEOUT:
                return None
            raise
        self.batch.succeeded(count, time.monotonic() - began)
        return count
