"""The ends of partitions are watched on a connection of their own, which says when they move, or that it is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka.protocol.offset import OffsetRequest

from callboard.ops.embedded.data_directory import free_ports
from callboard.streams.ends_watch import EndsWatch
from callboard.streams.raw_answers import RawAnswer

LIMIT_S = 20.0
PAUSE_S = 0.001
HEADER = (0).to_bytes(4, "big")


class Broker:
    """A broker's socket: it answers each request with `ends`, in pieces if `size` says so."""

    def __init__(self) -> None:
        self.ends = b"five"
        self.size = 100
        self.asked: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while size := int.from_bytes(await reader.read(4), "big"):
            self.asked.append(await reader.readexactly(size))
            body = HEADER + self.ends
            answer = len(body).to_bytes(4, "big") + body
            for at in range(0, len(answer), self.size):
                writer.write(answer[at : at + self.size])
                await writer.drain()
                await asyncio.sleep(0)


def ask() -> RawAnswer:
    return RawAnswer(OffsetRequest(-1, 0, [("t", [(0, -1)])])).prepare({2: (1, 1)})


@asynccontextmanager
async def watched(
    broker: Broker, until: Callable[[], bool] = lambda: False, cpu_time: Callable[[], int | None] = lambda: None
) -> AsyncIterator[tuple[EndsWatch, asyncio.Event]]:
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    watch = await EndsWatch.connect(host, port)
    assert watch is not None
    ended = asyncio.Event()
    watch.begin(ask(), b"five", PAUSE_S, cpu_time=cpu_time, until=until, ended=ended.set)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield watch, ended
    finally:
        watch.close()
        server.close()
        for writer in broker.writers:
            writer.close()


async def asked(broker: Broker, times: int) -> None:
    while len(broker.asked) < times:  # noqa: ASYNC110 - the broker's side of the socket counts
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", [100, 3])
async def test_it_asks_again_while_the_ends_stay_and_ends_when_they_move(size: int) -> None:
    broker = Broker()
    broker.size = size
    async with watched(broker) as (_, ended):
        await asked(broker, 5)
        assert not ended.is_set()
        broker.ends = b"six!"
        await ended.wait()
    assert set(broker.asked) == {ask().frame()[4:]}


async def test_a_broker_that_has_not_run_since_its_answer_is_not_asked() -> None:
    ran, broker, looks = 1, Broker(), 0

    def cpu_time() -> int:
        nonlocal looks
        looks += 1
        return ran

    async with watched(broker, cpu_time=cpu_time) as (_, ended):
        await asked(broker, 1)
        while looks < 20:  # noqa: ASYNC110 - the looks count, not the time
            await asyncio.sleep(0)
        assert len(broker.asked) == 1
        broker.ends = b"six!"
        ran = 2
        await ended.wait()


async def test_it_ends_when_the_wait_is_over_for_another_reason() -> None:
    over = False
    broker = Broker()
    async with watched(broker, until=lambda: over) as (_, ended):
        await asked(broker, 2)
        assert not ended.is_set()
        over = True
        await ended.wait()


async def test_it_ends_when_the_broker_closes_the_connection_and_has_to_be_made_anew() -> None:
    broker = Broker()
    async with watched(broker) as (watch, ended):
        await asked(broker, 2)
        broker.writers[0].close()
        await ended.wait()
        assert not watch.is_connected


async def test_what_was_stopped_asks_no_more_and_may_begin_again() -> None:
    broker = Broker()
    async with watched(broker) as (watch, ended):
        await asked(broker, 2)
        watch.stop()
        broker.ends = b"six!"
        before = len(broker.asked)
        await asyncio.sleep(20 * PAUSE_S)
        assert not ended.is_set()
        assert len(broker.asked) <= before + 1
        watch.begin(ask(), b"five", PAUSE_S, cpu_time=lambda: None, until=lambda: False, ended=ended.set)
        await ended.wait()


async def test_a_broker_that_refuses_the_connection_is_not_watched() -> None:
    assert await EndsWatch.connect("127.0.0.1", free_ports(1)[0]) is None
