"""The department analytics: statistics by the hour."""

from collections import Counter
from typing import Annotated

from msgspec import Meta, Struct

from callboard.actors.analytics import live_counters
from callboard.actors.analytics.aggregator import Aggregator
from callboard.actors.analytics.events import ACTIVITY, ACTIVITY_EVENTS, ActivityRecorded
from callboard.actors.analytics.hourly_run import CLOSE_HOURS, HOURLY_RUN, HourlyRun
from callboard.actors.analytics.live_counters import StatBounds
from callboard.actors.analytics.refs import AnalyticsRefs
from callboard.actors.analytics.statistics import Statistics
from callboard.actors.department import Branch, Child, Department
from callboard.actors.figures import Figure, by_label
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.infrastructure.retention import Retain, query_rule
from callboard.actors.settings import Count, Days, Settings
from callboard.runtime import Props, pool, worker
from callboard.streams.consumers import Consumer

BOUNDS = StatBounds()


class AnalyticsSettings(Settings, frozen=True, kw_only=True):
    """The bounds of what producers may have counted."""

    stats_max_metrics: Annotated[Count, Meta(description="the maximum of metrics that are counted")] = BOUNDS.metrics
    stats_max_metrics_per_source: Annotated[
        Count, Meta(description="the maximum of metrics that one source brings")
    ] = BOUNDS.metrics_of_source
    stats_max_subjects: Annotated[
        Count, Meta(description="the maximum of subjects of a metric in an hour; more count for its total alone")
    ] = BOUNDS.subjects
    stats_retention_days: Annotated[Days, Meta(description="days to keep statistics; older events are not counted")] = (
        BOUNDS.days
    )


class AnalyticsNeeds(Struct, frozen=True):
    """The needs of analytics."""

    infrastructure: Infrastructure


def build(settings: AnalyticsSettings, needs: AnalyticsNeeds) -> Branch[AnalyticsRefs]:
    """Construct the actors."""
    shared = needs.infrastructure
    bounds = StatBounds(
        metrics=settings.stats_max_metrics,
        metrics_of_source=settings.stats_max_metrics_per_source,
        subjects=settings.stats_max_subjects,
        days=settings.stats_retention_days,
    )
    refused: Counter[str] = Counter()
    aggregator = worker("aggregator", Props(Aggregator, shared.database, bounds, refused))
    statistics = pool("statistics", Props(Statistics, shared.database, shared.cache), size=2)
    return Branch(
        refs=AnalyticsRefs(statistics, shared.now),
        children=(Child(aggregator), Child(statistics)),
        jobs=(job_pool(CLOSE_HOURS, Props(HourlyRun)),),
        consumers=(Consumer("aggregator", (ACTIVITY,), (ActivityRecorded,), aggregator),),
        figures=(
            Figure(
                "callboard_activity_refused",
                "Events of producers that are not counted in statistics, by reason (see streams/README.md).",
                by_label(refused),
                ("reason",),
            ),
        ),
    )


ANALYTICS = Department(
    name="analytics",
    settings=AnalyticsSettings,
    needs=AnalyticsNeeds,
    offers=AnalyticsRefs,
    build=build,
    events=ACTIVITY_EVENTS,
    jobs=(CLOSE_HOURS,),
    schedules=(HOURLY_RUN,),
    retention=(
        Retain("statistics", "aggregated_stats", "hour", BOUNDS.days, "stats_retention_days"),
        query_rule("stat_metrics", live_counters.QUERIES.purge_metrics),
    ),
)
