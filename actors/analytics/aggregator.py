"""The aggregator: adds up producers' metrics by metric, subject and hour. The running hour is included."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from callboard.actors.analytics.events import ActivityRecorded
from callboard.actors.infrastructure.database import Database, retried
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import ConsumeEvents, UtcDatetime
from callboard.streams.outbox import deduplicate
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

CONSUMER = "aggregator"

Sum = tuple[float, int]  # the sum of the values, and their number


class HourlyMetric(msgspec.Struct, frozen=True):
    """A metric's value in one hour, for all subjects or for the requested subject."""

    metric: str
    hour: UtcDatetime
    sum: float
    avg: float
    count: int


class GetStats(Request[list[HourlyMetric]], frozen=True):
    """List hours from `since` up to, not including, `until`, newest first, at most `limit` rows."""

    since: datetime
    until: datetime
    limit: int
    metric: str | None = None
    subject_id: str | None = None


def aggregate(activities: Sequence[ActivityRecorded]) -> dict[tuple[str, str, datetime], Sum]:
    """Sum and count the values by (metric, subject, hour in UTC), in the order of these keys."""
    sums: dict[tuple[str, str, datetime], Sum] = {}
    for activity in activities:
        hour = activity.occurred_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        key = (activity.metric, activity.subject_id, hour)
        total, count = sums.get(key, (0.0, 0))
        sums[key] = (total + activity.value, count + 1)
    return dict(sorted(sums.items()))


class Aggregator(Actor[ConsumeEvents | GetStats]):
    """Adds up each event once, however often it is delivered, and answers queries of the sums."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(ConsumeEvents)
    @retried
    async def consume(self, message: ConsumeEvents) -> None:
        """Note the events and add up their values in one transaction."""
        async with self.database.transaction() as connection:
            activities = [
                envelope.event
                for envelope in await deduplicate(connection, CONSUMER, message.envelopes)
                if isinstance(envelope.event, ActivityRecorded)
            ]
            sums = aggregate(activities)
            if sums:
                await QUERIES.add_up(
                    connection,
                    metrics=[metric for metric, _, _ in sums],
                    subject_ids=[subject_id for _, subject_id, _ in sums],
                    hours=[hour for _, _, hour in sums],
                    sums=[total for total, _ in sums.values()],
                    counts=[count for _, count in sums.values()],
                )

    @on(GetStats)
    async def stats(self, message: GetStats) -> list[HourlyMetric]:
        """Read the sums."""
        async with self.database.acquire() as connection:
            rows = QUERIES.stats(
                connection,
                since=message.since,
                until=message.until,
                metric=message.metric,
                subject_id=message.subject_id,
                limit=message.limit,
            )
            # Python divides: where a quotient is too small for a float, PostgreSQL raises an error and Python gives 0.
            found = [(row["metric"], row["hour"], row["sum"], row["count"]) async for row in rows]
        return [HourlyMetric(metric, hour, total, total / count, count) for metric, hour, total, count in found]
