"""Statistics: closed hours and live counters are one answer, with a cache that is never stale, and without Redis."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kit.domain import Domain, consume, envelope
from kit.hourly_figures import HOUR, close_hours, stats, top, view

from callboard.actors.analytics.hourly_run import CLOSE_HOURS, HOURLY_RUN
from callboard.actors.analytics.statistics import HourlyMetric, TopSubject
from callboard.actors.infrastructure.schedules import next_due
from callboard.ops.departments import OURS, declared_by

ROWS = "select * from aggregated_stats order by hour, metric, subject_id"


async def count(domain: Domain, *values: float, **facts: Any) -> None:
    """Have the aggregator count these values."""
    await domain.aggregator.ask(consume(*(envelope(view(value, **facts)) for value in values)))


async def keys(domain: Domain) -> list[bytes]:
    return sorted(await domain.cache.send("KEYS", "production:{callboard}:stats:*"))


def test_the_run_is_a_schedule_at_every_full_hour() -> None:
    assert HOURLY_RUN in declared_by(OURS).schedules
    at = datetime(2026, 10, 24, 22, 59, 59, tzinfo=UTC)
    for hour in range(6):  # Europe's clocks go back meanwhile
        at = next_due(HOURLY_RUN.cron, HOURLY_RUN.zone, at) or at
        assert at == datetime(2026, 10, 24, 23, tzinfo=UTC) + timedelta(hours=hour)
    assert (CLOSE_HOURS.deadline_s, CLOSE_HOURS.max_running) == (600.0, 1)


async def test_a_run_closes_what_has_ended_and_a_second_one_changes_nothing(domain: Domain) -> None:
    now = datetime.now(UTC)
    await count(domain, 1, 2, 6)
    await count(domain, 4, at=now + timedelta(minutes=59))  # of this hour or the next: neither ends during the test
    before = await stats(domain), await stats(domain, now - timedelta(hours=1), now + timedelta(hours=2))
    await close_hours(domain)
    closed = await domain.rows(ROWS)
    generation = await domain.value("select generation from stat_generation")
    assert [(row["subject_id"], row["sum"], row["count"], row["min"], row["max"]) for row in closed] == [
        ("", 9.0, 3, 1.0, 6.0),
        ("s", 9.0, 3, 1.0, 6.0),
    ]
    assert await domain.value("select count(distinct hour) from live_stats") == 1
    await close_hours(domain)
    assert await domain.rows(ROWS) == closed
    assert await domain.value("select generation from stat_generation") == generation
    assert before == (await stats(domain), await stats(domain, now - timedelta(hours=1), now + timedelta(hours=2)))


async def test_late_events_and_missed_hours_are_folded_in(domain: Domain) -> None:
    await count(domain, 1)
    await close_hours(domain)
    await count(domain, -5, 10)
    for back in range(40):
        await count(domain, 1, at=HOUR - timedelta(hours=back + 1))
    assert (await stats(domain))[0] == HourlyMetric("page_views", HOUR, 6.0, 2.0, 3, -5.0, 10.0)
    await close_hours(domain)
    assert await domain.value("select count(*) from live_stats") == 0
    assert (await stats(domain))[0] == HourlyMetric("page_views", HOUR, 6.0, 2.0, 3, -5.0, 10.0)
    assert [stat.count for stat in await stats(domain)] == [3, *[1] * 40]


async def test_events_and_runs_of_two_processes_at_once_lose_and_double_nothing(domain: Domain, other: Domain) -> None:
    async def produce() -> None:
        for n in range(15):
            await count(domain, n, subject=f"s{n % 4}")

    async def work(process: Domain) -> None:
        for _ in range(2):
            await close_hours(process)

    await asyncio.gather(produce(), produce(), work(domain), work(other))
    assert [(stat.sum, stat.count) for stat in await stats(domain)] == [(210.0, 30)]
    assert sum(each.sum for each in await top(domain)) == 210.0


# Cache ---------------------------------------------------------------------------------------------------------------


async def test_closed_hours_are_cached_by_question_and_live_ones_are_added(domain: Domain) -> None:
    await count(domain, 1)
    await close_hours(domain)
    assert [stat.sum for stat in await stats(domain)] == [1.0]
    (key,) = await keys(domain)
    assert key.startswith(b"production:{callboard}:stats:")
    assert key.endswith(b":hours")
    assert 0 < await domain.cache.send("TTL", key) <= 300
    await count(domain, 2)
    with domain.overheard() as said:
        assert [stat.sum for stat in await stats(domain)] == [3.0]
    assert len([each for each in said if "stat_generation" in each]) == 1
    await stats(domain, metric="page_views")
    assert len(await keys(domain)) == 2


async def test_a_run_makes_what_was_cached_before_it_void_without_asking_redis(domain: Domain) -> None:
    await count(domain, 1)
    await close_hours(domain)
    await stats(domain)
    await count(domain, 2)
    await close_hours(domain)
    assert [stat.sum for stat in await stats(domain)] == [3.0]
    assert [stat.sum for stat in await stats(domain)] == [3.0]


@pytest.mark.parametrize("content", [b"", b"{", b'{"generation":0}', b'{"generation":"x","hours":[]}', b"\xff"])
async def test_a_cached_value_that_cannot_be_read_is_as_none(domain: Domain, content: bytes) -> None:
    await count(domain, 1)
    await stats(domain)
    (key,) = await keys(domain)
    await domain.cache.send("SET", key, content)
    assert [stat.sum for stat in await stats(domain)] == [1.0]


async def test_a_key_that_holds_something_else_is_as_none(domain: Domain) -> None:
    await count(domain, 1)
    await stats(domain)
    (key,) = await keys(domain)
    await domain.cache.send("DEL", key)
    await domain.cache.send("LPUSH", key, "x")
    assert [stat.sum for stat in await stats(domain)] == [1.0]


async def test_without_redis_the_answers_are_the_same(domain: Domain) -> None:
    await count(domain, 1)
    await close_hours(domain)
    await stats(domain)
    await count(domain, 2)
    domain.cache.mark_unavailable(OSError("gone"))
    assert [stat.sum for stat in await stats(domain)] == [3.0]
    domain.cache.mark_unavailable(OSError("gone"))
    await close_hours(domain)
    assert [stat.sum for stat in await stats(domain)] == [3.0]
    await domain.cache.probe()  # what it kept is of an earlier generation
    assert [stat.sum for stat in await stats(domain)] == [3.0]


# Questions -----------------------------------------------------------------------------------------------------------


async def test_the_top_of_closed_and_live_hours_together_is_that_of_their_sums(domain: Domain) -> None:
    for subject, value in (("a", 5), ("b", 4), ("c", 3), ("d", -9)):
        await count(domain, value, subject=subject)
    await close_hours(domain)
    await count(domain, 1, 1, subject="b")
    await count(domain, 100, subject="")
    await count(domain, 50, subject="x", metric="reads")
    assert [each.subject_id for each in await top(domain)] == ["b", "a", "c", "d"]
    assert (await top(domain))[0] == TopSubject("b", 6.0, 2.0, 3, 1.0, 4.0)
    assert [each.subject_id for each in await top(domain, limit=2)] == ["b", "a"]
    await count(domain, 0, 0, 0, subject="c")
    assert [each.subject_id for each in await top(domain, by="count")] == ["c", "b", "a", "d"]
    assert await top(domain, "page_views", HOUR + timedelta(hours=1)) == []
    assert [each.subject_id for each in await top(domain, "reads")] == ["x"]


async def test_the_total_has_every_subject_and_a_subject_its_own(domain: Domain) -> None:
    await count(domain, 1, subject="a")
    await count(domain, 2, subject="b")
    await count(domain, 4, subject="")
    assert [stat.sum for stat in await stats(domain)] == [7.0]
    assert [stat.sum for stat in await stats(domain, subject_id="a")] == [1.0]


async def test_hours_of_an_earlier_release_have_no_minimum_and_maximum(domain: Domain) -> None:
    async with domain.database.acquire() as connection:
        await connection.execute("insert into aggregated_stats values ('page_views', '', $1, 6, 2)", HOUR)
    await count(domain, 1)
    assert await stats(domain) == [HourlyMetric("page_views", HOUR, 7.0, 7.0 / 3, 3, None, None)]
    await close_hours(domain)
    assert await stats(domain) == [HourlyMetric("page_views", HOUR, 7.0, 7.0 / 3, 3, None, None)]


async def test_the_newest_rows_of_closed_and_live_hours_together_fill_a_limit(domain: Domain) -> None:
    for back in range(6):
        await count(domain, 1, at=HOUR - timedelta(hours=back))
    await close_hours(domain)
    for back in (1, 3, 7):
        await count(domain, 1, at=HOUR - timedelta(hours=back))
    found = [(stat.hour, stat.count) for stat in await stats(domain, limit=4)]
    assert found == [(HOUR - timedelta(hours=back), 1 + back % 2) for back in range(4)]


async def test_a_question_reads_the_rows_of_its_answer_and_no_more(domain: Domain) -> None:
    await domain.execute(
        "insert into aggregated_stats (metric, subject_id, hour, sum, count, min, max) "
        "select 'm' || m, case s when 0 then '' else 's' || s end, "
        "       date_trunc('hour', now(), 'UTC') - make_interval(hours => h), 1, 1, 1, 1 "
        "from generate_series(1, 3) m, generate_series(0, 30) s, generate_series(2, 200) h"
    )
    await domain.execute("analyze aggregated_stats")
    now = datetime.now(UTC)
    since = now - timedelta(days=300)
    assert len(await stats(domain, since, now, limit=20)) == 20
    async with domain.database.acquire() as connection:
        plan = await connection.fetch(
            "explain (analyze, timing off) select metric, hour from aggregated_stats "
            "where subject_id = $1 and hour >= $2 and hour < $3 order by hour desc, metric limit 20",
            "",
            since,
            now,
        )
    text = "\n".join(row[0] for row in plan)
    assert "aggregated_stats_subject_idx" in text
    assert "Sort" not in text
