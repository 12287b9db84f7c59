"""A record or a batch that nobody can read is a dead letter, and stops neither its neighbours nor another topic."""

from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from kit.batches import HEADER_BYTES, batch, produce_raw, repacked, sealed
from kit.kafka import EMBEDDED

from callboard.actors.analytics.events import ACTIVITY
from callboard.runtime import Crashed
from callboard.streams.topics import full_name

EFFECTS = "select count(*) from effects"
unchecked = pytest.mark.skipif(not EMBEDDED, reason="Apache Kafka accepts no batch that cannot be unpacked")
LETTERS = "select count(*) from dead_letters where reason = 'unreadable'"


def views(stage: Any, count: int, *headers: Any, codec: int = 0) -> bytes:
    records = []
    for _ in range(count):
        value, binary_mode = stage.encoded(stage.view())
        records.append((b"k", value, [*binary_mode, *headers]))
    return batch(*records, codec=codec)


@pytest.fixture
async def producer(stage: Any) -> Any:
    await stage.broker.wait("the test")
    producer = AIOKafkaProducer(bootstrap_servers=stage.broker.addresses)
    await producer.start()
    yield producer
    await producer.stop()


async def test_a_record_whose_header_name_is_not_utf8_is_a_dead_letter_and_its_neighbours_are_handled(
    stage: Any, producer: Any
) -> None:
    topic = full_name(stage.broker.prefix, ACTIVITY)
    good, odd = views(stage, 3), views(stage, 1, ("zz", b"1"))
    async with stage.playing("streams"):
        for data in (good, sealed(odd.replace(b"zz", b"\xff\xfe")), views(stage, 3)):
            await produce_raw(producer, topic, 2, data)
        await stage.until(6, EFFECTS)
        await stage.until(1, LETTERS)
        place = "select (topic, partition, \"offset\") = ('activity.v1', 2, 3) from dead_letters"
        assert await stage.count(place) == 1
    assert not [each for each in stage.seen if isinstance(each, Crashed)]


@unchecked
@pytest.mark.parametrize("codec", [1, 2, 3, 4])
async def test_a_batch_that_the_client_cannot_read_is_a_dead_letter_and_the_next_one_is_handled(
    stage: Any, producer: Any, codec: int
) -> None:
    topic = full_name(stage.broker.prefix, ACTIVITY)
    async with stage.playing("streams"):
        plain = views(stage, 3)
        bad = repacked(plain, b"\xff" + plain[HEADER_BYTES:], codec)
        for data in (views(stage, 2), bad, views(stage, 2)):
            await produce_raw(producer, topic, 1, data)
        await stage.until(4, EFFECTS)
        await stage.until(1, LETTERS)
    assert not [each for each in stage.seen if isinstance(each, Crashed)]


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
async def test_batches_of_every_codec_are_handled(stage: Any, producer: Any, codec: int) -> None:
    async with stage.playing("streams"):
        await produce_raw(producer, full_name(stage.broker.prefix, ACTIVITY), 0, views(stage, 50, codec=codec))
        await stage.until(50, EFFECTS)


@unchecked
async def test_what_was_told_of_is_not_told_of_again_by_the_next_app(stage: Any, producer: Any) -> None:
    topic = full_name(stage.broker.prefix, ACTIVITY)
    plain = views(stage, 3)
    bad = repacked(plain, b"nothing", 4)
    for data, effects in ((bad, 0), (views(stage, 1), 1)):
        async with stage.playing("streams"):
            await produce_raw(producer, topic, 0, data)
            await stage.until(1, LETTERS)
            await stage.until(effects, EFFECTS)
        stage.recast()
    assert await stage.count(LETTERS) == 1
