"""How long `/health` of `callboard up` takes, and how its memory grows, among clients that misbehave: some ask for
large pages and files and never read, some are idle, some send a byte at a time.

make bench-slow-clients     about a minute; ARGS="--seconds 5" for less
"""

import argparse
import asyncio
import contextlib
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from kit.running import one_up

from callboard.ops.descriptors import raise_limit

UNREAD, IDLE, SLOW = 200, 1_000, 100
ASKED = 20  # times each client that does not read asks
PACE_S = 0.01  # between two requests of the one that behaves
GOAL_MS, GOAL_MB = 100.0, 150.0
ENVIRONMENT = {"HTTP_MAX_CONNECTIONS_PER_ADDRESS": "4096"}
ARTICLE = "00000000-0000-4000-8000-000000000001"
FILES = ("/docs/swagger-ui-bundle.js", "/openapi.json", f"/api/v1/content/{ARTICLE}")
LARGE = """
    insert into content (content_id, author_id, title, body, body_html, status, published_at)
    select $1::text::uuid, user_id, 'Large', repeat('a ', 99000), repeat('<b>a</b> ', 99000), 'published', now()
    from users limit 1
"""


def tell(line: str) -> None:
    """Print it at once."""
    print(line, flush=True)  # noqa: T201 - what it is for


class Crowd:
    """Clients of one server; all of them leave with the block."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.address = parts.hostname or "", parts.port or 0
        self._stack = contextlib.ExitStack()

    async def connect(self, sent: bytes = b"") -> socket.socket:
        """Connect a client that sends this and reads nothing."""
        client = self._stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, self.address)
        if sent:
            client.send(sent)
        return client

    @contextlib.asynccontextmanager
    async def misbehave(self) -> AsyncIterator[None]:
        """Have all of them connected while the block runs."""
        loop = asyncio.get_running_loop()
        with self._stack:
            for number in range(UNREAD):
                await self.connect(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % FILES[number % 3].encode() * ASKED)
            for _ in range(IDLE):
                await self.connect()
            slow = [await self.connect() for _ in range(SLOW)]
            dripping = loop.create_task(drip(slow))
            yield
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)

    async def health(self, seconds: float) -> list[float]:
        """Ask over one connection at a pace, and return how long each answer took."""
        reader, writer = await asyncio.open_connection(*self.address)
        times, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.perf_counter()
            writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(head.decode())
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            times.append(time.perf_counter() - began)
            await asyncio.sleep(PACE_S)
        writer.close()
        return times


async def drip(clients: list[socket.socket]) -> None:
    """Send a request from each, one byte in a tenth of a second; a client that is cut off stays away."""
    request = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n" + b"a" * 4000
    for byte in request:
        for client in clients:
            with contextlib.suppress(OSError):
                client.send(bytes([byte]))
        await asyncio.sleep(0.1)


async def run(seconds: float) -> bool:
    """Print what was measured; whether both goals are met."""
    with one_up(ENVIRONMENT) as up:
        up.people()
        up.execute(LARGE, ARTICLE)
        process, crowd = psutil.Process(up.pid), Crowd(up.api)
        quiet = await crowd.health(seconds)
        before = process.memory_info().rss
        async with crowd.misbehave():
            times, most = [], before
            for _ in range(3):
                times += await crowd.health(seconds / 3)
                most = max(most, process.memory_info().rss)
    p99, grown = statistics.quantiles(times, n=100)[98] * 1000, (most - before) / 1e6
    tell(f"p99 of /health {statistics.quantiles(quiet, n=100)[98] * 1000:.1f} ms, among slow clients {p99:.1f} ms")
    tell(f"the slowest {max(times) * 1000:.1f} ms; memory grew by {grown:.1f} MB")
    tell(f"goals: {GOAL_MS:g} ms and {GOAL_MB:g} MB at most")
    return p99 <= GOAL_MS and grown <= GOAL_MB


def main() -> int:
    """0 when the goals are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    raise_limit(UNREAD + IDLE + SLOW + 100)
    return not asyncio.run(run(parser.parse_args().seconds))


if __name__ == "__main__":
    sys.exit(main())
