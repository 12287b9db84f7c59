"""The sweeper: recovers the jobs of processes that died, hung or missed something. Every process sweeps.

A lease ends at its time, or when its holder is proved dead: then nobody waits for the time.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import JobKind
from callboard.actors.infrastructure.job_loops import DATABASE_ERRORS, Trouble
from callboard.actors.infrastructure.job_outcomes import (
    Failure,
    Reasons,
    dead_letter,
    end,
    free_key,
    supersede,
)
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.runtime import Actor, Request, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

MAX_SWEPT = 100  # rows at a time
IDLE_S = 30.0  # if no kind names its lease
VACUUM_AFTER = 20_000  # ended jobs in this process
VACUUM_TIMEOUT_S = 60.0
LOST = Failure("lease lost", "the lease was lost: its process died or could not reach the database")

log = logging.getLogger(__name__)


class Sweep(Request[int], frozen=True):
    """Sweep lost leases and stuck order keys; the reply is the number of rows acted on."""


class JobSweeper(Actor[Sweep]):
    """Sweeps once the database is available, and then every third of the shortest lease. With nothing to do that is one
    statement. Rows locked by another sweeper are skipped. `is_gone` says whether the process of a holder's name is
    proved dead.
    """

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        kinds: Sequence[JobKind[Any]],
        counts: JobCounts,
        *,
        rng: random.Random | None = None,
        is_gone: Callable[[str], bool] = lambda _holder: False,
    ) -> None:
        self.database = database
        self.queue = queue
        self.kinds = {kind.name: kind for kind in kinds}
        self.counts = counts
        self.rng = rng or random.Random()  # noqa: S311 - jitter
        self.is_gone = is_gone
        self.reasons = Reasons()
        self._vacuumed_at = 0
        self._trouble = Trouble(log, "jobs cannot be swept")

    async def run(self) -> None:
        """Run the rounds until the actor stops."""
        every_s = min([kind.lease_s for kind in self.kinds.values()] or [IDLE_S]) / 3
        while True:
            await self.database.available.wait()
            await self.ref.tell(Sweep())
            await asyncio.sleep(every_s)

    @on(Sweep)
    async def sweep(self, _message: Sweep) -> int:
        """Sweep batch after batch, until there is none."""
        if self.database.unavailable.is_set():
            return 0
        swept = 0
        try:
            async with self.database.acquire() as connection:
                seen = await QUERIES.to_sweep(connection)
            gone = [holder for holder in seen["holders"] if self.is_gone(holder)]
            if seen["lapsed"] or gone:
                swept += await self._sweep_leases(gone)
            if seen["blocked"]:
                swept += await self._free_keys()
            await self._vacuum()
            self._trouble.end()
        except DATABASE_ERRORS as error:
            self._trouble.tell(error)
        if swept:
            self.queue.ring()
        return swept

    async def _sweep_leases(self, gone: Sequence[str]) -> int:
        """Sweep batches of lost leases while they are full and any row was acted on; return the number of rows."""
        swept = 0
        while True:
            found, acted = await self._sweep_batch(gone)
            swept += acted
            if found < MAX_SWEPT or not acted:
                return swept

    async def _sweep_batch(self, gone: Sequence[str]) -> tuple[int, int]:
        """Return how many rows were found, and how many were acted on. A row that fails stops no other."""
        acted = 0
        async with self.database.transaction() as connection:
            await QUERIES.wait_briefly(connection)
            rows = [
                row
                async for row in QUERIES.lost_leases(
                    connection,
                    kinds=list(self.kinds),
                    versions=[kind.version for kind in self.kinds.values()],
                    gone=gone,
                    limit=MAX_SWEPT,
                )
            ]
            plain = [row for row in rows if not _needs_care(row)]
            if plain:
                acted += await self._lose(connection, plain)
            for row in rows:
                if _needs_care(row):
                    acted += await self._take_care(connection, row)
        for row in rows:
            self.counts.add(row["kind"], "lost")
        return len(rows), acted

    async def _lose(self, connection: Any, rows: Sequence[Any]) -> int:
        lost = QUERIES.lose(
            connection,
            job_ids=[row["job_id"] for row in rows],
            lease_ids=[row["lease_id"] for row in rows],
            delays_s=[self.kinds[row["kind"]].backoff.delay_s(row["attempts"], self.rng) for row in rows],
        )
        return len([row async for row in lost])

    async def _take_care(self, connection: Any, row: Any) -> int:
        """Handle a row that may meet its twin, is to be cancelled, or has no attempt left: each in its own
        savepoint.
        """
        kind, job_id, lease_id = self.kinds[row["kind"]], row["job_id"], row["lease_id"]
        try:
            async with connection.transaction():
                if row["cancelled"]:
                    outcome = await end(connection, kind, job_id, lease_id, "cancelled")
                elif row["attempts"] >= row["max_attempts"]:
                    outcome = await dead_letter(connection, kind, job_id, lease_id, LOST)
                    self.reasons.tell(kind.name, LOST.reason)
                else:
                    return await self._lose(connection, [row])
            self.counts.end(kind.name, outcome)
        except asyncpg.UniqueViolationError:
            async with connection.transaction():
                if not await supersede(connection, kind, job_id, lease_id, 0):
                    return 0
            self.counts.end(kind.name, "superseded")
        except asyncpg.LockNotAvailableError:  # a twin is being enqueued at this moment: the next sweep will see it
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
        """Vacuum the table after many ends: autovacuum may run only once a minute."""
        ends = sum(sum(each.values()) for each in self.counts.outcomes.values())
        if ends - self._vacuumed_at < VACUUM_AFTER:
            return
        self._vacuumed_at = ends
        async with self.database.acquire() as connection:
            await connection.unlimit()
            # another process's vacuum holds the lock and does the work
            await connection.execute("vacuum (skip_locked) jobs", timeout=VACUUM_TIMEOUT_S)


def _needs_care(row: Any) -> bool:
    return row["cancelled"] or row["unique_key"] is not None or row["attempts"] >= row["max_attempts"]
