"""Answers without an end of their own: sent piece by piece, at the client's pace, and closed whatever ends them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from kit.wire import to_the_end

from callboard.http.server.connection import UNSENT_HIGH, ConnectionTimeouts
from callboard.http.server.request import HttpRequest, RawReply
from callboard.http.server.response import LiveBody
from callboard.http.server.routing import Access, Route
from callboard.http.server.server_sent_events import encode_event

PATH = "/api/v1/live"
GET = b"GET /api/v1/live HTTP/1.1\r\nHost: a\r\n\r\n"
WITHIN_S = 20.0


class Pieces(LiveBody):
    """Pieces that a test gives; it counts what happens to it."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.asked = self.closed = 0
        self.is_closed = asyncio.Event()

    async def next(self) -> bytes | None:
        self.asked += 1
        return await self.waiting.get()

    def end(self) -> None:
        self.waiting.put_nowait(None)

    def close(self) -> None:
        self.closed += 1
        self.is_closed.set()


bodies: list[Pieces] = []


gate = asyncio.Event()
gate.set()


async def live(call: HttpRequest[None, None, object]) -> RawReply:  # noqa: ARG001 - a handler's face
    await gate.wait()
    bodies.append(Pieces())
    return RawReply(bodies[-1], "text/event-stream")


TABLE: tuple[Route[object], ...] = (Route("GET", "/live", live, "Live", "posts", Access.PUBLIC),)


@asynccontextmanager
async def opened(open_door: Any, **options: Any) -> AsyncIterator[Any]:
    bodies.clear()
    async with open_door(routes=TABLE, **options) as door, asyncio.timeout(WITHIN_S):
        yield door


async def until_asked(times: int) -> Pieces:
    while not bodies or bodies[-1].asked < times:
        await anyio.lowlevel.checkpoint()
    return bodies[-1]


async def test_each_piece_arrives_when_it_is_there_and_the_end_is_an_end(open_door: Any) -> None:
    async with opened(open_door) as door, door.client.get(PATH) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.headers["Connection"] == "close"
        assert "Content-Length" not in response.headers
        body = bodies[0]
        for piece in (b"one", b"x" * 70_000, b"three"):
            body.waiting.put_nowait(piece)
            assert await response.content.readexactly(len(piece)) == piece
        body.end()
        assert await response.content.read() == b""
        await body.is_closed.wait()
        assert (body.closed, door.server._dispatcher.in_flight) == (1, 0)


async def test_for_an_old_client_the_close_of_the_connection_is_the_end(open_door: Any) -> None:
    async with opened(open_door) as door, await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send(GET.replace(b"1.1", b"1.0"))
        body = await until_asked(1)
        body.waiting.put_nowait(b"one")
        body.end()
        head, _, content = (await to_the_end(stream)).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert content == b"one"


async def test_head_asks_for_no_piece_and_leaves_nothing_open(open_door: Any) -> None:
    async with opened(open_door) as door:
        received = await door.raw(GET.replace(b"GET", b"HEAD"))
        assert received.endswith(b"\r\n\r\n")
        await bodies[0].is_closed.wait()
        assert (bodies[0].asked, bodies[0].closed) == (0, 1)


@pytest.mark.parametrize("how", ["close", "half", "reset"])
async def test_a_client_that_leaves_ends_it_at_once_without_a_piece_to_notice_by(open_door: Any, how: str) -> None:
    async with opened(open_door) as door:
        client = socket.create_connection(("127.0.0.1", door.port))
        client.sendall(GET)
        body = await until_asked(1)
        if how == "half":
            client.shutdown(socket.SHUT_WR)
        else:
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        await body.is_closed.wait()
        client.close()
        while door.server.connections:
            await anyio.lowlevel.checkpoint()
        assert (body.closed, door.server._dispatcher.in_flight) == (1, 0)


async def test_a_client_that_does_not_read_is_asked_for_no_more_and_is_cut(open_door: Any) -> None:
    async with opened(open_door, timeouts=ConnectionTimeouts(reader_s=0.15)) as door:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", door.port))
            client.sendall(GET)
            body = await until_asked(1)
            for _ in range(10_000):
                body.waiting.put_nowait(b"x" * 1000)
            await body.is_closed.wait()
        assert body.asked < 5_000, "the kernel's buffers and ours are bounded; the rest was never asked for"
        assert door.server.connections.unsent_bytes <= UNSENT_HIGH


async def test_what_the_client_sends_meanwhile_is_discarded_without_a_bound_on_it(open_door: Any) -> None:
    async with opened(open_door) as door, await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send(GET)
        body = await until_asked(1)
        for _ in range(10):
            await stream.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 1_000)
        body.waiting.put_nowait(b"one")
        body.end()
        received = await to_the_end(stream)
        assert received.count(b"HTTP/1.1 200") == 1
        assert received.endswith(b"\r\n\r\n3\r\none\r\n0\r\n\r\n")


async def test_a_client_that_sends_much_and_leaves_is_noticed_too(open_door: Any) -> None:
    """Reading never pauses meanwhile: a paused connection would not see the end."""
    async with opened(open_door) as door:
        async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
            await stream.send(GET)
            body = await until_asked(1)
            await stream.send(b"x" * 300_000)
        await body.is_closed.wait()


async def test_at_a_stop_it_ends_in_order_and_the_server_waits_for_its_last_piece(open_door: Any) -> None:
    async with opened(open_door) as door, door.client.get(PATH) as response:
        await until_asked(1)
        await door.server.on_stop()
        assert await response.content.read() == b"", "an end that is whole: no error for the client"
        assert bodies[0].closed == 1


async def test_one_that_is_made_while_the_server_stops_ends_at_once(open_door: Any) -> None:
    async with opened(open_door) as door, await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        gate.clear()
        await stream.send(GET)
        while not door.server._dispatcher.in_flight:
            await anyio.lowlevel.checkpoint()
        stops = asyncio.create_task(door.server.on_stop())
        while not door.server._dispatcher.draining:
            await anyio.lowlevel.checkpoint()
        gate.set()
        assert (await to_the_end(stream)).endswith(b"\r\n\r\n0\r\n\r\n")
        await stops
        assert bodies[0].closed == 1


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_no_field_of_an_event_becomes_two(text: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        encode_event(text, b"", "1")
    with pytest.raises(ValueError, match="one line"):
        encode_event("a", b"", text)
    if text != "a\0b":
        with pytest.raises(ValueError, match="one line"):
            encode_event("a", text.encode(), "1")
    assert encode_event("a", b"{}", "1", 10) == b"retry: 10\nevent: a\nid: 1\ndata: {}\n\n"
