"""The actor that listens: aiohttp's runner around a `Front`, with bounds on what a slow or broken client can hold."""

import errno
import logging
from collections.abc import Callable, Sequence
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

KEEPALIVE_S = 60.0  # also how long a client may take over its request line and headers
LINGERING_S = 2.0  # how long the rest of a refused body is read away, so that the client sees the answer
LAST_WRITES_S = 1.0
MAX_LINE = 8_190
MAX_HEADERS = 100

S = TypeVar("S")

log = logging.getLogger(__name__)


class CannotListenError(OSError):
    """The address is taken or not ours; the message says which setting to change."""


class Connection(RequestHandler):
    """One connection. What aiohttp itself refuses (not HTTP, headers too large) gets our envelope, and no traceback."""

    __slots__ = ("front",)

    def __init__(self, front: Front[Any], server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self.front = front

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
        return self.front.refuse(request)


class Listener(web.Server):
    """aiohttp's server, whose connections are ours."""

    def __init__(self, front: Front[Any]) -> None:
        super().__init__(front.handle, request_factory=self._request)
        self.front = front

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        most = self.front.settings.max_body_bytes
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=most)

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        return Connection(
            self.front,
            self,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
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
    ) -> None:
        self._table = full_table(routes, checks, settings, documents=documents)
        self._services = services
        self._host = host
        self._port = port
        self._settings = settings
        self._hooks = hooks
        self._grace_s = grace_s
        self._on_bound = on_bound
        self._front: Front[S] | None = None
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None

    async def on_start(self) -> None:
        """Compile the table and listen. Raises CannotListenError."""
        self._front = Front(self._table, self._services, self._settings, self._hooks)
        self._runner = web.ServerRunner(Listener(self._front), shutdown_timeout=LAST_WRITES_S)
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
