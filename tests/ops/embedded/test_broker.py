"""The embedded broker: it answers, dies, comes back empty, and is replaced when it has grown."""

import asyncio
import os
import signal
import time

import anyio
import pytest
from aiokafka import AIOKafkaProducer

from callboard.ops.embedded import broker as broker_module
from callboard.ops.embedded.broker import KafkaCluster
from callboard.ops.embedded.data_directory import DataDirectory, free_ports


async def publish(url: str) -> int:
    producer = AIOKafkaProducer(bootstrap_servers=url)
    await producer.start()
    try:
        metadata = await producer.send_and_wait("topic", b"value", partition=0)
    finally:
        await producer.stop()
    return int(metadata.offset)


async def test_it_takes_messages_and_comes_back_empty_on_its_port_when_it_is_killed(place: DataDirectory) -> None:
    server = KafkaCluster(place, free_ports(1)[0])
    await server.start()
    try:
        assert await publish(server.url) == 0
        assert await publish(server.url) == 1
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        with anyio.fail_after(5):
            assert await server.exited() == "was ended by SIGKILL"
        await server.start()
        assert await publish(server.url) == 0
        server.replace()
        with anyio.fail_after(5):
            assert "has lost its topics" in await server.exited()
    finally:
        await server.stop()


async def test_it_stops_within_a_second_with_clients_connected(place: DataDirectory) -> None:
    server = KafkaCluster(place, free_ports(1)[0])
    await server.start()
    producer = AIOKafkaProducer(bootstrap_servers=server.url)
    await producer.start()
    await producer.send_and_wait("topic", b"value", partition=0)
    started = time.monotonic()
    await server.stop()
    assert time.monotonic() - started < 1
    _, pending = await asyncio.wait([asyncio.ensure_future(producer.stop())], timeout=5)
    assert not pending


async def test_it_is_replaced_when_it_has_grown_too_large(
    place: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "MEMORY_CHECK_INTERVAL_S", 0.05)
    server = KafkaCluster(place, free_ports(1)[0], memory_limit_bytes=1 << 20)
    await server.start()
    try:
        with anyio.fail_after(5):
            assert "MB and must be replaced" in await server.exited()
    finally:
        await server.stop()
