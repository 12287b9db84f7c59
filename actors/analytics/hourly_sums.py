"""Sums of values by hour, metric and subject: pure arithmetic, in any order and grouping of the events."""

from collections.abc import Iterable
from datetime import UTC, datetime
from math import inf

import msgspec

from callboard.actors.analytics.events import ActivityRecorded

ALL_SUBJECTS = ""  # the subject of a total; an event of this subject counts for the total alone

Key = tuple[datetime, str, str]  # hour, metric, subject: the order in which rows are locked


class Sums(msgspec.Struct):
    """The values of a key, added up."""

    sum: float = 0.0
    count: int = 0
    min: float = inf
    max: float = -inf

    def add(self, value: float) -> None:
        """Add one value."""
        self.merge(Sums(value, 1, value, value))

    def merge(self, other: "Sums") -> None:
        """Add the values of another."""
        self.sum += other.sum
        self.count += other.count
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)


def hour_of(moment: datetime) -> datetime:
    """Return the beginning of the hour, in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def aggregate(activities: Iterable[ActivityRecorded]) -> dict[Key, Sums]:
    """Add values up for each subject and for the total, in the order of the keys."""
    sums: dict[Key, Sums] = {}
    for activity in activities:
        hour = hour_of(activity.occurred_at)
        for subject_id in {ALL_SUBJECTS, activity.subject_id}:
            sums.setdefault((hour, activity.metric, subject_id), Sums()).add(activity.value)
    return dict(sorted(sums.items()))
