"""Retention: purge jobs throw away what nobody will ask for again, a table each, a batch at a time, until done.

What has expired is refused at once, by its own query; when its row goes is only a matter of room. A schedule enqueues
one job an hour, which enqueues one for each rule.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from callboard.actors.errors import SERVER_TIMEOUT, Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Job, JobKind, Later, Outcome, Permanent, Priority, on_job
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.schedules import Schedule
from callboard.runtime import Actor

MIN_BATCH, MAX_BATCH = 10, 1_000  # rows a statement
TURN = 200  # statements in one attempt; then others of the kind have their turn

Purge = Callable[[Any, int], Awaitable[int]]  # with a connection and the most rows: how many it has deleted
Oldest = Callable[[Any], Awaitable[float | None]]  # for how many seconds the oldest row has been due


class RetentionRule(msgspec.Struct, frozen=True):
    """A table by itself: how a batch of it is purged, and how old what is left is."""

    name: str
    purge: Purge
    oldest: Oldest | None = None


class Retain(msgspec.Struct, frozen=True):
    """Rows of `table` are kept until `column` is `days` ago.

    The configuration may set other days; `setting` names the field of our department's settings that gives them. Raises
    ValueError for what is no name of a table and a column.
    """

    name: str
    table: str
    column: str
    days: int
    setting: str = ""

    def __post_init__(self) -> None:
        """Refuse what could be more than a name in SQL."""
        if not all(re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", each) for each in (self.table, self.column)):
            raise ValueError(f"{self.name} keeps rows of a table by a column, not of {self.table!r} by {self.column!r}")

    def rule(self) -> RetentionRule:
        """The rule that purges what is older."""
        table, column = self.table, self.column
        due = f"{column} < now() - make_interval(days => $1)"
        purge = (
            f"with gone as (delete from {table} where ctid in ("  # noqa: S608 - names, checked above
            f"select ctid from {table} where {due} order by {column} limit $2 for update skip locked) returning 1) "
            "select count(*) from gone"
        )
        age = f"select extract(epoch from now() - make_interval(days => $1) - min({column}))::float8 from {table}"  # noqa: S608 - the same

        async def run(connection: Any, limit: int) -> int:
            return int(await connection.fetchval(purge, self.days, limit))

        async def oldest_row(connection: Any) -> float | None:
            seconds: float | None = await connection.fetchval(age, self.days)
            return seconds

        return RetentionRule(self.name, run, oldest_row)


class PurgeExpired(msgspec.Struct, frozen=True):
    """Purge the table of one rule; without a rule, enqueue a job for each."""

    rule: str = ""


PURGE_EXPIRED = JobKind(
    "retention", PurgeExpired, priority=Priority.BULK, slots=2, timeout_s=300.0, max_attempts=20, alarm_s=6 * 3600.0
)
HOURLY = Schedule("retention", PurgeExpired(), "0 * * * *")


def query_rule(
    name: str, purge: Callable[..., Awaitable[Any]], oldest: Oldest | None = None, **given: Any
) -> RetentionRule:
    """Return the rule of a table that a query purges. The query takes `limit` and `given`, and returns the number of
    deleted rows.
    """

    async def run(connection: Any, limit: int) -> int:
        return int(await purge(connection, limit=limit, **given))

    return RetentionRule(name, run, oldest)


class Retention(Actor[Job[PurgeExpired]]):
    """Runs purges. Two of one rule at once do no harm: each passes over the rows of the other."""

    def __init__(self, database: Database, queue: JobQueue, retention: Sequence[RetentionRule]) -> None:
        self.database = database
        self.queue = queue
        self.rules = {rule.name: rule for rule in retention}
        self.batches: dict[str, int] = {}

    @on_job
    async def purge(self, job: Job[PurgeExpired]) -> Outcome:
        """One rule, until nothing is left; after so many batches the rest is another turn's."""
        if not job.payload.rule:
            await self._enqueue_all(job)
            return None
        rule = self.rules.get(job.payload.rule)
        if rule is None:
            return Permanent("there is no such rule")
        deleted = 0
        for _ in range(TURN):
            batch = self.batches.get(rule.name, MAX_BATCH)
            count = await self._purge_once(rule, batch)
            if count is None:
                if batch == MIN_BATCH:
                    return Later(60.0, "even a small batch takes too long")
                self.batches[rule.name] = max(MIN_BATCH, batch // 2)
                continue
            self.batches[rule.name] = min(MAX_BATCH, batch * 2)
            deleted += count
            await job.progress(deleted)
            if count < batch:
                return None
        return Later(0.0, "more rows remain")

    async def _purge_once(self, rule: RetentionRule, batch: int) -> int | None:
        """How many rows are gone; None when it took too long."""
        try:
            async with self.database.acquire() as connection:
                return await rule.purge(connection, batch)
        except Problem as problem:
            if problem.code is SERVER_TIMEOUT:
                return None
            raise

    async def _enqueue_all(self, job: Job[PurgeExpired]) -> None:
        async with job.finish() as connection:
            await self.queue.enqueue_many(
                connection, [PurgeExpired(name) for name in self.rules], unique=list(self.rules)
            )


async def oldest(connection: Any, retention: Sequence[RetentionRule]) -> dict[str, float]:
    """For how many seconds the oldest row of each rule's table has been due; 0 when none is."""
    return {rule.name: max(0.0, await rule.oldest(connection) or 0.0) for rule in retention if rule.oldest is not None}
