"""Statistics over HTTP."""

from datetime import timedelta
from typing import Annotated

from msgspec import Meta

from callboard.actors.analytics.aggregator import GetStats, HourlyMetric
from callboard.actors.analytics.refs import AnalyticsRefs
from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.http.server.request import HttpRequest, Query, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.streams.event_types import UtcDatetime

ROWS = 1000  # the most items of a response: 41 days of one metric by the hour
DEFAULT_SPAN = timedelta(days=7)
MAX_SPAN = timedelta(days=366)  # bounds the rows that one response sums up


class TimeRange(Query, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """The period, `from` up to, not including, `to`: at most 366 days. The default is the last seven days, with the
    running hour.
    """

    metric: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    subject_id: Annotated[str, Meta(max_length=200)] | None = None
    since: UtcDatetime | None = None
    until: UtcDatetime | None = None


async def read(request: HttpRequest[None, TimeRange, AnalyticsRefs]) -> Reply[list[HourlyMetric]]:
    """Read statistics by metric and hour, newest first."""
    query = request.query
    until = query.until or request.refs.now() + timedelta(hours=1)
    since = query.since or until - DEFAULT_SPAN
    if since >= until:
        raise Problem(REQUEST_INVALID, details=(FieldError("from", "must be before to"),))
    if until - since > MAX_SPAN:
        raise Problem(REQUEST_INVALID, details=(FieldError("from", f"must be {MAX_SPAN.days} days before to at most"),))
    rows = await request.refs.stats.ask(GetStats(since, until, ROWS, metric=query.metric, subject_id=query.subject_id))
    return Reply(rows)


ROUTES = Routes(
    AnalyticsRefs,
    Route("GET", "/stats", read, summary="Read statistics by the hour", tag="stats", access=Access.EDITOR),
)
