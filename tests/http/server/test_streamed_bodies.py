"""Bodies that are read while they arrive: back-pressure, the least pace, and what a broken one leaves."""

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from kit.wire import to_the_end

from callboard.actors.errors import Problem
from callboard.http.server.raw_request import BodyPace, Settings
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Route
from callboard.http.server.streamed_body import StreamedBody

MEGABYTE = 1 << 20


class Seen:
    """What the handler has got, and when it may go on."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin another test."""
        self.pieces: list[bytes] = []
        self.faults: list[str] = []
        self.begun, self.leave, self.ended = anyio.Event(), anyio.Event(), anyio.Event()


seen = Seen()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    seen.clear()


async def count(call: HttpRequest[StreamedBody, None, object]) -> Reply[int]:
    """Count the bytes, and hold none of them."""
    return Reply(sum([len(piece) async for piece in call.body]))


async def keep(call: HttpRequest[StreamedBody, None, object]) -> Reply[int]:
    """Keep what comes, and note how it ends."""
    seen.begun.set()
    try:
        async for piece in call.body:
            seen.pieces.append(piece)
    except Problem as problem:
        seen.faults.append(problem.code.name)
        raise
    finally:
        seen.ended.set()
    return Reply(sum(map(len, seen.pieces)))


async def linger(call: HttpRequest[StreamedBody, None, object]) -> Reply[int]:
    """Read nothing before the test says so."""
    seen.begun.set()
    await seen.leave.wait()
    return Reply(sum([len(piece) async for piece in call.body]))


async def keep_late(call: HttpRequest[StreamedBody, None, object]) -> Reply[int]:
    """Keep what has come when the test says so."""
    seen.begun.set()
    await seen.leave.wait()
    return await keep(call)


async def refuse(_call: HttpRequest[StreamedBody, None, object]) -> Reply[int]:
    """Read nothing."""
    return Reply(0)


def routes(*handlers: Any) -> tuple[Route[Any], ...]:
    return tuple(
        Route("POST", f"/{each.__name__}", each, "Stream", "posts", Access.PUBLIC, consumes={"a/b": bytes})
        for each in handlers
    )


TABLE = routes(count, keep, keep_late, linger, refuse)


def settings(**pace: Any) -> Settings:
    """An ordinary request has 0.2 s here, and its body 1,000 bytes."""
    return Settings(max_body_bytes=1_000, timeout_s=0.2, answer_s=0.2, pace=BodyPace(**pace))


async def megabytes(number: int) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield b"x" * MEGABYTE


async def test_a_body_is_read_whole_however_long_it_is_and_with_a_length_or_in_chunks(open_door: Any) -> None:
    async with open_door(settings(), routes=TABLE) as door:
        for data in (b"", b"x", b"y" * 300_000, megabytes(3)):
            status, body, _ = await door.call("POST", "/api/v1/count", data=data)
            expected = len(data) if isinstance(data, bytes) else 3 * MEGABYTE
            assert (status, body["data"]) == (200, expected)
        assert len(door.server.connections) == 1


async def test_a_hundred_megabytes_take_no_more_memory_than_a_buffer(open_door: Any) -> None:
    async with open_door(settings(), routes=TABLE) as door:
        tracemalloc.start()
        try:
            status, body, _ = await door.call("POST", "/api/v1/count", data=megabytes(100))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (status, body["data"]) == (200, 100 * MEGABYTE)
    assert peak < 16 * MEGABYTE


async def test_a_client_is_paused_while_the_handler_reads_nothing(open_door: Any) -> None:
    """What the client could send is bounded by our buffer and the kernel's."""
    async with open_door(routes=TABLE) as door:
        with socket.create_connection(("127.0.0.1", door.port)) as client:
            client.setblocking(False)
            client.send(b"POST /api/v1/linger HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (64 * MEGABYTE))
            await seen.begun.wait()
            sent, idle = 0, 0
            while idle < 20:
                try:
                    sent += client.send(b"x" * MEGABYTE)
                    idle = 0
                except BlockingIOError:
                    idle += 1
                await anyio.lowlevel.checkpoint()
            assert sent < 32 * MEGABYTE
            (connection,) = door.server.connections
            assert connection._reading_paused
            seen.leave.set()


async def test_the_time_of_a_request_follows_the_progress_of_its_body(open_door: Any) -> None:
    """Pieces come for longer than an ordinary request may take."""

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield b"x" * 1000
            await asyncio.sleep(0.05)  # by design: what is tested is time

    async with open_door(settings(), routes=TABLE) as door:
        status, body, _ = await door.call("POST", "/api/v1/count", data=slowly())
    assert (status, body["data"]) == (200, 12_000)


@pytest.mark.parametrize("every_s", [None, 0.01], ids=["silent", "trickling"])
async def test_a_client_that_is_silent_or_trickles_is_cut(open_door: Any, every_s: float | None) -> None:
    async with open_door(settings(bytes_per_s=10_000, grace_s=0.2), routes=TABLE) as door:
        async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
            await stream.send(b"POST /api/v1/keep HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\nab")
            while every_s is not None and not seen.ended.is_set():
                await stream.send(b"c")
                await asyncio.sleep(every_s)  # the pace is what is tested
            answer = await to_the_end(stream, 30.0)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close" in answer
        assert seen.faults == ["REQUEST_SLOW_007"]
        assert b"".join(seen.pieces).startswith(b"ab")


async def test_everything_that_came_before_a_disconnection_is_read_even_if_nobody_had_read_it_yet(
    open_door: Any,
) -> None:
    async with open_door(routes=TABLE) as door:
        async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
            await stream.send(
                b"POST /api/v1/keep_late HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n" + b"x" * 5_000
            )
            await seen.begun.wait()
        while door.server.connections:
            await anyio.lowlevel.checkpoint()
        seen.leave.set()
        await seen.ended.wait()
    assert b"".join(seen.pieces) == b"x" * 5_000
    assert seen.faults == ["REQUEST_MALFORMED_002"]


async def test_a_chunk_that_is_malformed_ends_the_body_and_the_connection(open_door: Any) -> None:
    async with open_door(settings(), routes=TABLE) as door:
        answer = await door.raw(
            b"POST /api/v1/keep HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
        )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert seen.faults == ["REQUEST_MALFORMED_002"]


async def test_a_body_that_is_not_read_closes_the_connection_and_is_no_request(open_door: Any) -> None:
    async with open_door(settings(), routes=TABLE) as door:
        inner = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
        answer = await door.raw(b"POST /api/v1/refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n" + inner)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer


async def test_a_client_that_expects_100_is_told_when_its_body_is_wanted(open_door: Any) -> None:
    head = b"POST /api/v1/%b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    async with open_door(settings(), routes=TABLE) as door:
        async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
            await stream.send(head % b"count")
            assert await stream.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await stream.send(b"ab")
            assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
        assert (await door.raw(head % b"refuse")).startswith(b"HTTP/1.1 200 ")


async def test_a_stop_of_the_server_ends_a_body_that_is_still_arriving(open_door: Any) -> None:
    async with (
        open_door(settings(), routes=TABLE) as door,
        await anyio.connect_tcp("127.0.0.1", door.port) as stream,
    ):
        await stream.send(b"POST /api/v1/keep HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nab")
        await seen.begun.wait()
        while not seen.pieces:
            await anyio.lowlevel.checkpoint()
        await door.server.on_stop()
        assert (await stream.receive()).startswith(b"HTTP/1.1 503 ")
    assert seen.faults == ["SERVER_DRAINING_004"]


async def test_a_client_may_shorten_the_time_of_its_upload(open_door: Any) -> None:
    async with open_door(settings(), routes=TABLE) as door:
        answer = await door.raw(
            b"POST /api/v1/keep HTTP/1.1\r\nHost: a\r\nX-Request-Timeout: 0.1\r\nContent-Length: 99\r\n\r\nab"
        )
    assert answer.startswith(b"HTTP/1.1 408 ")
