"""Statistics: queries of closed hours and live counters together, so the running hour is included.

Closed hours are cached in Redis with their generation, which each change of them increments in its transaction. The
generation is read beside the live counters, in one statement: a cached value of another generation is not used. So
nobody has to delete keys, and no result is stale or counts twice, with Redis and without.
"""

from datetime import datetime
from hashlib import sha256
from math import isinf
from typing import Any, Literal

import msgspec
from redis.exceptions import ResponseError

from callboard.actors.analytics.hourly_sums import ALL_SUBJECTS, Sums
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.redis import CacheAwayError, RedisClient
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

CACHE_TTL_S = 300
TOP_STATEMENT = {"sum": QUERIES.top_by_sum, "count": QUERIES.top_by_count}


class HourlyMetric(msgspec.Struct, frozen=True):
    """A metric's value in one hour, for all subjects or for the requested subject.

    `min` and `max` are null in hours that an earlier release counted.
    """

    metric: str
    hour: UtcDatetime
    sum: float
    avg: float
    count: int
    min: float | None
    max: float | None


class TopSubject(msgspec.Struct, frozen=True):
    """A metric's value for one subject in the requested period."""

    subject_id: str
    sum: float
    avg: float
    count: int
    min: float | None
    max: float | None


class GetStats(Request[list[HourlyMetric]], frozen=True):
    """List hours from `since` up to, not including, `until`, newest first, at most `limit` rows."""

    since: datetime
    until: datetime
    limit: int
    metric: str | None = None
    subject_id: str = ALL_SUBJECTS


class GetTopSubjects(Request[list[TopSubject]], frozen=True):
    """List the subjects with the largest sums, or counts, of a metric in the hours from `since` up to `until`."""

    metric: str
    since: datetime
    until: datetime
    limit: int
    by: Literal["sum", "count"] = "sum"


class CachedHour(msgspec.Struct, array_like=True, frozen=True):
    """One closed hour of a metric."""

    metric: str
    hour: datetime
    sums: Sums


class CachedHours(msgspec.Struct, frozen=True):
    """The closed hours of a query, as of a generation."""

    generation: int
    hours: list[CachedHour]


class Statistics(Actor[GetStats | GetTopSubjects]):
    """Answers queries."""

    def __init__(self, database: Database, cache: RedisClient) -> None:
        self.database = database
        self.cache = cache

    @on(GetStats)
    async def hours(self, message: GetStats) -> list[HourlyMetric]:
        """Add live counters to closed hours."""
        key = self.cache.keys.key("stats", sha256(msgspec.json.encode(message)).hexdigest()[:32], "hours")
        cached = await self._cached(key)
        generation, closed, live = await self._read(message, with_closed=cached is None)
        if cached is not None and cached.generation == generation:
            closed = cached.hours
        else:
            if cached is not None:
                generation, closed, live = await self._read(message, with_closed=True)
            await self._keep(key, CachedHours(generation, closed))
        found: dict[tuple[datetime, str], Sums] = {}
        for each in (*closed, *live):
            found.setdefault((each.hour, each.metric), Sums()).merge(each.sums)
        newest = sorted(found, key=lambda place: (-place[0].timestamp(), place[1]))[: message.limit]
        return [HourlyMetric(metric, hour, **_values(found[hour, metric])) for hour, metric in newest]

    async def _read(self, message: GetStats, *, with_closed: bool) -> tuple[int, list[CachedHour], list[CachedHour]]:
        """Read the generation, the closed hours if they are asked for, and the live ones, as of one moment."""
        async with self.database.acquire() as connection:
            rows = [
                row
                async for row in QUERIES.hours(
                    connection,
                    with_closed=with_closed,
                    since=message.since,
                    until=message.until,
                    metric=message.metric,
                    subject_id=message.subject_id,
                    limit=message.limit,
                )
            ]
        hours = [(row["is_live"], CachedHour(row["metric"], row["hour"], _sums(row))) for row in rows if row["metric"]]
        closed, live = ([each for is_live, each in hours if is_live is wanted] for wanted in (False, True))
        return rows[0]["generation"], closed, live

    async def _cached(self, key: str) -> CachedHours | None:
        try:
            text = await self.cache.get(key)
            return None if text is None else msgspec.json.decode(text, type=CachedHours)
        except (CacheAwayError, ResponseError, msgspec.MsgspecError):  # as if it were not there
            return None

    async def _keep(self, key: str, hours: CachedHours) -> None:
        try:
            await self.cache.send("SET", key, msgspec.json.encode(hours), "EX", CACHE_TTL_S)
        except (CacheAwayError, ResponseError):  # the client has logged it
            return

    @on(GetTopSubjects)
    async def top(self, message: GetTopSubjects) -> list[TopSubject]:
        """Add both tables up: a subject that leads may do so by live counters alone."""
        async with self.database.acquire() as connection:
            rows = TOP_STATEMENT[message.by](
                connection, metric=message.metric, since=message.since, until=message.until, limit=message.limit
            )
            return [TopSubject(row["subject_id"], **_values(_sums(row))) async for row in rows]


def _sums(row: Any) -> Sums:
    return Sums(row["sum"], row["count"], row["min"], row["max"])


def _values(sums: Sums) -> dict[str, Any]:
    # Python divides: where a quotient is too small for a float, PostgreSQL raises an error and Python gives 0.
    return {
        "sum": sums.sum,
        "avg": sums.sum / sums.count,
        "count": sums.count,
        "min": None if isinf(sums.min) else sums.min,
        "max": None if isinf(sums.max) else sums.max,
    }
