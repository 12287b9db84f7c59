"""The event that analytics reads: activity, of any producer."""

from typing import Annotated

from msgspec import Meta

from callboard.runtime import Message
from callboard.streams.event_types import UtcDatetime, declare_event
from callboard.streams.topics import declare_topic
from callboard.streams.visible_text import visible

ACTIVITY = declare_topic(
    "activity.v1", "subject id", "activity that producers report: page views, reads, any metric with a value"
)

MetricName = Annotated[str, visible(1, 100, examples=("page_views",))]
SubjectId = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=200)]

# Wide enough for any metric, and an hour's sum of them still fits PostgreSQL's double precision.
_VALUE_LIMIT = 1e100
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


class ActivityRecorded(Message, frozen=True):
    """An activity: `metric` (page_views) of `subject_id` (a content id) grew by `value`."""

    metric: MetricName
    value: Annotated[float, Meta(ge=-_VALUE_LIMIT, le=_VALUE_LIMIT)]
    subject_id: SubjectId
    occurred_at: UtcDatetime

    def __post_init__(self) -> None:
        """Raise ValueError for a time that is outside of the calendar in UTC."""
        if not _FIRST_YEAR <= self.occurred_at.year <= _LAST_YEAR:
            raise ValueError(f"occurred_at is not between the years {_FIRST_YEAR} and {_LAST_YEAR}")


ACTIVITY_EVENTS = (
    declare_event("activity.recorded", ActivityRecorded, "subject_id", ACTIVITY, open_to_producers=True),
)
