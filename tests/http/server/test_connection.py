"""One connection: what comes on it is answered in order, whatever else comes, and nothing of it harms what follows."""

import socket
import struct
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from kit.wire import to_the_end

from callboard.http.server.aiohttp_private import EMPTY_PAYLOAD
from callboard.http.server.connection_limits import ConnectionLimits
from callboard.http.server.raw_request import Settings
from callboard.http.server.request_reader import BUFFER


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: uvloop is the one of the running system, and its transports differ."""
    return "asyncio", {"use_uvloop": request.param}


HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
WAIT = b"GET /api/v1/wait HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST /api/v1/signed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def statuses(received: bytes) -> list[int]:
    return [int(head[:3]) for head in received.split(b"HTTP/1.1 ")[1:]]


async def test_any_number_sent_ahead_is_answered_in_order(door: Any) -> None:
    """More than are taken in at once: the rest waits in the parser, and then in the network."""
    count = 2_000
    ask = b"GET /health HTTP/1.1\r\nHost: a\r\nX-Request-ID: %d\r\n"
    async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send(b"".join(ask % n + b"\r\n" for n in range(count)))
        received = await stream.receive()  # by then it has been held, and let go
        await stream.send(ask % count + b"Connection: close\r\n\r\n")
        received += await to_the_end(stream)
    ids = [line.partition(b": ")[2] for line in received.split(b"\r\n") if line.startswith(b"X-Request-ID")]
    assert ids == [b"%d" % n for n in range(count + 1)]


async def test_who_has_said_all_is_still_answered(door: Any) -> None:
    async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send(WAIT + b"\r\n" + HEALTH)
        await stream.send_eof()
        await door.services.entered.wait()
        door.services.leave.set()
        received = await to_the_end(stream)
    assert statuses(received) == [200, 200]
    assert received.count(b"Connection: close") == 1


async def test_who_has_said_half_is_not_waited_for(door: Any) -> None:
    for begun in (b"", HEALTH[:10], CHUNKED + b"5\r\nab"):
        async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
            await stream.send(begun)
            await stream.send_eof()
            assert set(statuses(await to_the_end(stream))) <= {400}
    assert (await door.call("GET", "/health"))[0] == 200
    with anyio.fail_after(3):
        while door.server._dispatcher.in_flight:
            await anyio.lowlevel.checkpoint()


async def test_a_body_that_breaks_is_refused_at_once(door: Any) -> None:
    async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send(CHUNKED + b"2\r\nab\r\n")
        with anyio.fail_after(3):
            while not door.server._dispatcher.in_flight:
                await anyio.lowlevel.checkpoint()
        await stream.send(b"zz\r\n")
        received = await to_the_end(stream, 2.0)  # the request itself would have ten seconds
    assert statuses(received) == [400]


async def test_an_upgrade_that_is_not_taken_changes_nothing(door: Any) -> None:
    """RFC 9110, 7.8: what follows it is HTTP again, and where it is not, it is a bad request."""
    for protocol in (b"websocket", b"foo", b"h2c", b"TCP"):
        upgrade = HEALTH[:-2] + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
        async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
            await stream.send(upgrade + HEALTH + upgrade + b"\x81\x05hello")
            received = await to_the_end(stream)
        assert statuses(received) == [200, 200, 200, 400]
        assert received.count(b"Connection: close") == 1


async def test_a_body_larger_than_what_waits_to_be_read_comes_in_whole(open_door: Any) -> None:
    size = 40 * BUFFER
    head = b"POST /api/v1/signed HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    async with (
        open_door(Settings(max_body_bytes=size)) as door,
        await anyio.connect_tcp("127.0.0.1", door.port) as stream,
    ):
        await stream.send(head + b"a" * size)
        assert b'"data":%d' % size in await to_the_end(stream)


async def test_a_deadline_ends_one_request_and_not_the_next_on_its_connection(door: Any) -> None:
    async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send((WAIT + b"X-Request-Timeout: 0.05\r\n\r\n" + HEALTH) * 2)
        received = b""
        with anyio.fail_after(3):
            while len(statuses(received)) < 4:
                received += await stream.receive()
    assert statuses(received) == [503, 200, 503, 200]


async def test_deadlines_of_one_length_come_due_each_at_its_time(open_door: Any) -> None:
    """They share one timer, also those that began later, and those that others were answered before."""
    async with open_door(Settings(timeout_s=0.3)) as door, anyio.create_task_group() as group:
        took: list[float] = []

        async def wait() -> None:
            began = anyio.current_time()
            assert (await door.call("GET", "/api/v1/wait"))[0] == 503
            took.append(anyio.current_time() - began)

        for _ in range(3):
            group.start_soon(wait)
            await door.call("GET", "/health")
            with anyio.move_on_after(0.1):
                await door.services.leave.wait()
    assert [each for each in took if not 0.25 < each < 1.0] == []
    assert len(took) == 3


@pytest.mark.parametrize("resets", [True, False], ids=["resets", "closes"])
async def test_what_a_client_that_has_gone_asked_for_is_done_all_the_same(door: Any, *, resets: bool) -> None:
    with socket.create_connection(("127.0.0.1", door.port)) as client:
        client.sendall(WAIT + b"\r\n")
        await door.services.entered.wait()
        if resets:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with anyio.fail_after(3):
        while resets and door.server.connections:
            await anyio.lowlevel.checkpoint()
        assert door.server._dispatcher.in_flight == 1
        door.services.leave.set()
        await door.server._dispatcher.idle()
        while door.server.connections:
            await anyio.lowlevel.checkpoint()
    assert [status for _, _, status in door.observed] == [200]


async def test_a_reset_that_the_loop_has_not_seen_yet_ends_the_connection_quietly(door: Any) -> None:
    """The response to a client that has just gone causes the reset, before our end of the stream is closed."""
    with socket.create_connection(("127.0.0.1", door.port)) as client:
        client.sendall(WAIT + b"Content-Length: 5\r\n\r\n")
        await door.services.entered.wait()
        (connection,) = door.server.connections
        connection.transport.pause_reading()  # as the loop does while it is busy elsewhere
        client.sendall(b"a")
    door.services.leave.set()
    with anyio.fail_after(3):
        while door.server.connections:
            await anyio.lowlevel.checkpoint()
    assert (await door.call("GET", "/health"))[0] == 200


async def test_a_large_answer_comes_whole_to_who_reads_it_slowly(door: Any) -> None:
    asks = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n"
    async with await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send(asks + b"\r\n" + asks + b"Connection: close\r\n\r\n")
        received = b""
        with anyio.fail_after(20):
            try:
                while True:
                    received += await stream.receive(50_000)
            except anyio.EndOfStream:
                pass
    first, second = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.partition(b"\r\n\r\n")[2] == second.partition(b"\r\n\r\n")[2]
    assert len(first.partition(b"\r\n\r\n")[2]) > 1_000_000


async def test_a_connection_leaves_nothing_behind(door: Any) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(partial(door.raw, HEALTH[:-2] + b"Connection: close\r\n\r\n"))
    with anyio.fail_after(3):
        while door.server.connections:
            await anyio.lowlevel.checkpoint()
    assert door.server._dispatcher.in_flight == 0
    assert not door.server._dispatcher.deadlines._running


async def test_a_refused_body_is_let_go_at_once_and_waits_for_no_garbage_collection(door: Any) -> None:
    """A collection is rare, and a body in a cycle would wait for it: so many large ones are much memory."""
    head = (
        b"POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", door.port)) as client:
        with anyio.fail_after(3):
            while not [each for each in door.server.connections if each._arrival]:
                await anyio.lowlevel.checkpoint()
            (connection,) = door.server.connections
            client.sendall(head + b"a" * 100_000)
            while not (door.observed and connection._ending):
                await anyio.lowlevel.checkpoint()
        assert (connection._arrival, connection._reader._parser) == (None, None)
        assert connection._reader._payload is EMPTY_PAYLOAD
    assert [status for _, _, status in door.observed] == [413]


async def test_there_are_so_many_connections_and_the_one_idle_for_longest_makes_room(open_door: Any) -> None:
    limits = ConnectionLimits(connections=2)
    async with (
        open_door(limits=limits) as door,
        await anyio.connect_tcp("127.0.0.1", door.port) as first,
        await anyio.connect_tcp("127.0.0.1", door.port) as second,
    ):
        for stream in (second, first):
            await stream.send(HEALTH)
            assert statuses(await stream.receive()) == [200]
            idle_since = anyio.current_time()
            while anyio.current_time() <= idle_since:  # one loop's clock turns over by the millisecond
                await anyio.lowlevel.checkpoint()
        async with await anyio.connect_tcp("127.0.0.1", door.port) as third:
            await third.send(HEALTH)
            assert statuses(await third.receive()) == [200]
            assert await to_the_end(second) == b""
            await first.send(HEALTH)
            assert statuses(await first.receive()) == [200]


async def test_where_all_are_busy_no_further_connection_is_taken(open_door: Any, caplog: Any) -> None:
    for limits in (ConnectionLimits(connections=1), ConnectionLimits(per_address=1)):
        caplog.clear()
        async with open_door(limits=limits) as door, await anyio.connect_tcp("127.0.0.1", door.port) as busy:
            await busy.send(WAIT + b"\r\n")
            await door.services.entered.wait()
            for _ in range(3):
                async with await anyio.connect_tcp("127.0.0.1", door.port) as other:
                    assert await to_the_end(other) == b""
            assert len([each for each in caplog.records if "connections" in each.message]) == 1
            door.services.leave.set()
            assert statuses(await busy.receive()) == [200]
            async with await anyio.connect_tcp("127.0.0.1", door.port) as other:
                await other.send(HEALTH)
                assert statuses(await other.receive()) == [200]
