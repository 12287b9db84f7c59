"""The offers of analytics to other departments and to its routes."""

from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from callboard.actors.analytics.statistics import GetStats, GetTopSubjects
from callboard.runtime import Ref


class AnalyticsRefs(Struct, frozen=True):
    """The reference to statistics, and the clock of their hours."""

    statistics: Ref[GetStats | GetTopSubjects]
    now: Callable[[], datetime]
