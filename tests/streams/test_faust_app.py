"""What the Faust app promises: every record has its fate, once, and nothing is committed before."""

import asyncio
import re
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import group_coordinator

from callboard.actors.analytics.events import ACTIVITY
from callboard.ops.streams import kafka_breaker
from callboard.runtime import Context, Crashed, Props, System, supervisor, use_context, worker
from callboard.streams import faust_app, record_processor
from callboard.streams.cluster import BrokerLostError, KafkaCluster
from callboard.streams.faust_app import FaustConsumer
from callboard.streams.topics import full_name

EFFECTS = "select count(*) from effects"
LETTERS = "select count(*) from dead_letters"
README = Path(__file__).parents[2] / "streams" / "README.md"
WAIT_S = 60.0  # what is promised in seconds is measured by `make bench-streams`
ASK_S = 10.0


def now() -> float:
    return asyncio.get_running_loop().time()


async def committed(stage: Any) -> int:
    """How many records of the activity topic the group has committed."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stage.broker.addresses, group_id=f"{stage.broker.prefix}-streams", enable_auto_commit=False
    )
    await consumer.start()
    try:
        name = full_name(stage.broker.prefix, ACTIVITY)
        found = [await consumer.committed(TopicPartition(name, number)) for number in range(4)]
    finally:
        await consumer.stop()
    return sum(each or 0 for each in found)


async def test_one_poison_among_a_thousand_is_one_dead_letter_and_999_effects(stage: Any) -> None:
    async with stage.playing("streams"), stage.producer() as send:
        for number in range(1000):
            value, headers = stage.encoded(stage.view(f"s{number % 7}"))
            await send(b"{" if number == 500 else value, headers, key=f"s{number % 7}")
        await stage.until(999, EFFECTS)
        await stage.until(1, LETTERS)
        assert await stage.count(EFFECTS) == 999
    assert await committed(stage) == 1000


async def test_the_same_events_sent_twice_have_one_effect_each(stage: Any) -> None:
    records = [stage.encoded(stage.view(f"s{number}")) for number in range(200)]
    async with stage.playing("streams"), stage.producer() as send:
        for _ in range(2):
            for value, headers in records:
                await send(value, headers)
        last, headers = stage.encoded(stage.view("last"))
        await send(last, headers)
        await stage.until(1, "select count(*) from effects where subject_id = 'last'")
    assert await stage.count(EFFECTS) == 201


async def test_no_offset_is_committed_past_a_record_in_flight_and_a_new_app_redoes_it(stage: Any) -> None:
    async with stage.producer() as send:
        async with stage.playing("streams"):
            stage.books.open.clear()
            for number in range(20):
                value, headers = stage.encoded(stage.view(f"s{number}"))
                await send(value, headers)
            await stage.books.asked.wait()
            await asyncio.wait({asyncio.ensure_future(stage.books.open.wait())}, timeout=1.5)  # three commit intervals
        assert await committed(stage) == 0
        stage.books.open.set()
        stage.recast()
        async with stage.playing("streams"):
            await stage.until(20, EFFECTS)
        assert await committed(stage) == 20


async def test_only_the_event_that_is_refused_or_crashes_the_consumer_is_buried(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_processor, "_CRASH_RETRY_S", 0.1)
    stage.books.open.clear()
    async with stage.playing("streams"), stage.producer() as send:
        for subject in ("first", *("fine",) * 30, "refused", *("fine",) * 30, "crash", "fine"):
            value, headers = stage.encoded(stage.view(subject))
            await send(value, headers)
        await stage.books.asked.wait()
        stage.books.open.set()
        await stage.until(62, EFFECTS)
        await stage.until(2, LETTERS)
        assert await stage.count("select count(*) from dead_letters where reason = 'refused'") == 1
        assert await stage.count("select count(*) from dead_letters where reason = 'failed'") == 1
        assert await stage.count("select count(*) from effects where subject_id not in ('first', 'fine')") == 0
    assert not [each for each in stage.seen if isinstance(each, Crashed) and each.actor.endswith("streams")]


async def test_while_postgresql_is_away_records_wait_and_none_is_buried(stage: Any) -> None:
    async with stage.playing("streams"), stage.producer() as send:
        stage.database.disconnect()
        for number in range(9):
            value, headers = stage.encoded(stage.view(f"s{number}"))
            await send(value, headers)
        for _ in range(3):
            await stage.books.asked.wait()
            stage.books.asked.clear()
        await send(b"{", headers)
        await stage.database.connect()
        await stage.until(9, EFFECTS)
        await stage.until(1, LETTERS)


async def test_a_broker_that_was_killed_is_read_again_after_its_return(stage: Any, kill: Any) -> None:
    async with stage.playing("streams"):
        await kill(stage.server)
        await stage.lost()
        await stage.server.start()
        await asyncio.wait_for(stage.reading.wait(), WAIT_S)
        async with stage.producer() as send:
            value, headers = stage.encoded(stage.view())
            await send(value, headers)
            await stage.until(1, EFFECTS)
    assert not [each for each in stage.seen if isinstance(each, Crashed)]


async def test_a_topic_that_is_deleted_and_created_again_at_once_is_read_from_its_beginning(stage: Any) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.broker.addresses)
    name = full_name(stage.broker.prefix, ACTIVITY)
    async with stage.playing("streams"), stage.producer() as send:
        await admin.start()
        for number, before in ((9, 0), (3, 9)):
            for _ in range(number):
                value, headers = stage.encoded(stage.view())
                await send(value, headers)
            await stage.until(before + number, EFFECTS)
            if not before:
                await admin.delete_topics([name])
                await admin.create_topics([NewTopic(name, 4, 1)])
        await admin.close()


async def test_a_broker_that_was_only_silent_meets_the_member_it_knows(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for the one before until its session times out, and nobody would read for 11 s."""
    joins: asyncio.Queue[str] = asyncio.Queue()
    silent = asyncio.Event()
    request = group_coordinator.JoinGroupRequest

    class Noted(request):  # type: ignore[misc, valid-type]
        def __init__(self, *fields: Any) -> None:
            super().__init__(*fields)
            loop.call_soon_threadsafe(joins.put_nowait, fields[3])

    async def hold(*_: Any) -> None:
        await silent.wait()
        silent.clear()
        raise BrokerLostError("it is silent")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(group_coordinator, "JoinGroupRequest", Noted)
    monkeypatch.setattr(KafkaCluster, "_hold", hold)
    reader = Props(FaustConsumer, stage.broker, stage.consumers, stage.database, stage.signer, stage.data)
    async with asyncio.timeout(WAIT_S), System(supervisor("stage", stage.recorder, worker("streams", reader))):
        while not (member := await joins.get()):  # the broker gives it one, and it joins with that
            pass
        silent.set()
        assert await joins.get() == member


async def test_it_stops_when_the_broker_is_dead(stage: Any, kill: Any) -> None:
    async with asyncio.timeout(WAIT_S), stage.playing("streams"):
        await kill(stage.server)


async def test_it_stops_when_the_broker_is_frozen(stage: Any) -> None:
    with ExitStack() as thaw:
        async with asyncio.timeout(WAIT_S), stage.playing("streams"), stage.producer() as send:
            value, headers = stage.encoded(stage.view(), str(uuid4()))
            await send(value, headers)
            await stage.until(1, EFFECTS)
            thaw.callback(stage.signal, signal.SIGCONT)
            stage.signal(signal.SIGSTOP)


async def test_a_stop_that_runs_out_of_time_closes_without_an_error(
    stage: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other side never ends its connection, as of TLS. An error in the consumer's thread would fail this test."""
    close, waiting = AIOKafkaConnection.close, {}

    def close_for_ever(connection: Any, *arguments: Any, **options: Any) -> Any:
        closed = close(connection, *arguments, **options)
        if threading.current_thread() is threading.main_thread():
            return closed
        return waiting.setdefault(connection, asyncio.get_running_loop().create_future())

    async with stage.playing("streams"), stage.producer() as send:
        value, headers = stage.encoded(stage.view())
        await send(value, headers)
        await stage.until(1, EFFECTS)
        monkeypatch.setattr(AIOKafkaConnection, "close", close_for_ever)
    assert any(each.cancelled() for each in waiting.values()), "the stop was not cut short"
    assert "was abandoned" not in caplog.text


async def test_the_producer_of_the_readme_works(stage: Any) -> None:
    section = README.read_text(encoding="utf-8").partition("## A producer\n")[2]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    stage.broker = KafkaCluster(stage.server.url, "callboard", breaker=kafka_breaker())
    async with stage.playing("streams"):
        command = (sys.executable, "-c", example, stage.server.url, "an-article")
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0
        await stage.until(1, "select count(*) from effects where subject_id = 'an-article'")


async def test_trace_context_and_deadline_survive_the_crossing_of_kafka(stage: Any) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with stage.playing("relay", "streams"):
        with use_context(Context(traceparent=trace)):
            await stage.emit(stage.view("traced"))
        await stage.until(1, EFFECTS)
        (context,) = stage.books.contexts
        assert context.traceparent == trace
        assert 0 < context.deadline - now() <= ASK_S


async def test_records_that_wait_are_shown_by_partition_until_they_are_done(stage: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(faust_app, "_LAG_EVERY_S", 0.05)

    async def shown(wanted: int) -> None:
        async with asyncio.timeout(ASK_S * 4):
            while sum(each.records or 0 for each in stage.metrics.lag.values()) != wanted:  # noqa: ASYNC110 - a gauge tells nobody
                await asyncio.sleep(0.01)

    async with stage.playing("streams"), stage.producer() as send:
        stage.books.open.clear()
        for number in range(20):
            value, headers = stage.encoded(stage.view(f"s{number}"))
            await send(value, headers, key=f"s{number}")
        await shown(20)
        assert {topic for topic, _ in stage.metrics.lag} >= {"activity.v1"}
        stage.books.open.set()
        await stage.until(20, EFFECTS)
        await shown(0)
