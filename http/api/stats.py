"""Statistics over HTTP."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from msgspec import Meta

from callboard.actors.analytics.hourly_sums import ALL_SUBJECTS, hour_of
from callboard.actors.analytics.refs import AnalyticsRefs
from callboard.actors.analytics.statistics import GetStats, GetTopSubjects, HourlyMetric, TopSubject
from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.http.server.request import HttpRequest, Query, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.http.server.validation import check_period
from callboard.streams.event_types import UtcDatetime

ROWS = 1000  # the most items of a response: 41 days of one metric by the hour
TOP_ROWS = 100
HOUR = timedelta(hours=1)
DEFAULT_SPAN = timedelta(days=7)
MAX_SPAN = timedelta(days=366)
MAX_TOP_SPAN = timedelta(days=31)  # bounds the rows that one response sums up


class TimeRange(Query, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """The hours that begin at `from` or later and before `to`. The default is the last seven days, with the running
    hour.
    """

    since: UtcDatetime | None = None
    until: UtcDatetime | None = None

    def bounds(self, now: datetime, max_span: timedelta) -> tuple[datetime, datetime]:
        """Return the period. Raises Problem(REQUEST_INVALID) if it is empty or longer than `max_span`."""
        until = self.until or hour_of(now) + HOUR
        since = self.since or until - DEFAULT_SPAN
        check_period(since, until)
        if until - since > max_span:
            fault = FieldError("from", f"must be {max_span.days} days before to at most")
            raise Problem(REQUEST_INVALID, details=(fault,))
        return since, until


Metric = Annotated[str, Meta(min_length=1, max_length=100)]


class HoursQuery(TimeRange, frozen=True, kw_only=True):
    """At most 366 days, of all metrics or one, for all subjects or one."""

    metric: Metric | None = None
    subject_id: Annotated[str, Meta(max_length=200)] = ALL_SUBJECTS


class TopQuery(TimeRange, frozen=True, kw_only=True):
    """At most 31 days of a metric, by the sums of its subjects or the numbers of their events."""

    metric: Metric
    by: Literal["sum", "count"] = "sum"
    limit: Annotated[int, Meta(ge=1, le=TOP_ROWS)] = 10


async def read(request: HttpRequest[None, HoursQuery, AnalyticsRefs]) -> Reply[list[HourlyMetric]]:
    """Read statistics by metric and hour, newest first."""
    query = request.query
    since, until = query.bounds(request.refs.now(), MAX_SPAN)
    question = GetStats(since, until, ROWS, metric=query.metric, subject_id=query.subject_id)
    return Reply(await request.refs.statistics.ask(question))


async def top(request: HttpRequest[None, TopQuery, AnalyticsRefs]) -> Reply[list[TopSubject]]:
    """Read the subjects with the largest values of a metric."""
    query = request.query
    since, until = query.bounds(request.refs.now(), MAX_TOP_SPAN)
    question = GetTopSubjects(query.metric, since, until, query.limit, query.by)
    return Reply(await request.refs.statistics.ask(question))


def _route(path: str, handler: Any, summary: str) -> Route[AnalyticsRefs]:
    return Route("GET", path, handler, summary=summary, tag="stats", access=Access.EDITOR)


ROUTES = Routes(
    AnalyticsRefs,
    _route("/stats", read, "Read statistics by the hour"),
    _route("/stats/top", top, "Read the subjects with the largest values"),
)
