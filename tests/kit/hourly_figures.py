"""Activities for tests of statistics, and questions about them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from callboard.actors.analytics.events import ActivityRecorded
from callboard.actors.analytics.hourly_run import CloseHours
from callboard.actors.analytics.hourly_sums import hour_of
from callboard.actors.analytics.statistics import GetStats, GetTopSubjects, HourlyMetric, TopSubject
from kit.domain import Domain

HOUR = hour_of(datetime.now(UTC)) - timedelta(days=30)  # long ended, whenever the tests run
EARLY, LATE = HOUR - timedelta(days=10), HOUR + timedelta(days=10)


def view(value: float = 1, *, at: datetime = HOUR, metric: str = "page_views", subject: str = "s") -> ActivityRecorded:
    """An activity."""
    return ActivityRecorded(metric, value, subject, at)


async def stats(domain: Domain, since: datetime = EARLY, until: datetime = LATE, **filters: Any) -> list[HourlyMetric]:
    """The hours of a period."""
    return await domain.statistics.ask(GetStats(since, until, **({"limit": 100} | filters)))


async def top(
    domain: Domain, metric: str = "page_views", since: datetime = EARLY, until: datetime = LATE, **options: Any
) -> list[TopSubject]:
    """The first subjects of a metric."""
    return await domain.statistics.ask(GetTopSubjects(metric, since, until, **({"limit": 10} | options)))


async def close_hours(domain: Domain) -> None:
    """An hourly run, to its end."""
    async with domain.database.transaction() as connection:
        await domain.jobs.enqueue(connection, CloseHours())
    await domain.work()
