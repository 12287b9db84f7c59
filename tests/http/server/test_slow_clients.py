"""Clients that are slow on purpose: each is cut after its time, whatever it does, and nobody waits for it."""

import socket
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from kit.wire import to_the_end

from callboard.http.server.connection import ConnectionTimeouts
from callboard.http.server.connection_limits import ConnectionLimits
from callboard.http.server.raw_request import Settings
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Route

HASTY = ConnectionTimeouts(head_s=0.15, idle_s=0.3, reader_s=0.15)
HEAD = b"POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = "a" * 4_000_000


async def large(call: HttpRequest[None, None, object]) -> Reply[str]:  # noqa: ARG001 - a handler's face
    return Reply(LARGE)


async def some(call: HttpRequest[None, None, object]) -> Reply[str]:  # noqa: ARG001 - a handler's face
    return Reply(LARGE[:15_000])


TABLE: tuple[Route[object], ...] = (
    Route("GET", "/large", large, "Much", "posts", Access.PUBLIC),
    Route("GET", "/some", some, "Some", "posts", Access.PUBLIC),
)


@pytest.mark.parametrize("begun", [b"G", GET[:-2], b"\r\n", b"GET /" + b"a" * 5000])
async def test_a_head_that_does_not_arrive_is_not_waited_for(open_door: Any, begun: bytes) -> None:
    async with (
        open_door(timeouts=ConnectionTimeouts(head_s=0.15)) as door,
        await anyio.connect_tcp("127.0.0.1", door.port) as stream,
    ):
        await stream.send(begun)
        await to_the_end(stream)
        assert (await door.call("GET", "/health"))[0] == 200


async def test_a_head_that_drips_has_no_more_time_for_it(open_door: Any) -> None:
    async with (
        open_door(timeouts=ConnectionTimeouts(head_s=0.15)) as door,
        await anyio.connect_tcp("127.0.0.1", door.port) as stream,
    ):
        await stream.send(b"GET /health HTTP/1.1\r\nX: ")
        with anyio.fail_after(3), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):  # noqa: PT012 - drops
            while True:
                await stream.send(b"a")
                with anyio.move_on_after(0.02):
                    await stream.receive()


async def test_who_says_nothing_is_not_waited_for_before_and_after_a_request(open_door: Any) -> None:
    async with open_door(timeouts=HASTY) as door:
        async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
            assert await to_the_end(stream) == b""
        async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
            await stream.send(GET)
            assert (await to_the_end(stream)).startswith(b"HTTP/1.1 200")


async def test_a_head_that_comes_in_pieces_in_time_is_served_and_its_connection_kept(open_door: Any) -> None:
    async with (
        open_door(timeouts=ConnectionTimeouts(head_s=0.3)) as door,
        await anyio.connect_tcp("127.0.0.1", door.port) as stream,
    ):
        with anyio.fail_after(5):
            for _ in range(3):  # longer together than one may take
                for piece in (GET[:10], GET[10:20], GET[20:]):
                    await stream.send(piece)
                    with anyio.move_on_after(0.06):
                        answer = await stream.receive()
                assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("body", [b"", b'{"title":'], ids=["none of it", "half of it"])
async def test_a_body_that_does_not_arrive_is_408_and_the_end(open_door: Any, body: bytes) -> None:
    async with (
        open_door(Settings(timeout_s=0.15)) as door,
        await anyio.connect_tcp("127.0.0.1", door.port) as stream,
    ):
        await stream.send(HEAD + body)
        received = await to_the_end(stream)
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"REQUEST_SLOW_007" in received
        assert b"Connection: close" in received


@pytest.mark.parametrize("kept", [True, False], ids=["kept alive", "to be closed"])
async def test_an_answer_that_is_not_read_is_not_waited_for(open_door: Any, *, kept: bool) -> None:
    async with open_door(routes=TABLE, timeouts=HASTY) as door:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with client:
            client.connect(("127.0.0.1", door.port))
            client.sendall(
                b"GET /api/v1/large HTTP/1.1\r\nHost: a\r\n" + (b"" if kept else b"Connection: close\r\n") + b"\r\n"
            )
            with anyio.fail_after(5):
                while not door.observed:
                    await anyio.lowlevel.checkpoint()
                while door.server.connections:
                    await anyio.lowlevel.checkpoint()
            assert len(client.recv(1)) == 1
        assert (await door.call("GET", "/health"))[0] == 200


async def test_of_clients_that_read_nothing_the_slowest_are_closed_once_too_many_bytes_wait(
    open_door: Any, caplog: pytest.LogCaptureFixture
) -> None:
    limits = ConnectionLimits(unsent_bytes=2 * len(LARGE))
    async with open_door(routes=TABLE, limits=limits) as door:
        with ExitStack() as stack, anyio.fail_after(20):
            clients = [stack.enter_context(socket.socket()) for _ in range(8)]
            for client in clients:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", door.port))
                client.sendall(b"GET /api/v1/large HTTP/1.1\r\nHost: a\r\n\r\n")
            while not caplog.records or len(door.server.connections) == len(clients):
                await anyio.lowlevel.checkpoint()
            while any(connection.transport is None for connection in door.server.connections):
                await anyio.lowlevel.checkpoint()
            assert 0 < door.server.connections.unsent_bytes <= limits.unsent_bytes
            assert (await door.call("GET", "/health"))[0] == 200
    assert "unsent bytes" in caplog.text


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"], ids=["idle", "to be closed"])
async def test_the_end_of_an_answer_that_is_not_read_is_not_waited_for_either(open_door: Any, last: bytes) -> None:
    async with open_door(routes=TABLE, timeouts=ConnectionTimeouts(idle_s=0.3, reader_s=0.15)) as door:
        server = door.server
        ask = b"GET /api/v1/some HTTP/1.1\r\nHost: a\r\n"
        with socket.socket() as client, anyio.fail_after(10):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", door.port))
            # Until the network takes no more, and some is left here: too little to make us wait for its writing.
            left, sent = 0, 0
            while not left:
                client.sendall(ask + b"\r\n")
                sent += 1
                while not server.connections:
                    await anyio.lowlevel.checkpoint()
                (connection,) = server.connections
                while len(door.observed) < sent or connection.busy:
                    await anyio.lowlevel.checkpoint()
                left = connection.transport.get_write_buffer_size()
            assert not connection.writing_paused
            if last:
                client.sendall(ask + last + b"\r\n")
            while server.connections:
                await anyio.lowlevel.checkpoint()


async def test_slow_clients_by_the_hundred_hold_up_nobody(open_door: Any) -> None:
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(open_door(timeouts=ConnectionTimeouts(head_s=2)))
        slow = [await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", door.port)) for _ in range(200)]
        for stream in slow:
            await stream.send(GET[:-2])
        with anyio.fail_after(1.5):
            for _ in range(50):
                assert (await door.call("GET", "/api/v1/posts?limit=1"))[0] == 200
        for stream in slow:
            await to_the_end(stream, 5)
