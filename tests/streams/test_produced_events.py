"""Events that producers sent over HTTP travel as theirs: under their ids, sources and times, and with our signature."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer

from callboard.actors.analytics.events import ACTIVITY
from callboard.streams.event_types import type_of
from callboard.streams.outbox import ProducedEvent, emit_produced
from callboard.streams.reconciler import QUERIES
from callboard.streams.topics import full_name

EFFECTS = "select count(*) from effects"
PENDING = "select count(*) from outbox where published_at is null"
TIME = datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)


async def produce(stage: Any, *event_ids: str, source: str = "/web") -> None:
    events = []
    for event_id in event_ids:
        view = stage.view()
        events.append(ProducedEvent(event_id, source, type_of(view), msgspec.json.encode(view), view, TIME))
    async with stage.database.transaction() as connection:
        await emit_produced(connection, events)


async def test_a_record_is_the_producers_own_event_with_our_signature(stage: Any) -> None:
    async with stage.playing("relay"):
        await produce(stage, "a:1 東京")
        await stage.until(0, PENDING)
        consumer = AIOKafkaConsumer(
            full_name(stage.broker.prefix, ACTIVITY),
            bootstrap_servers=stage.broker.addresses,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            record = await consumer.getone()
        finally:
            await consumer.stop()
    headers = {name: value.decode() for name, value in record.headers}
    assert (headers["ce_id"], headers["ce_source"], headers["ce_time"]) == ("a:1 東京", "/web", TIME.isoformat())
    facts = {"event_id": "a:1 東京", "source": "/web", "type": "activity.recorded", "time": headers["ce_time"]}
    assert stage.signer.verify(headers["ce_signature"], data=record.value, **facts)


async def test_an_event_that_came_over_both_ways_has_its_effect_once(stage: Any) -> None:
    async with stage.playing("relay", "streams"):
        await produce(stage, "1", "2")
        async with stage.producer() as send:
            value, headers = stage.encoded(stage.view(), "1")
            await send(value, [(name, b"/web" if name == "ce_source" else text) for name, text in headers])
            await send(*stage.encoded(stage.view(), "1"))  # of another source
        await stage.until(3, EFFECTS)
        await produce(stage, "3")
        await stage.until(4, EFFECTS)


async def test_what_a_producers_consumers_have_not_recorded_is_sent_again_and_nothing_else(stage: Any) -> None:
    await produce(stage, "1", "2", "3")
    await stage.execute("update outbox set published_at = now()")
    await stage.execute(
        "insert into consumed_events (consumer, source, event_id) values "
        "('recorder', '/web', '1'), ('recorder', '/other', '2'), ('recorder', 'callboard', '3')"
    )
    async with stage.playing("relay", "streams", at_start=True):
        await stage.until(2, EFFECTS)
        await stage.until(0, PENDING)
    assert await stage.count("select count(*) from outbox where attempts = 1") == 2
    assert await stage.count("select count(*) from outbox where attempts = 1 and ce_id = '1'") == 0


async def test_an_old_time_of_a_producer_makes_nothing_look_late(stage: Any) -> None:
    await produce(stage, "1")
    async with stage.database.acquire() as connection:
        state = await QUERIES.state(connection)
    assert state["oldest_s"] < 3600
