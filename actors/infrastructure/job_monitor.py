"""The monitor: reads the queue at intervals, for metrics and for /ready. No decision depends on it."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_admin import MAX_COUNT, QUERIES
from callboard.actors.infrastructure.job_kinds import JobKind
from callboard.actors.infrastructure.job_loops import DATABASE_ERRORS, Trouble
from callboard.actors.infrastructure.retention import RetentionRule, oldest
from callboard.runtime import Actor, Request, on

POLL_INTERVAL_S = 10.0
HEALTH_EVERY = 3  # reads
RULES_EVERY = 30  # reads; the age of rows to be purged changes slowly
UNCLAIMED_S = 600.0  # how long a job of an unknown kind may wait before it is reported

log = logging.getLogger(__name__)


class KindDepth(msgspec.Struct, frozen=True):
    """The number of jobs of a kind. Counts end at 10,001; `oldest_s` is the age of the oldest due job, or 0."""

    waiting: int = 0
    blocked: int = 0
    running: int = 0
    dead: int = 0
    oldest_s: float = 0.0
    unclaimed: bool = False


class JobDepths:
    """The depths of the queues at the last look. Each process has its own; `kinds` is empty before the first look."""

    def __init__(self) -> None:
        self.kinds: dict[str, KindDepth] = {}
        self.alarms: dict[str, float] = {}
        self.retention: dict[str, float] = {}
        self.dead_tuples = 0
        self.oldest_snapshot_s = 0.0

    async def check(self) -> None:
        """Raise Problem, which names the kinds, if jobs have been due for longer than their kind allows."""
        late = [
            f"{name} for {depth.oldest_s:.0f} s"
            for name, depth in sorted(self.kinds.items())
            if depth.oldest_s > (UNCLAIMED_S if depth.unclaimed else self.alarms.get(name, UNCLAIMED_S))
        ]
        if late:
            raise Problem(SERVER_UNAVAILABLE, f"jobs wait: {', '.join(late)}")


class LookAtJobs(Request[None], frozen=True):
    """Read now."""


class JobMonitor(Actor[LookAtJobs]):
    """Reads every ten seconds, at the ends of indexes."""

    def __init__(
        self,
        database: Database,
        kinds: Sequence[JobKind[Any]],
        depths: JobDepths,
        retention: Sequence[RetentionRule] = (),
    ) -> None:
        self.database = database
        self.depths = depths
        self.retention = retention
        self.names = [kind.name for kind in kinds]
        self._looks = 0
        self._trouble = Trouble(log, "the depths of the job queue cannot be read")
        depths.alarms = {kind.name: kind.alarm_s for kind in kinds}

    async def on_start(self) -> None:
        """Start to read."""
        self.every(POLL_INTERVAL_S, LookAtJobs())

    @on(LookAtJobs)
    async def look(self, _message: LookAtJobs) -> None:
        """Read the depths of the queues; if that fails, the last known depths stay."""
        if self.database.unavailable.is_set():
            return
        try:
            async with self.database.acquire() as connection:
                await self._look(connection)
            self._trouble.end()
        except DATABASE_ERRORS as error:
            self._trouble.tell(error)

    async def _look(self, connection: Any) -> None:
        seen = {
            row["kind"]: KindDepth(row["waiting"], row["blocked"], row["running"], row["dead"], row["oldest_s"])
            async for row in QUERIES.depths(connection, kinds=self.names, most=MAX_COUNT)
        }
        async for row in QUERIES.unknown_kinds(connection, kinds=self.names, most=MAX_COUNT):
            seen[row["kind"]] = KindDepth(row["waiting"], oldest_s=row["oldest_s"] or 0.0, unclaimed=True)
        self.depths.kinds = seen
        if self._looks % HEALTH_EVERY == 0:
            health = await QUERIES.table_health(connection)
            self.depths.dead_tuples, self.depths.oldest_snapshot_s = health["dead_tuples"], health["oldest_snapshot_s"]
        if self._looks % RULES_EVERY == 0:
            self.depths.retention = await oldest(connection, self.retention)
        self._looks += 1
