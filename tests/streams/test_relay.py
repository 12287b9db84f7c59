"""What the relay promises: every committed event reaches its consumers, in order for each key, whatever dies."""

import asyncio
import gc
from typing import Any

import pytest

from callboard.runtime import Crashed
from callboard.streams.lease import LeaseLostError
from callboard.streams.relay import _unless

EFFECTS = "select count(*) from effects"
PENDING = "select count(*) from outbox where published_at is null"
PUBLISHED = "select count(*) from outbox where published_at is not null"
OUT_OF_ORDER = """
select count(*) from (
    select value < lag(value) over (partition by subject_id order by nr) as back from effects
) as steps where back
"""


def crashes(stage: Any) -> list[Any]:
    return [each for each in stage.seen if isinstance(each, Crashed)]


async def test_events_of_one_key_keep_their_order(stage: Any) -> None:
    async with stage.playing("relay", "streams"):
        for start in range(0, 200, 20):
            await stage.emit(*(stage.view(f"s{n % 5}", float(n)) for n in range(start, start + 20)))
        await stage.until(200, EFFECTS)
    assert await stage.count(OUT_OF_ORDER) == 0


async def test_events_written_while_the_relay_is_down_are_published_when_it_is_up(stage: Any) -> None:
    await stage.emit(*(stage.view(value=float(n)) for n in range(20)))
    async with stage.playing("relay", "streams"):
        await stage.until(20, EFFECTS)
        await stage.until(0, PENDING)
    assert await stage.count(OUT_OF_ORDER) == 0


async def test_events_wait_for_a_broker_that_is_away_and_nobody_crashes(stage: Any, kill: Any) -> None:
    async with stage.playing("relay", "streams"):
        await stage.emit(stage.view())
        await stage.until(1, EFFECTS)
        await kill(stage.server)
        await stage.lost()
        await stage.emit(*(stage.view(f"s{n % 5}", float(n)) for n in range(100)))
        await stage.server.start()
        await stage.until(101, EFFECTS)
    assert await stage.count(OUT_OF_ORDER) == 0
    assert not crashes(stage)


async def test_what_a_broker_took_with_it_comes_again_before_what_is_new(stage: Any, kill: Any) -> None:
    stage.books.open.clear()
    async with stage.playing("relay", "streams"):
        await stage.emit(*(stage.view(f"s{n % 5}", float(n)) for n in range(100)))
        await stage.until(100, PUBLISHED)
        await kill(stage.server)
        await stage.lost()
        assert await stage.count(EFFECTS) == 0
        await stage.emit(*(stage.view(f"s{n % 5}", float(n)) for n in range(100, 200)))
        stage.books.open.set()
        await stage.server.start()
        await stage.until(200, EFFECTS)
    assert await stage.count(OUT_OF_ORDER) == 0
    assert not crashes(stage)


async def test_a_relay_that_begins_with_an_empty_broker_sends_again_what_was_not_recorded(stage: Any) -> None:
    await stage.emit(*(stage.view(f"s{n}") for n in range(10)))
    await stage.execute("update outbox set published_at = now()")
    await stage.execute(
        "insert into consumed_events (consumer, source, event_id) "
        "select 'recorder', 'callboard', event_id from outbox order by outbox_id limit 4"
    )
    async with stage.playing("relay", "streams", at_start=True):
        await stage.until(6, EFFECTS)
    assert await stage.count("select count(*) from outbox where attempts = 1") == 6


async def test_what_is_not_recorded_in_time_is_sent_again_and_what_is_fresh_waits(stage: Any) -> None:
    await stage.emit(*(stage.view(f"s{n}") for n in range(4)))
    await stage.execute(
        "update outbox set published_at = now() - interval '1 second' * case when outbox_id % 2 = 0 then 40 else 20 end"
    )
    async with stage.playing("relay", "streams"):
        await stage.until(2, EFFECTS)
        await stage.until(0, PENDING)
    assert await stage.count("select count(*) from outbox where attempts = 1") == 2
    assert await stage.count("select count(*) from outbox where attempts = 0 and outbox_id % 2 = 0") == 0


async def test_one_relay_leads_and_another_takes_over_at_once_when_its_connection_ends(stage: Any) -> None:
    await stage.execute("delete from leases")
    async with stage.playing("relay"):
        await stage.emit(stage.view())
        await stage.until(0, PENDING)
        other = stage.understudy()
        async with other.playing("relay"):
            fence = await stage.count("select fence from leases")
            ended = await stage.count("select count(pg_terminate_backend(backend_pid)) from leases")
            assert ended == 1
            await stage.emit(stage.view())
            await stage.until(0, PENDING)
            assert await stage.count("select fence from leases") == fence + 1
        assert not crashes(other)
    assert not crashes(stage)


async def test_a_relay_that_stops_lets_another_lead_at_once(stage: Any) -> None:
    async with stage.playing("relay"):
        await stage.emit(stage.view())
        await stage.until(0, PENDING)
    assert await stage.count("select count(*) from leases where expires_at > now()") == 0


async def test_a_thousand_rows_that_no_broker_takes_wait_and_their_neighbours_are_published(stage: Any) -> None:
    await stage.execute(
        "insert into outbox (event_id, topic, key, type, value) select gen_random_uuid(), "
        "(array['activity.v1', 'no such topic!', 'unknown.v1'])[1 + n % 3], n::text, 'x', "
        "convert_to(repeat('x', case when n % 3 = 0 then 1100000 else 1 end), 'UTF8') from generate_series(1, 60) n"
    )
    async with stage.playing("relay", "streams"):
        await stage.emit(*(stage.view(f"s{n}") for n in range(50)))
        await stage.until(50, EFFECTS)
        await stage.until(20, "select count(*) from outbox where refusals > 0 and topic = 'activity.v1'")
        assert await stage.count("select count(*) from outbox where refusals > 0 and error is null") == 0
    assert not crashes(stage)


async def test_a_refused_row_is_tried_again_and_those_of_its_key_follow_in_order(stage: Any) -> None:
    await stage.emit(*(stage.view("s", float(n)) for n in range(5)))
    await stage.execute(
        "update outbox set refusals = 1, error = 'no', retry_at = now() + interval '1 hour' "
        "where outbox_id = (select min(outbox_id) from outbox)"
    )
    await stage.emit(stage.view("other"))
    async with stage.playing("relay", "streams"):
        await stage.until(1, EFFECTS)
        assert await stage.count(PENDING) == 5
        await stage.execute("update outbox set retry_at = now() where retry_at is not null")
        await stage.until(6, EFFECTS)
    assert await stage.count(OUT_OF_ORDER) == 0
    assert await stage.count("select count(*) from outbox where error is not null") == 0


async def test_old_rows_are_dropped_and_unrecorded_ones_are_kept(stage: Any) -> None:
    await stage.emit(*(stage.view(f"s{n}") for n in range(3)))
    await stage.execute(
        "update outbox set published_at = now() - interval '2 days', occurred_at = now() - interval '8 days'"
    )
    await stage.execute(
        "insert into consumed_events (consumer, source, event_id, consumed_at) "
        "select 'recorder', 'callboard', event_id, now() - interval '2 days' from outbox order by outbox_id limit 2"
    )
    await stage.execute(
        "insert into consumed_events (consumer, source, event_id, consumed_at) "
        "values ('recorder', '/elsewhere', 'old', now() - interval '9 days')"
    )
    async with stage.playing("relay"):
        await stage.until(1, "select count(*) from outbox")
        await stage.until(2, "select count(*) from consumed_events")


async def test_a_dead_letter_is_told_of_on_its_topic(stage: Any) -> None:
    async with stage.playing("relay", "streams"), stage.producer() as send:
        await send(b"not JSON", [])
        await stage.until(1, "select count(*) from outbox where topic = 'activity.v1.dlq' and published_at is not null")
    assert not crashes(stage)


def test_work_that_ends_otherwise_than_by_its_cancellation_leaves_no_error_behind() -> None:
    """The lease's own connection fails while the other finds the lease expired: one of both errors is told."""
    told: list[Any] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise LeaseLostError("not renewed in time") from error

    async def play() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        watch: asyncio.Future[None] = loop.create_future()
        loop.call_soon(watch.set_exception, ConnectionResetError("the connection"))
        with pytest.raises(ConnectionResetError):
            await _unless(watch, work())
        del watch
        gc.collect()  # an error that nobody has seen is told of when its task goes

    asyncio.run(play())  # a loop of its own: what other tests have left is told to theirs
    assert told == []
