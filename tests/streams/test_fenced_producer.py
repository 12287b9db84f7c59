"""Records that wait in a producer's buffers are not sent once another process may lead."""

import asyncio
import signal
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from callboard.actors.analytics.events import ACTIVITY
from callboard.streams.faust_transport import close_now
from callboard.streams.fenced_producer import FencedProducer
from callboard.streams.group_offsets import GroupOffsets
from callboard.streams.lease import Lease, LeaseLostError
from callboard.streams.topics import full_name


async def test_a_record_that_waits_while_the_lease_ends_is_never_sent(stage: Any) -> None:
    await stage.broker.wait("the test")
    name, lease = full_name(stage.broker.prefix, ACTIVITY), Lease("relay")
    lease._valid_until = asyncio.get_running_loop().time() + 600
    producer = FencedProducer(lease, bootstrap_servers=stage.broker.addresses)
    await producer.start()
    await producer.send_and_wait(name, b"first", partition=0)  # its connection is open
    stage.signal(signal.SIGSTOP)
    try:
        sent = await producer.send(name, b"sent", partition=0)
        for _ in range(100):  # until its request is on its way, so that the next record waits for the answer
            await asyncio.sleep(0)
        waits = await producer.send(name, b"waits", partition=0)
        lease._valid_until = 0.0
    finally:
        stage.signal(signal.SIGCONT)
    await sent
    with pytest.raises(LeaseLostError):
        await waits
    await producer.stop()
    offsets = GroupOffsets(stage.broker, [name])
    assert [each.end for each in await offsets.read()] == [2, 0, 0, 0]
    await offsets.close()


async def test_nothing_is_sent_to_a_broker_in_the_place_of_a_lost_one(stage: Any) -> None:
    await stage.broker.wait("the test")
    name, lease = full_name(stage.broker.prefix, ACTIVITY), Lease("relay")
    lease._valid_until = asyncio.get_running_loop().time() + 600
    producer = FencedProducer(lease, bootstrap_servers=stage.broker.addresses, request_timeout_ms=500)
    await producer.start()
    await producer.send_and_wait(name, b"first", partition=0)
    producer.fence()
    with pytest.raises(KafkaError):  # it tries again and again
        await producer.send_and_wait(name, b"late", partition=0)
    await close_now(producer)
    offsets = GroupOffsets(stage.broker, [name])
    assert [each.end for each in await offsets.read()] == [1, 0, 0, 0]
    await offsets.close()
