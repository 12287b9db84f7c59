"""Clients that ask and do not read, that connect and say nothing, and that send bodies to harm: the others hardly
notice, and memory stays where it was.
"""

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection

import psutil
import pytest

UNREAD, IDLE = 200, 1_000
ASKED = 20  # times each who does not read asks for 1.5 MB and more
GROWS = 150 << 20
P99_S = 0.1
ROUNDS = 3  # other work on this machine can spoil one
SERVER = """
import asyncio, uvloop
from callboard.http.call import Call, Reply
from callboard.http.connection_limits import ConnectionLimits
from callboard.http.exchange import Hooks, Settings
from callboard.http.routing import Access, Route
from callboard.http.server import HttpServer
from callboard.ops.descriptors import raise_limit

LARGE = "a" * 500_000  # an article with its markup made safe
async def large(call: Call[None, None, object]) -> Reply[str]: return Reply(LARGE)
async def taken(call: Call[bytes, None, object]) -> Reply[int]: return Reply(len(call.body))

async def main():
    raise_limit(4096)
    routes = (
        Route("GET", "/large", large, "L", "x", Access.PUBLIC),
        Route("POST", "/taken", taken, "T", "x", Access.PUBLIC),
    )
    server = HttpServer(routes, None, host="127.0.0.1", port=0, checks={}, settings=Settings(), hooks=Hooks(),
        limits=ConnectionLimits(per_address=4096), on_bound=lambda _, port: print(port, flush=True))
    await server.on_start()
    await server.run()
uvloop.run(main())
"""


@pytest.fixture
def server() -> Iterator[tuple[psutil.Process, int]]:
    """A front door in a process of its own, and its port."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as ran:  # noqa: S603 - ours
        try:
            assert ran.stdout is not None
            yield psutil.Process(ran.pid), int(ran.stdout.readline())
        finally:
            ran.kill()


def connected(stack: ExitStack, port: int, sent: bytes = b"") -> None:
    """A client that sends this and reads nothing."""
    client = stack.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    client.send(sent)


def slowest_hundredth(port: int, count: int = 300) -> float:
    """The 99th percentile of a well-behaved client's waits, in seconds."""
    client = HTTPConnection("127.0.0.1", port, timeout=10)
    waits = []
    for _ in range(count):
        began = time.monotonic()
        client.request("GET", "/health")
        assert client.getresponse().read()
        waits.append(time.monotonic() - began)
    client.close()
    return sorted(waits)[-max(1, count // 100)]


@pytest.mark.timeout(120)
def test_clients_that_do_not_read_cost_a_bounded_memory_and_nobody_else_their_time(
    server: tuple[psutil.Process, int],
) -> None:
    process, port = server
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    slowest_hundredth(port)
    before = process.memory_info().rss
    chunks = b"1\r\na\r\n" * 50_000
    hostile = b"POST /api/v1/taken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    try:
        with ExitStack() as stack:
            for number in range(UNREAD):
                path = (b"/docs/swagger-ui-bundle.js", b"/api/v1/large")[number % 2]
                connected(stack, port, (b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n") * ASKED)
            for _ in range(IDLE):
                connected(stack, port)
            for _ in range(20):
                connected(stack, port, hostile)
            assert min(slowest_hundredth(port) for _ in range(ROUNDS)) < P99_S
            assert process.memory_info().rss - before < GROWS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
