"""The aggregator: each event counts once, in the hour it happened in."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.domain import Domain, consume, envelope

from callboard.actors.analytics.aggregator import GetStats, HourlyMetric, aggregate
from callboard.actors.analytics.events import ActivityRecorded
from callboard.actors.identity.events import UserVerified

HOUR = datetime(2026, 3, 1, 12, tzinfo=UTC)
EARLY, LATE = HOUR - timedelta(days=10), HOUR + timedelta(days=10)


def view(value: float = 1, *, at: datetime = HOUR, metric: str = "page_views", subject: str = "s") -> ActivityRecorded:
    return ActivityRecorded(metric, value, subject, at)


async def stats(domain: Domain, since: datetime = EARLY, until: datetime = LATE, **filters: Any) -> list[HourlyMetric]:
    return await domain.aggregator.ask(GetStats(since, until, **({"limit": 100} | filters)))


async def test_values_are_summed_averaged_and_counted(domain: Domain) -> None:
    await domain.aggregator.ask(consume(*(envelope(view(value)) for value in (1, 2, 6))))
    await domain.aggregator.ask(consume(envelope(view(-1))))
    assert await stats(domain) == [HourlyMetric("page_views", HOUR, 8.0, 2.0, 4)]


async def test_the_same_events_again_change_nothing(domain: Domain) -> None:
    batch = [envelope(view(number)) for number in range(20)]
    await domain.aggregator.ask(consume(*batch))
    before = await stats(domain)
    await domain.aggregator.ask(consume(*batch, *reversed(batch)))
    await asyncio.gather(*(domain.aggregator.ask(consume(*batch[n:], envelope(view(0)))) for n in range(4)))
    ((_, _, total, _, count),) = [(s.metric, s.hour, s.sum, s.avg, s.count) for s in await stats(domain)]
    assert (total, count) == (before[0].sum, before[0].count + 4)


async def test_the_same_events_in_opposite_orders_at_once_wait_for_each_other(domain: Domain) -> None:
    for _ in range(4):
        batch = [envelope(view()) for _ in range(800)]
        await asyncio.gather(*(domain.aggregator.ask(consume(*batch[:: (-1) ** n])) for n in range(4)))
    assert [stat.count for stat in await stats(domain)] == [4 * 800]


async def test_ids_are_ids_of_their_source_only(domain: Domain) -> None:
    for source in ("/one", "/two", "/one"):
        await domain.aggregator.ask(consume(envelope(view(), "1", source=source)))
    assert [stat.count for stat in await stats(domain)] == [2]


async def test_batches_that_share_keys_and_come_at_once_all_count(domain: Domain) -> None:
    def batch(order: int) -> list[Any]:
        subjects = [f"s{n}" for n in range(30)]
        return [envelope(view(subject=subject)) for subject in (subjects if order % 2 else reversed(subjects))]

    await asyncio.gather(*(domain.aggregator.ask(consume(*batch(order))) for order in range(12)))
    assert [stat.count for stat in await stats(domain)] == [360]
    assert [stat.count for stat in await stats(domain, subject_id="s7")] == [12]


async def test_an_event_counts_in_its_hour_whatever_its_time_zone(domain: Domain) -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    moments = [HOUR, HOUR.astimezone(kathmandu), HOUR + timedelta(minutes=59, seconds=59.999999)]
    await domain.aggregator.ask(consume(*(envelope(view(at=moment)) for moment in moments)))
    await domain.aggregator.ask(consume(envelope(view(at=HOUR + timedelta(hours=1)))))
    assert [(stat.hour, stat.count) for stat in await stats(domain)] == [(HOUR + timedelta(hours=1), 1), (HOUR, 3)]


async def test_the_running_hour_is_there_at_once(domain: Domain) -> None:
    now = datetime.now(UTC)
    await domain.aggregator.ask(consume(envelope(view(at=now))))
    (stat,) = await stats(domain, now - timedelta(hours=1), now + timedelta(hours=1))
    assert stat.hour == now.replace(minute=0, second=0, microsecond=0)


async def test_rows_come_newest_first_and_by_metric_and_only_as_many_as_asked(domain: Domain) -> None:
    hours = [HOUR + timedelta(hours=n) for n in range(3)]
    await domain.aggregator.ask(
        consume(*(envelope(view(at=hour, metric=metric)) for hour in hours for metric in ("reads", "likes")))
    )
    rows = [(stat.hour, stat.metric) for stat in await stats(domain)]
    assert rows == [(hour, metric) for hour in reversed(hours) for metric in ("likes", "reads")]
    assert [(stat.hour, stat.metric) for stat in await stats(domain, limit=3)] == rows[:3]
    assert [stat.hour for stat in await stats(domain, hours[1], hours[2], metric="reads")] == [hours[1]]
    assert await stats(domain, metric="other") == []
    assert await stats(domain, subject_id="other") == []


async def test_events_of_other_kinds_are_remembered_and_not_counted(domain: Domain) -> None:
    user = await domain.person()
    await domain.aggregator.ask(consume(envelope(UserVerified(user.user_id)), envelope(view())))
    assert [stat.count for stat in await stats(domain)] == [1]
    assert await domain.value("select count(*) from consumed_events where consumer = 'aggregator'") == 2


async def test_values_and_names_at_their_limits_are_taken(domain: Domain) -> None:
    extremes = [view(1e100), view(-1e100), view(5e-324), view(0.0)]
    named = [view(metric="m" * 100, subject="s" * 200), view(metric="ä'\"\\", subject="")]
    aged = [view(at=datetime(1970, 1, 1, tzinfo=UTC)), view(at=datetime(9998, 12, 31, 23, tzinfo=UTC))]
    await domain.aggregator.ask(consume(*(envelope(each) for each in (*extremes, *named, *aged))))
    everything = await stats(domain, datetime(1969, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
    assert sum(stat.count for stat in everything) == 8


@given(
    st.lists(
        st.builds(
            view,
            st.integers(-1000, 1000).map(float),
            at=st.datetimes(datetime(2020, 1, 1), datetime(2020, 1, 2), timezones=st.timezones()),  # noqa: DTZ001
            metric=st.sampled_from("ab"),
            subject=st.sampled_from("xy"),
        )
    )
)
def test_adding_up_loses_nothing_and_orders_its_keys(activities: list[ActivityRecorded]) -> None:
    sums = aggregate(activities)
    assert sum(count for _, count in sums.values()) == len(activities)
    assert sum(total for total, _ in sums.values()) == sum(activity.value for activity in activities)
    assert list(sums) == sorted(sums)
    for _, _, hour in sums:
        assert (hour.tzinfo, hour.minute, hour.second, hour.microsecond) == (UTC, 0, 0, 0)
    assert aggregate(activities[::-1]) == sums


@pytest.mark.parametrize("count", [0, 1])
async def test_a_batch_of_nothing_new_is_nothing(domain: Domain, count: int) -> None:
    batch = [envelope(view(), "one")] * count
    await domain.aggregator.ask(consume(*batch))
    await domain.aggregator.ask(consume(*batch))
    assert len(await stats(domain)) == count
