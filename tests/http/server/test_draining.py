"""The end of a server, over real sockets: what is in flight finishes, what comes is refused, and connections are told
that they close.
"""

import json
import signal
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import pytest
from kit.locks import locked
from kit.running import Up, until
from kit.twins import twins
from kit.wire import refuses, to_the_end

WAIT = b"GET /api/v1/wait HTTP/1.1\r\nHost: a\r\n\r\n"
POSTS = b"GET /api/v1/posts?limit=1 HTTP/1.1\r\nHost: a\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = b'{"title":"a"}'
CREATE = b"POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"


def answers(received: bytes) -> list[tuple[int, bool]]:
    """The status of each answer, and whether it says that the connection closes."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
        found.append((int(lines[0].split()[1]), headers.get(b"connection") == b"close"))
        received = rest[int(headers[b"content-length"]) :]
    return found


@asynccontextmanager
async def draining(door: Any) -> AsyncIterator[None]:
    """While the server drains, for one request of another client is in flight; it goes on after the block."""
    async with await anyio.connect_tcp("127.0.0.1", door.port) as other, anyio.create_task_group() as group:
        await other.send(WAIT)
        await door.services.entered.wait()
        group.start_soon(door.server.on_stop)
        with anyio.fail_after(5):
            while not door.server._dispatcher.draining:
                await anyio.lowlevel.checkpoint()
        yield
        door.services.leave.set()
        assert answers(await to_the_end(other)) == [(200, True)]


async def test_before_it_drains_load_balancers_are_told_and_everybody_is_served(open_door: Any) -> None:
    """For a balancer goes on sending until its next probe, also by new connections."""
    async with open_door(delay_s=3600.0) as door, await anyio.connect_tcp("127.0.0.1", door.port) as kept:
        await kept.send(HEALTH)
        assert answers(await kept.receive()) == [(200, False)]
        async with anyio.create_task_group() as group:
            group.start_soon(door.server.on_stop)
            with anyio.fail_after(5):
                while not door.server._dispatcher.leaving:
                    await anyio.lowlevel.checkpoint()
            await kept.send(HEALTH)
            assert answers(await to_the_end(kept)) == [(200, True)]
            status, body, _ = await door.call("GET", "/ready")
            assert (status, body["error"]["code"]) == (503, "SERVER_DRAINING_004")
            async with await anyio.connect_tcp("127.0.0.1", door.port) as new:
                await new.send(CREATE + BODY)
                assert answers(await to_the_end(new)) == [(201, True)]
            group.cancel_scope.cancel()
        door.server._delay_s = 0.0


async def test_of_pipelined_requests_the_one_in_flight_is_the_last_that_is_answered(door: Any) -> None:
    """And none after it is begun: the client may send them again to another, whatever they do."""
    async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send(POSTS + WAIT + POSTS + CREATE + BODY)
        await door.services.entered.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(door.server.on_stop)
            with anyio.fail_after(5):
                while not door.server._dispatcher.draining:
                    await anyio.lowlevel.checkpoint()
            door.services.leave.set()
            assert answers(await to_the_end(stream)) == [(200, False), (200, True)]
    assert [template for template, _, _ in door.observed] == ["/api/v1/posts", "/api/v1/wait"]


async def test_of_what_is_pipelined_while_it_drains_the_first_is_refused_and_the_connection_ends(door: Any) -> None:
    async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send(HEALTH)
        assert answers(await stream.receive()) == [(200, False)]
        async with draining(door):
            await stream.send(CREATE + BODY + HEALTH + HEALTH)
            received = await to_the_end(stream)
            assert answers(received) == [(503, True)]
            assert b"SERVER_DRAINING_004" in received
            assert b"Retry-After: " in received


async def test_a_body_that_was_on_its_way_is_still_taken(door: Any) -> None:
    async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send(CREATE + BODY[:5])
        with anyio.fail_after(5):
            while not door.server._dispatcher.in_flight:
                await anyio.lowlevel.checkpoint()
        async with draining(door):
            await stream.send(BODY[5:])
            assert answers(await to_the_end(stream)) == [(201, True)]


async def test_who_is_connected_and_silent_does_not_hold_up_the_end(door: Any) -> None:
    async with (
        await anyio.connect_tcp("127.0.0.1", door.port) as silent,
        await anyio.connect_tcp("127.0.0.1", door.port) as half,
    ):
        await half.send(HEALTH[:10])
        await door.call("GET", "/health")
        with anyio.fail_after(1):
            await door.server.on_stop()
        assert await to_the_end(silent) == await to_the_end(half) == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_told_to_end_finishes_what_is_in_flight_and_refuses_the_rest(
    up: Up, number: signal.Signals
) -> None:
    with twins(up, 1) as made, ThreadPoolExecutor(1) as thread:
        (site,) = made.sites
        where = urlsplit(site.api)
        body = json.dumps({"title": "in flight", "body": ""}).encode()
        head = f"POST {where.path}/content HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {made.admin}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        address = (where.hostname, where.port)
        with socket.create_connection(address, 10) as kept, socket.create_connection(address, 10) as busy:
            kept.sendall(HEALTH)
            assert answers(kept.recv(65536)) == [(200, False)]
            with locked(made.environment["DATABASE_URL"], "content"):
                busy.sendall(head.encode() + body)
                until("its wait", lambda: made.sql("select 1 from pg_locks where not granted"))
                site.signal(number)
                until("its refusal", lambda: refuses(address))
                kept.sendall(HEALTH)
                received = kept.recv(65536)
                assert answers(received) == [(503, True)]
                assert kept.recv(1) == b""
            answer = thread.submit(busy.recv, 65536).result(5)
            assert answers(answer) == [(201, True)]
        assert site.wait() == 0
    assert "Traceback" not in site.errors
