"""Live counters: the sums of events since the last hourly run, within bounds on names, subjects and times.

An event beyond a bound is not stored. It is counted, as an event of our own metric `callboard.refused_events` with the
reason as its subject.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from callboard.actors.analytics.events import ActivityRecorded
from callboard.actors.analytics.hourly_sums import ALL_SUBJECTS, Key, Sums, aggregate, hour_of
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

OUR_PREFIX = "callboard."
REFUSED_EVENTS = f"{OUR_PREFIX}refused_events"
MAX_AHEAD = timedelta(hours=1)  # by which a producer's clock may be ahead of the database's


class Reason(StrEnum):
    """Why an event is not counted; with `TOO_MANY_SUBJECTS` it counts for the total alone."""

    RESERVED_NAME = "reserved_name"
    TOO_OLD = "too_old"
    IN_THE_FUTURE = "in_the_future"
    TOO_MANY_METRICS = "too_many_metrics"
    TOO_MANY_SUBJECTS = "too_many_subjects"


class StatBounds(msgspec.Struct, frozen=True):
    """The number of metrics, of metrics that one source may bring, and of subjects of a metric in an hour; and the
    days for which statistics are kept.
    """

    metrics: int = 1_000
    metrics_of_source: int = 100
    subjects: int = 10_000
    days: int = 1_830


class SourcedActivity(msgspec.Struct, frozen=True):
    """An activity, and the producer that reports it."""

    source: str
    activity: ActivityRecorded


Refused = Counter[tuple[Reason, str]]  # how many events, by reason and by source, or by metric for its subjects


async def count_events(connection: Any, bounds: StatBounds, events: Sequence[SourcedActivity]) -> Refused:
    """Add events to the live counters, in the caller's transaction; return what is refused."""
    examined = await QUERIES.examine(connection, metrics=sorted({each.activity.metric for each in events}))
    now: datetime = examined["now"]
    refused: Refused = Counter()
    fit: list[SourcedActivity] = []
    for each in events:
        reason = _misfit(each.activity, now, bounds)
        if reason is None:
            fit.append(each)
        else:
            refused[reason, each.source] += 1
    known = await _admit(connection, bounds, set(examined["known"]), fit)
    refused.update((Reason.TOO_MANY_METRICS, each.source) for each in fit if each.activity.metric not in known)
    refused += await _add(connection, bounds, aggregate(each.activity for each in fit if each.activity.metric in known))
    if refused:
        await _add(connection, bounds, _sums_of(refused, hour_of(now)))
    return refused


def _misfit(activity: ActivityRecorded, now: datetime, bounds: StatBounds) -> Reason | None:
    if activity.metric.startswith(OUR_PREFIX):
        return Reason.RESERVED_NAME
    if activity.occurred_at > now + MAX_AHEAD:
        return Reason.IN_THE_FUTURE
    return Reason.TOO_OLD if activity.occurred_at < now - timedelta(days=bounds.days) else None


async def _admit(connection: Any, bounds: StatBounds, known: set[str], events: Sequence[SourcedActivity]) -> set[str]:
    """Add new metrics while there is room; return all known ones."""
    new: dict[str, str] = {}
    for each in events:
        if each.activity.metric not in known:
            new.setdefault(each.activity.metric, each.source)
    if not new:
        return known
    await QUERIES.lock_metrics(connection)  # the next statement sees what earlier holders have added
    rows = QUERIES.admit(
        connection,
        metrics=list(new),
        sources=list(new.values()),
        most=bounds.metrics,
        most_of_source=bounds.metrics_of_source,
    )
    known |= {row["metric"] async for row in rows}
    return known


async def _add(connection: Any, bounds: StatBounds, sums: Mapping[Key, Sums]) -> Refused:
    """Add sums, totals first: their locks make the count of the subjects in the next statement exact."""
    totals = {key: each for key, each in sums.items() if key[2] == ALL_SUBJECTS}
    subjects = {key: each for key, each in sums.items() if key[2] != ALL_SUBJECTS}
    if totals:
        await QUERIES.add_totals(connection, **_columns(totals))
    if not subjects:
        return Counter()
    rows = QUERIES.add_subjects(connection, most=bounds.subjects, **_columns(subjects))
    added = {(row["hour"], row["metric"], row["subject_id"]) async for row in rows}
    left_out: Refused = Counter()
    for key, each in subjects.items():
        if key not in added:
            left_out[Reason.TOO_MANY_SUBJECTS, key[1]] += each.count
    return left_out


def _columns(sums: Mapping[Key, Sums]) -> dict[str, list[Any]]:
    return {
        "hours": [hour for hour, _, _ in sums],
        "metrics": [metric for _, metric, _ in sums],
        "subject_ids": [subject_id for _, _, subject_id in sums],
        "sums": [each.sum for each in sums.values()],
        "counts": [each.count for each in sums.values()],
        "mins": [each.min for each in sums.values()],
        "maxs": [each.max for each in sums.values()],
    }


def _sums_of(refused: Refused, hour: datetime) -> dict[Key, Sums]:
    """Return refused events as values of our own metric."""
    sums: dict[Key, Sums] = {}
    for (reason, _), count in refused.items():
        for subject_id in (ALL_SUBJECTS, reason.value):
            sums.setdefault((hour, REFUSED_EVENTS, subject_id), Sums()).merge(Sums(float(count), count, 1.0, 1.0))
    return dict(sorted(sums.items()))
