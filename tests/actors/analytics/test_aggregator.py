"""The aggregator: each event counts once, in the hour it happened in, within the bounds."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.domain import STAT_BOUNDS, Domain, consume, envelope
from kit.hourly_figures import HOUR, close_hours, stats, top, view

from callboard.actors.analytics.events import ActivityRecorded
from callboard.actors.analytics.hourly_sums import aggregate
from callboard.actors.analytics.live_counters import REFUSED_EVENTS
from callboard.actors.analytics.statistics import HourlyMetric
from callboard.actors.identity.events import UserVerified


async def test_values_are_summed_averaged_and_counted(domain: Domain) -> None:
    await domain.aggregator.ask(consume(*(envelope(view(value)) for value in (1, 2, 6))))
    await domain.aggregator.ask(consume(envelope(view(-1))))
    assert await stats(domain) == [HourlyMetric("page_views", HOUR, 8.0, 2.0, 4, -1.0, 6.0)]


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
    now = datetime.now(UTC)
    aged = [view(at=now - timedelta(days=STAT_BOUNDS.days - 1)), view(at=now + timedelta(minutes=59))]
    await domain.aggregator.ask(consume(*(envelope(each) for each in (*extremes, *named, *aged))))
    everything = await stats(domain, datetime(1969, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
    assert sum(stat.count for stat in everything) == 8
    assert {stat.metric for stat in everything} == {"page_views", "m" * 100, "ä'\"\\"}


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
    totals = [each for (_, _, subject), each in sums.items() if subject == ""]
    assert sum(each.count for each in totals) == len(activities)
    assert sum(each.sum for each in totals) == sum(activity.value for activity in activities)
    assert list(sums) == sorted(sums)
    for hour, metric, subject in sums:
        assert (hour.tzinfo, hour.minute, hour.second, hour.microsecond) == (UTC, 0, 0, 0)
        values = [each.value for each in activities if each.metric == metric and subject in ("", each.subject_id)]
        assert min(values) <= sums[hour, metric, subject].min <= sums[hour, metric, subject].max <= max(values)
    assert aggregate(activities[::-1]) == sums


@pytest.mark.parametrize("count", [0, 1])
async def test_a_batch_of_nothing_new_is_nothing(domain: Domain, count: int) -> None:
    batch = [envelope(view(), "one")] * count
    await domain.aggregator.ask(consume(*batch))
    await domain.aggregator.ask(consume(*batch))
    assert len(await stats(domain)) == count


# Bounds --------------------------------------------------------------------------------------------------------------


async def refused(domain: Domain) -> dict[str, int]:
    """How many events are counted as refused, by reason."""
    now = datetime.now(UTC)
    since, until = now - timedelta(hours=2), now + timedelta(hours=1)
    found = {each.subject_id: each.count for each in await top(domain, REFUSED_EVENTS, since, until)}
    totals = await stats(domain, since, until, metric=REFUSED_EVENTS)
    assert sum(each.count for each in totals) == sum(found.values())
    return found


async def test_a_flood_of_distinct_metrics_of_one_source_is_counted_and_not_stored(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    flood = [envelope(view(metric=f"m{n}"), source="/bad") for n in range(500)]
    await asyncio.gather(*(domain.aggregator.ask(consume(*flood[n::5])) for n in range(5)))
    await domain.aggregator.ask(consume(*flood))  # again
    await domain.aggregator.ask(consume(envelope(view(metric="good"), source="/good")))
    assert await domain.value("select count(*) from stat_metrics where source = '/bad'") == 8
    assert await domain.value("select count(distinct metric) from live_stats where metric like 'm%'") == 8
    assert len(await stats(domain, metric="good")) == 1
    assert await refused(domain) == {"too_many_metrics": 492}
    assert await domain.value("select count(*) from dead_letters") == 0
    assert domain.refused_activity == {"too_many_metrics": 492}
    said = [record.message for record in caplog.records if "/bad" in record.message]
    assert 1 <= len(said) <= 4  # once in each process
    assert "too_many_metrics" in said[0]


async def test_many_sources_bring_no_more_metrics_than_there_may_be(domain: Domain) -> None:
    batches = [[envelope(view(metric=f"{n}-{m}"), source=f"/{n}") for m in range(6)] for n in range(8)]
    await asyncio.gather(*(domain.aggregator.ask(consume(*batch)) for batch in batches))
    assert await domain.value("select count(*) from stat_metrics") == STAT_BOUNDS.metrics
    assert await refused(domain) == {"too_many_metrics": 48 - STAT_BOUNDS.metrics}


async def test_subjects_beyond_the_bound_count_for_the_total_alone_and_known_ones_go_on(domain: Domain) -> None:
    batches = [[envelope(view(subject=f"{n}-{m}")) for m in range(20)] for n in range(6)]
    await asyncio.gather(*(domain.aggregator.ask(consume(*batch)) for batch in batches))
    known = [each.subject_id for each in await top(domain, limit=100)]
    assert len(known) == STAT_BOUNDS.subjects
    await domain.aggregator.ask(consume(*(envelope(view(subject=subject)) for subject in (*known, "new"))))
    assert [stat.count for stat in await stats(domain)] == [120 + STAT_BOUNDS.subjects + 1]
    assert {each.count for each in await top(domain, limit=100)} == {2}
    assert await refused(domain) == {"too_many_subjects": 120 - STAT_BOUNDS.subjects + 1}


async def test_subjects_of_a_closed_hour_count_against_the_bound(domain: Domain) -> None:
    await domain.aggregator.ask(consume(*(envelope(view(subject=f"{n}")) for n in range(STAT_BOUNDS.subjects))))
    await close_hours(domain)
    assert await domain.value("select count(*) from live_stats") == 0
    await domain.aggregator.ask(consume(envelope(view(subject="7")), envelope(view(subject="new"))))
    assert await refused(domain) == {"too_many_subjects": 1}
    assert [stat.count for stat in await stats(domain, subject_id="7")] == [2]


@pytest.mark.parametrize(
    ("activity", "reason"),
    [
        (view(at=datetime.now(UTC) - timedelta(days=STAT_BOUNDS.days + 1)), "too_old"),
        (view(at=datetime(1970, 1, 1, tzinfo=UTC)), "too_old"),
        (view(at=datetime.now(UTC) + timedelta(days=1)), "in_the_future"),
        (view(at=datetime(9998, 12, 31, 23, tzinfo=UTC)), "in_the_future"),
        (view(metric="callboard.refused_events"), "reserved_name"),
        (view(metric="callboard."), "reserved_name"),
    ],
)
async def test_an_event_beyond_a_bound_is_counted_by_its_reason(
    domain: Domain, activity: ActivityRecorded, reason: str
) -> None:
    await domain.aggregator.ask(consume(envelope(activity), envelope(view(metric="good"))))
    assert await refused(domain) == {reason: 1}
    assert await domain.value("select array_agg(metric) from stat_metrics") == ["good"]


async def test_a_metric_without_values_for_a_month_makes_room(domain: Domain) -> None:
    now = datetime.now(UTC)
    await domain.aggregator.ask(consume(*(envelope(view(metric=name, at=now)) for name in ("used", "unused", "new"))))
    await domain.execute("update stat_metrics set created_at = now() - interval '31 days' where metric <> 'new'")
    await domain.execute("delete from live_stats where metric <> 'used'")
    await domain.clean_up()
    assert await domain.value("select array_agg(metric order by metric) from stat_metrics") == ["new", "used"]


async def test_statistics_are_purged_after_their_days(domain: Domain) -> None:
    for days in (1831, 1829):
        at = view(at=datetime.now(UTC) - timedelta(days=days))
        ((hour, _, _), *_) = aggregate([at])
        async with domain.database.acquire() as connection:
            await connection.execute("insert into aggregated_stats values ('m', '', $1, 1, 1)", hour)
    await domain.clean_up()
    assert await domain.value("select count(*) from aggregated_stats") == 1
