"""Clients that misbehave, by the hundred: some ask for large pages and files and never read, some are idle, some send a
byte at a time. And one that behaves, and measures how long it waits.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

UNREAD, IDLE, SLOW = 200, 1_000, 100
ASKED = 20  # times each client that does not read asks
PACE_S = 0.01  # between two requests of the one that behaves
ENVIRONMENT = {"HTTP_MAX_CONNECTIONS_PER_ADDRESS": "4096"}
ARTICLE = "00000000-0000-4000-8000-000000000001"
FILES = ("/docs/swagger-ui-bundle.js", "/openapi.json", f"/api/v1/content/{ARTICLE}")
LARGE = """
    insert into content (content_id, author_id, title, body, body_html, status, published_at)
    select $1::text::uuid, user_id, 'Large', repeat('a ', 99000), repeat('<b>a</b> ', 99000), 'published', now()
    from users limit 1
"""


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
    async def misbehave(self, unread: int = UNREAD, idle: int = IDLE, slow: int = SLOW) -> AsyncIterator[None]:
        """Have so many of each connected while the block runs."""
        with self._stack:
            for number in range(unread):
                await self.connect(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % FILES[number % 3].encode() * ASKED)
            for _ in range(idle):
                await self.connect()
            dripped = [await self.connect() for _ in range(slow)]
            dripping = asyncio.create_task(drip(dripped))
            yield
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)

    async def health(self, seconds: float, path: str = "/health") -> list[float]:
        """Ask over one connection at a pace, and return how long each answer took."""
        reader, writer = await asyncio.open_connection(*self.address)
        times, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.perf_counter()
            writer.write(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
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
