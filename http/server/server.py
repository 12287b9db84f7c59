"""The actor that listens: it makes a `Connection` for each client, and drains before it closes."""

import asyncio
import errno
import socket
from collections.abc import Callable, Container, Sequence
from typing import Any

import anyio

from callboard.http.openapi.swagger import common_routes, document_routes
from callboard.http.pages.mail_pages import mail_page_routes
from callboard.http.server.connection import Connection, ConnectionTimeouts
from callboard.http.server.connection_limits import ConnectionLimits, OpenConnections
from callboard.http.server.dispatcher import Dispatcher
from callboard.http.server.errors import CannotListenError
from callboard.http.server.health import Checks, liveness_routes
from callboard.http.server.raw_request import ServerDependencies, Settings
from callboard.http.server.routing import Route
from callboard.http.server.versions import in_versions
from callboard.runtime import Actor

BACKLOG = 1024
KERNEL_UNSENT = 1 << 16  # bytes of a response that the kernel buffers: its default is megabytes a connection
# Of a client that has left the network without a word: else the kernel sends again for a quarter of an hour.
USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
LAST_WRITES_S = 1.0
DEFAULT_TIMEOUTS = ConnectionTimeouts()
LIMITED = ConnectionLimits()


def full_table(
    routes: Sequence[Route[Any]],
    checks: Checks,
    settings: Settings,
    *,
    documents: bool,
    essential: Container[str] | None = None,
) -> list[Route[Any]]:
    """Return a table with the routes of every version and of every listener; with `documents`, also the catalogue of
    errors, the documents and the pages that links in mails open. Raises ValueError for versions without notice.
    """
    common = common_routes(checks, essential, settings.errors) if documents else liveness_routes(checks, essential)
    table = in_versions([*routes, *common], settings.base)
    if not documents:
        return table
    return [*table, *document_routes(table, settings.base), *mail_page_routes(settings.base)]


class HttpServer(Actor[None]):
    """Listens on `host:port` for a route table; `port` 0 takes a free one, and `on_bound` gets it. With `reuse_port`
    other processes of ours may listen there too, and the kernel shares the connections.

    /ready is 503 if a check fails; with `essential`, only if one of those does. At the stop it first tells load
    balancers: for `delay_s` it serves everything as before, but /ready is 503 and each response closes its connection.
    Then it accepts no new connections, answers new requests on kept ones with 503 SERVER_DRAINING, lets those in flight
    finish within `grace_s`, and closes. Give the child a `shutdown_s` of both and 2 seconds more.
    """

    def __init__(
        self,
        routes: Sequence[Route[Any]],
        *,
        host: str,
        port: int,
        checks: Checks,
        essential: Container[str] | None = None,
        settings: Settings,
        dependencies: ServerDependencies,
        documents: bool = True,
        delay_s: float = 0.0,
        grace_s: float = 10.0,
        on_bound: Callable[[str, int], None] | None = None,
        timeouts: ConnectionTimeouts = DEFAULT_TIMEOUTS,
        limits: ConnectionLimits = LIMITED,
        reuse_port: bool = False,
    ) -> None:
        self._table = full_table(routes, checks, settings, documents=documents, essential=essential)
        self._host = host
        self._port = port
        self._settings = settings
        self._dependencies = dependencies
        self._delay_s = delay_s
        self._grace_s = grace_s
        self._on_bound = on_bound
        self._timeouts = timeouts
        self._limits = limits
        self._reuse_port = reuse_port
        self._connections: OpenConnections[Connection] | None = None
        self._dispatcher: Dispatcher | None = None
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> OpenConnections[Connection]:
        """Return the open connections. Raises RuntimeError before the start."""
        if self._connections is None:
            raise RuntimeError("the server has not been started")
        return self._connections

    async def on_start(self) -> None:
        """Compile the table and listen. Raises CannotListenError."""
        loop = asyncio.get_running_loop()
        open_ = self._connections = OpenConnections(
            self._limits, self._settings.proxies, self._dependencies.connection_closed
        )
        dispatcher = self._dispatcher = Dispatcher(self._table, self._settings, self._dependencies)

        def connection() -> Connection:
            return Connection(dispatcher, open_, self._timeouts, loop)

        try:
            self._server = await loop.create_server(
                connection, self._host, self._port, backlog=BACKLOG, reuse_port=self._reuse_port or None
            )
        except OSError as error:
            why = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise CannotListenError(error.errno, f"cannot listen on {self._host}:{self._port}: {why}") from error
        for listening in self._server.sockets:  # inherited by each connection
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT)
            if USER_TIMEOUT is not None:
                listening.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, round(self._timeouts.reader_s * 1000))
        if self._on_bound is not None:
            self._on_bound(self._host, self._server.sockets[0].getsockname()[1])

    async def run(self) -> None:
        """Wait until stopped; the loop does the work."""
        await anyio.sleep_forever()

    async def on_stop(self) -> None:
        """Leave, drain, then close."""
        if self._dispatcher is None or self._server is None:
            return
        self._dispatcher.leaving = True
        await anyio.sleep(self._delay_s)
        self._dispatcher.draining = True
        self._server.close()
        for connection in self.connections:
            connection.end_live()
        with anyio.move_on_after(self._grace_s):
            await self._dispatcher.idle()
        for connection in self.connections:
            connection.end()
        with anyio.move_on_after(LAST_WRITES_S):
            await self._all_gone()
        for connection in self.connections:
            connection.abort()

    async def _all_gone(self) -> None:
        while self.connections:
            await next(iter(self.connections)).gone.wait()
