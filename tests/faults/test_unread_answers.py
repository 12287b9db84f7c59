"""Clients that ask and do not read, that connect and say nothing, and that send bodies to harm: the others are answered
at the same cost, and memory stays where it was.

The cost is the server's time on the processor, since a time by the clock says more of the machine than of the server.
"""

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection

import psutil
import pytest

UNREAD, IDLE = 200, 1_000
ASKED = 20  # times each who does not read asks for 1.5 MB and more
GROWS = 150 << 20
COUNT = 400  # requests of a client that behaves
COSTS = 3.0  # times as much as without the others: a connection that is served in vain costs many times that
SERVER = """
import asyncio, uvloop
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.connection_limits import ConnectionLimits
from callboard.http.server.raw_request import ServerDependencies, Settings
from callboard.http.server.routing import Access, Route
from callboard.http.server.server import HttpServer
from callboard.ops.descriptors import raise_limit

LARGE = "a" * 500_000  # an article with its markup made safe
async def large(request: HttpRequest[None, None, object]) -> Reply[str]: return Reply(LARGE)
async def taken(request: HttpRequest[bytes, None, object]) -> Reply[int]: return Reply(len(request.body))

async def main():
    raise_limit(4096)
    routes = (
        Route("GET", "/large", large, "L", "x", Access.PUBLIC),
        Route("POST", "/taken", taken, "T", "x", Access.PUBLIC),
    )
    server = HttpServer(routes, host="127.0.0.1", port=0, checks={}, settings=Settings(),
        dependencies=ServerDependencies(), limits=ConnectionLimits(per_address=4096),
        on_bound=lambda _, port: print(port, flush=True))
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


def cost_s(process: psutil.Process, port: int) -> float:
    """What the requests of a client that behaves cost the server: seconds of the processor. All are answered."""
    client = HTTPConnection("127.0.0.1", port, timeout=60)
    began = sum(process.cpu_times()[:2])
    for _ in range(COUNT):
        client.request("GET", "/health")
        response = client.getresponse()
        assert (response.status, bool(response.read())) == (200, True)
    client.close()
    return float(sum(process.cpu_times()[:2])) - began


@pytest.mark.timeout(120)
def test_clients_that_do_not_read_cost_a_bounded_memory_and_nobody_else_their_time(
    server: tuple[psutil.Process, int],
) -> None:
    process, port = server
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cost_s(process, port)  # to warm up
    alone_s = cost_s(process, port)
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
            cost_s(process, port)  # what they have asked for has its answer, or its refusal
            assert cost_s(process, port) < COSTS * max(alone_s, 0.05)
            assert process.memory_info().rss - before < GROWS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
