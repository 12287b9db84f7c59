"""The sweeper: takes up what a process that died, froze or missed something has left behind. Every process sweeps."""

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosql
import asyncpg

from callboard.actors.database import Database
from callboard.actors.errors import Problem
from callboard.actors.job_counts import JobCounts
from callboard.actors.job_kinds import JobKind
from callboard.actors.job_outcomes import Failure, Reasons, bury, end, failure, free_key, supersede
from callboard.actors.job_queue import JobQueue
from callboard.runtime import Actor, Request, on

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("job_sweeper.sql"), "asyncpg")

MAX_SWEPT = 100  # rows at a time
VACUUM_AFTER = 20_000  # ends of jobs in this process
VACUUM_TIMEOUT_S = 60.0
LOST = Failure("lease lost", "the lease was lost: its process died, or could not reach the database")

log = logging.getLogger(__name__)


class Sweep(Request[int], frozen=True):
    """Look after lost leases and stuck order keys; the reply is how many rows were acted on."""


class JobSweeper(Actor[Sweep]):
    """Sweeps every third of the shortest lease; rows that another sweeper holds are passed over."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        kinds: Sequence[JobKind[Any]],
        counts: JobCounts,
        rng: random.Random | None = None,
    ) -> None:
        self.database = database
        self.queue = queue
        self.kinds = {kind.name: kind for kind in kinds}
        self.counts = counts
        self.rng = rng or random.Random()  # noqa: S311 - jitter
        self.reasons = Reasons()
        self._vacuumed_at = 0
        self._said: str | None = None

    async def on_start(self) -> None:
        """Begin the rounds."""
        if self.kinds:
            self.every(min(kind.lease_s for kind in self.kinds.values()) / 3, Sweep())

    @on(Sweep)
    async def sweep(self, _message: Sweep) -> int:
        """One batch after the other, until there is none."""
        if self.database.away.is_set():
            return 0
        swept = 0
        try:
            while count := await self._sweep_leases():
                swept += count
            swept += await self._free_keys()
            await self._vacuum()
            self._said = None
        except (Problem, asyncpg.PostgresError) as error:
            reason = failure(error).reason
            if reason != self._said and not isinstance(error, Problem):  # that the database is away it says itself
                log.warning("jobs cannot be swept: %s", reason)
            self._said = reason
        if swept:
            self.queue.ring()
        return swept

    async def _sweep_leases(self) -> int:
        """At most a batch of lost leases; how many of them were acted on. One row that cannot be stops no other."""
        swept = 0
        async with self.database.transaction() as connection:
            await QUERIES.wait_briefly(connection)
            rows = [
                row
                async for row in QUERIES.lost_leases(
                    connection,
                    kinds=list(self.kinds),
                    versions=[kind.version for kind in self.kinds.values()],
                    limit=MAX_SWEPT,
                )
            ]
            plain = [row for row in rows if not _needs_care(row)]
            if plain:
                swept += await self._lose(connection, plain)
            for row in rows:
                if _needs_care(row):
                    swept += await self._take_care(connection, row)
        for row in rows:
            self.counts.add(row["kind"], "lost")
        return swept if len(rows) == MAX_SWEPT else 0

    async def _lose(self, connection: Any, rows: Sequence[Any]) -> int:
        lost = QUERIES.lose(
            connection,
            job_ids=[row["job_id"] for row in rows],
            lease_ids=[row["lease_id"] for row in rows],
            delays_s=[self.kinds[row["kind"]].backoff.delay_s(row["attempts"], self.rng) for row in rows],
        )
        return len([row async for row in lost])

    async def _take_care(self, connection: Any, row: Any) -> int:
        """A row that may meet its twin, is to be cancelled, or has no attempt left: each in a savepoint of its own."""
        kind, job_id, lease_id = self.kinds[row["kind"]], row["job_id"], row["lease_id"]
        try:
            async with connection.transaction():
                if row["cancelled"]:
                    outcome = await end(connection, kind, job_id, lease_id, "cancelled")
                elif row["attempts"] >= row["max_attempts"]:
                    outcome = await bury(connection, kind, job_id, lease_id, LOST)
                    self.reasons.tell(kind.name, LOST.reason)
                else:
                    return await self._lose(connection, [row])
            self.counts.end(kind.name, outcome)
        except asyncpg.UniqueViolationError:
            async with connection.transaction():
                if not await supersede(connection, kind, job_id, lease_id, 0):
                    return 0
            self.counts.end(kind.name, "superseded")
        except asyncpg.LockNotAvailableError:  # a twin is being enqueued at this instant: the next sweep knows
            return 0
        return 1

    async def _free_keys(self) -> int:
        async with self.database.acquire() as connection:
            stuck = [
                (row["kind"], row["order_key"])
                async for row in QUERIES.stuck_keys(connection, kinds=list(self.kinds), limit=MAX_SWEPT)
            ]
        freed = 0
        for kind, key in stuck:
            async with self.database.transaction() as connection:
                freed += await free_key(connection, kind, key)
        return freed

    async def _vacuum(self) -> None:
        """Vacuum the table ourselves after many ends: autovacuum may look once a minute only."""
        ends = sum(sum(each.values()) for each in self.counts.outcomes.values())
        if ends - self._vacuumed_at < VACUUM_AFTER:
            return
        self._vacuumed_at = ends
        async with self.database.acquire() as connection:
            await connection.unlimit()
            # Another process's vacuum holds the lock: then there is nothing to do here.
            await connection.execute("vacuum (skip_locked) jobs", timeout=VACUUM_TIMEOUT_S)


def _needs_care(row: Any) -> bool:
    return row["cancelled"] or row["unique_key"] is not None or row["attempts"] >= row["max_attempts"]
