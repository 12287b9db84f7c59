"""A service that is not ours, on a port of the loopback: a real server that answers as a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from callboard.actors.infrastructure.outside_client import OutsideClient, OutsideSettings

QUICK: dict[str, Any] = {
    "allows_private": True,
    "connect_s": 1.0,
    "attempt_s": 2.0,
    "within_s": 5.0,
    "first_pause_s": 0.001,
    "max_pause_s": 0.01,
    "fresh_s": 0.0,
}


class Service:
    """Answers the given replies in their order, the last one for ever. HANG and HALF misbehave."""

    HANG = web.Response(status=598)
    HALF = web.Response(status=599)

    def __init__(self) -> None:
        self.replies: list[web.Response] = []
        self.requests: list[web.Request] = []
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()
        self.url = ""
        self._runner = web.AppRunner(self._app())

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.answer)
        return app

    def will(self, *replies: web.Response) -> None:
        """Answer so from now on."""
        self.replies = list(replies)
        self.requests.clear()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The next reply."""
        self.requests.append(request)
        self.arrived.set()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply is self.HANG:
            await self.release.wait()
            return web.Response(text="late")
        if reply is self.HALF:
            cut = web.StreamResponse(headers={"Content-Length": "100"})
            await cut.prepare(request)
            await cut.write(b"the first half")
            assert request.transport is not None
            request.transport.abort()
            return cut
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    async def start(self, port: int = 0) -> None:
        """Listen; on a port of before to come back."""
        self._runner = web.AppRunner(self._app(), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Be away."""
        self.release.set()
        await self._runner.cleanup()


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    """A service that listens."""
    made = Service()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def client_of(url: str, **settings: Any) -> AsyncIterator[OutsideClient]:
    """An open client."""
    client = OutsideClient("weather", OutsideSettings(base_url=url, **QUICK | settings))
    await client.open()
    try:
        yield client
    finally:
        await client.close()
