"""The department analytics: statistics by the hour."""

from msgspec import Struct

from callboard.actors.analytics.aggregator import Aggregator
from callboard.actors.analytics.events import ACTIVITY_EVENTS, ActivityRecorded
from callboard.actors.analytics.refs import AnalyticsRefs
from callboard.actors.department import Branch, Child, Department
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.settings import Settings
from callboard.runtime import Props, worker
from callboard.streams.consumers import Consumer
from callboard.streams.topics import ACTIVITY


class AnalyticsSettings(Settings, frozen=True, kw_only=True):
    """Analytics has no settings."""


class AnalyticsNeeds(Struct, frozen=True):
    """The needs of analytics."""

    infrastructure: Infrastructure


def build(_settings: AnalyticsSettings, needs: AnalyticsNeeds) -> Branch[AnalyticsRefs]:
    """Construct the actors."""
    aggregator = worker("aggregator", Props(Aggregator, needs.infrastructure.database))
    return Branch(
        refs=AnalyticsRefs(aggregator, needs.infrastructure.now),
        children=(Child(aggregator),),
        consumers=(Consumer("aggregator", (ACTIVITY,), (ActivityRecorded,), aggregator),),
    )


ANALYTICS = Department(
    name="analytics",
    settings=AnalyticsSettings,
    needs=AnalyticsNeeds,
    offers=AnalyticsRefs,
    build=build,
    events=ACTIVITY_EVENTS,
)
