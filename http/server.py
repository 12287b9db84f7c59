"""The actor that listens: aiohttp's runner around a `Front`, with bounds on what a slow or broken client can hold."""

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from callboard.http.documents import common_routes, document_routes
from callboard.http.exchange import Hooks, Settings
from callboard.http.front import Front
from callboard.http.routing import Route
from callboard.http.standard import Checks, liveness_routes
from callboard.runtime import Actor

LINGERING_S = 2.0  # how long the rest of a refused body is read away, so that the client sees the answer
LAST_WRITES_S = 1.0
MAX_LINE = 8_190
MAX_HEADERS = 100

S = TypeVar("S")

log = logging.getLogger(__name__)


class CannotListenError(OSError):
    """The address is taken or not ours; the message says which setting to change."""


@dataclass(frozen=True)
class Patience:
    """How long a slow client may hold a connection: over a request's line and headers, from their first byte; between
    requests; and over reading what it was answered. Over a body it may take as long as its request.
    """

    head_s: float = 10.0
    idle_s: float = 60.0
    reader_s: float = 30.0


class Connection(RequestHandler):
    """One connection. What aiohttp itself refuses (not HTTP, headers too large) gets our envelope, and no traceback.

    A client that is slower than `Patience` is cut off without a word: it would not read that either.
    """

    __slots__ = ("_patience", "_reading", "_writing", "front")

    def __init__(self, front: Front[Any], server: web.Server, patience: Patience, **options: Any) -> None:
        super().__init__(server, **options)
        self.front = front
        self._patience = patience
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Begin to wait for the rest of a head that has begun, and end to wait when it is here."""
        super().data_received(data)
        waits = self._waiter is not None and not self._waiter.done()  # for a request
        if waits and self._reading is None and data:
            self._reading = self._loop.call_later(self._patience.head_s, self._cut)
        elif not waits and self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def pause_writing(self) -> None:
        """What the client does not read piles up here: it has so long to read it down again."""
        super().pause_writing()
        self._writing = self._loop.call_later(self._patience.reader_s, self._cut)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    async def start(self) -> None:
        """Serve the connection; when it is done, what the client has not read by then has so long to be read."""
        transport = self.transport
        try:
            await super().start()
        finally:
            if transport is not None and transport.get_write_buffer_size():
                self._loop.call_later(self._patience.reader_s, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of the timers."""
        for timer in (self._reading, self._writing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer for aiohttp. Raises ConnectionError when an answer has begun: then only the connection can end."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun and cannot be finished")
        if status >= 500:  # noqa: PLR2004 - a fault of the server
            log.error("answering failed outside of any route: %s", message, exc_info=exc)
        return self.front.refuse(request)  # type: ignore[return-value]  # it has what aiohttp asks of one


class Listener(web.Server):
    """aiohttp's server, whose connections are ours."""

    def __init__(self, front: Front[Any], patience: Patience) -> None:
        super().__init__(front.handle, request_factory=self._request)  # type: ignore[arg-type]  # as above
        self.front = front
        self.patience = patience

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        most = self.front.settings.max_body_bytes
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=most)

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        return Connection(
            self.front,
            self,
            self.patience,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=self.patience.idle_s,
            lingering_time=LINGERING_S,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            # A body is never inflated: a small one could become a large one.
            auto_decompress=False,
        )


def full_table(routes: Sequence[Route[S]], checks: Checks, settings: Settings, *, documents: bool) -> list[Route[S]]:
    """A table and the routes every listener has; with `documents`, also the catalogue of errors and the documents."""
    if not documents:
        return [*routes, *liveness_routes(checks)]
    table: list[Route[S]] = [*routes, *common_routes(checks)]
    return [*table, *document_routes(table, settings.base)]


class HttpServer(Actor[None], Generic[S]):
    """Listens on `host:port` for a route table; `port` 0 takes a free one, and `on_bound` is told which.

    At the stop it takes no new connections, answers new requests on kept ones with 503 SERVER_DRAINING, lets those in
    flight finish within `grace_s`, and then closes. Give the child a `shutdown_s` of `grace_s` and 2 seconds more.
    """

    def __init__(
        self,
        routes: Sequence[Route[S]],
        services: S,
        *,
        host: str,
        port: int,
        checks: Checks,
        settings: Settings,
        hooks: Hooks,
        documents: bool = True,
        grace_s: float = 10.0,
        on_bound: Callable[[str, int], None] | None = None,
        patience: Patience = Patience(),
    ) -> None:
        self._table = full_table(routes, checks, settings, documents=documents)
        self._services = services
        self._host = host
        self._port = port
        self._settings = settings
        self._hooks = hooks
        self._grace_s = grace_s
        self._on_bound = on_bound
        self._patience = patience
        self._front: Front[S] | None = None
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None

    async def on_start(self) -> None:
        """Compile the table and listen. Raises CannotListenError."""
        self._front = Front(self._table, self._services, self._settings, self._hooks)
        self._runner = web.ServerRunner(Listener(self._front, self._patience), shutdown_timeout=LAST_WRITES_S)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, self._host, self._port, backlog=1024)
        try:
            await self._site.start()
        except OSError as error:
            await self._runner.cleanup()
            why = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise CannotListenError(error.errno, f"cannot listen on {self._host}:{self._port}: {why}") from error
        if self._on_bound is not None:
            self._on_bound(self._host, self._site.port)

    async def run(self) -> None:
        """Live until stopped; the loop does the work."""
        await anyio.sleep_forever()

    async def on_stop(self) -> None:
        """Drain, then close."""
        if self._front is None or self._runner is None or self._site is None:
            return
        self._front.draining = True
        if self._site in self._runner.sites:
            await self._site.stop()
        with anyio.move_on_after(self._grace_s):
            await self._front.idle()
        await self._runner.cleanup()
