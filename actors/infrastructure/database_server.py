"""The PostgreSQL server behind all pools of a process: its availability, the reason of an outage, and its clock."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from callboard.actors.infrastructure import database_connection
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.database_connection import Connection, PooledConnection, is_pooled
from callboard.actors.infrastructure.postgres_errors import Judgement, Scope, Verdict, words

log = logging.getLogger(__name__)

ACQUIRE_TIMEOUT_S = 1.0  # the wait of a caller for a free connection
EXPIRE_INTERVAL_S = 0.5  # the least time between replacements of all connections while the server is read-only
TROUBLE_S = 1.0  # how long a temporary state is reported after it was seen
REPEAT_S = 60.0  # the least time between log lines of one state
NO_SESSION = "DATABASE_DIRECT_URL is missing: DATABASE_URL leads through a pooler, over which no events are published"
FIRST_PROBE_S, LAST_PROBE_S = 0.1, 0.4  # all that the product does waits for this server
SKEW_S = 5.0  # a larger difference between the clocks is logged as a warning

ERRORS = (
    OSError,
    TimeoutError,
    UnicodeError,  # not a valid host name
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server's last message, which arrived while no statement ran
)


class Pooler(StrEnum):
    """Whether a pooler in transaction mode is in front of the server."""

    AUTO = "auto"
    TRANSACTION = "transaction"
    NONE = "none"


class ConnectionPool(Protocol):
    """A pool, as its server sees it."""

    async def open(self) -> None:
        """Make the pool."""

    def close(self) -> None:
        """Close its connections."""

    async def expire(self) -> None:
        """Have its connections replaced."""


def session_settings(name: str, *, pooled: bool = False) -> dict[str, str]:
    """Return the settings of a session of our own; a pooler takes no others than the first two."""
    idle = {} if pooled else {"idle_in_transaction_session_timeout": str(database_connection.IDLE_TRANSACTION_MS)}
    return {"application_name": name, "timezone": "UTC"} | idle


def shown_address(url: str) -> str:
    """Return host, port and database of a URL, without credentials and options."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + parts.path


def wants_tls(url: str) -> bool:
    """Return whether a URL demands TLS, as libpq reads it."""
    modes = parse_qs(urlsplit(url).query).get("sslmode") or [os.environ.get("PGSSLMODE", "")]
    return modes[-1] in ("require", "verify-ca", "verify-full")


class DatabaseServer:
    """The state of the database server in this process, shared by all pools. It is unavailable until `connect`
    succeeds.

    `direct_url` is for work that needs a session; `observe` is called for each error with its class and state.
    """

    def __init__(
        self,
        url: str,
        *,
        direct_url: str = "",
        pooler: Pooler = Pooler.AUTO,
        observe: Callable[[str, str], None] = lambda _verdict, _state: None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.direct_url = direct_url or url
        self.direct_setting = "DATABASE_DIRECT_URL" if direct_url else "DATABASE_URL"
        self.pooler = pooler
        self.pooled = pooler is Pooler.TRANSACTION
        self.pools: list[ConnectionPool] = []
        self.breaker = CircuitBreaker("postgresql", first_s=FIRST_PROBE_S, last_s=LAST_PROBE_S, clock=monotonic)
        self.unavailable = asyncio.Event()  # set while the server is unavailable; the guard waits for it
        self.unavailable.set()
        self.available = asyncio.Event()
        self.has_worked = False
        self.why = "not connected yet"
        self.skew_s = 0.0  # the database's clock minus ours
        self._observe = observe
        self.observe_query: Callable[[Any], None] | None = None  # called for each statement, by asyncpg
        self._wall = wall
        self._monotonic = monotonic
        self._seen: tuple[datetime, float] | None = None  # the database's clock, and our monotonic clock then
        self._told: dict[str, float] = {}  # the last log line of each state, and its time
        self._refused: dict[str, float] = {}  # the same of attempts to connect, since the last that succeeded
        self._return_is_news = True  # whether its loss was logged; at first nothing was
        self._trouble: tuple[str, float] | None = None
        self._expired_at = -EXPIRE_INTERVAL_S
        self._expiring: set[asyncio.Task[None]] = set()

    @property
    def has_sessions(self) -> bool:
        """Whether an address of the server gives a connection of one's own: a pooler in transaction mode does not."""
        return not self.pooled or self.direct_url != self.url

    # Errors -----------------------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """Return the server's temporary state of a moment ago, or nothing."""
        if self._trouble is None or time.monotonic() - self._trouble[1] > TROUBLE_S:
            return ""
        return self._trouble[0]

    def note_error(self, judgement: Judgement, error: BaseException) -> None:
        """Handle an error that one of the pools has met."""
        state = (error.sqlstate if isinstance(error, asyncpg.PostgresError) else None) or type(error).__name__
        self._observe(judgement.verdict, state)
        if judgement.scope is Scope.SERVER:
            self.mark_unavailable(judgement, error)
            return
        if judgement.verdict is Verdict.PASSES:
            self._trouble = judgement.why, time.monotonic()
        if judgement.verdict in (Verdict.PASSES, Verdict.SLOW):
            self._tell(self._told, judgement.why, f"PostgreSQL: {judgement.why}; {words(error)}")
        if judgement.scope is Scope.ENDPOINT:
            self.expire()

    def mark_unavailable(self, judgement: Judgement, error: BaseException) -> None:
        """Note that the server is unavailable. One that comes and goes is logged once a minute for each reason."""
        if not self.unavailable.is_set():
            self.why = judgement.why
            line = f"PostgreSQL is unavailable: {judgement.why}; {words(error)}"
            self._return_is_news |= self._tell(self._told, f"unavailable: {judgement.why}", line)
        self.breaker.failed(self.breaker.clock(), judgement.why)
        self.available.clear()
        self.unavailable.set()

    def report(self, setting: str, judgement: Judgement, error: BaseException) -> str:
        """Log once for each reason why it cannot be connected. Return the reason, with the setting and the address."""
        url = self.url if setting == "DATABASE_URL" else self.direct_url
        self.why = judgement.why
        line = f"{setting} ({shown_address(url)}): {judgement.why}; {words(error)}"
        self._return_is_news |= self._tell(self._refused, line, line)
        self.breaker.failed(self.breaker.clock(), judgement.why)
        return line

    @staticmethod
    def _tell(told: dict[str, float], reason: str, line: str) -> bool:
        """Log a line unless it was told for this reason within the last minute. Whether it was logged."""
        now = time.monotonic()
        for known in [known for known, when in told.items() if now - when >= REPEAT_S]:
            del told[known]
        if reason in told:
            return False
        told[reason] = now
        log.warning("%s", line)
        return True

    # Connections ------------------------------------------------------------------------------------------------------

    async def make_pool(self, size: int, timeout_s: float) -> "asyncpg.Pool[Any]":
        """Make a pool of up to `size` connections; none is open yet."""
        return await asyncpg.create_pool(
            self.url,
            min_size=0,  # asyncpg would keep a minimum by itself, and race with the guard for an unavailable server
            max_size=size,
            timeout=ACQUIRE_TIMEOUT_S,
            command_timeout=timeout_s,
            connection_class=PooledConnection if self.pooled else Connection,
            statement_cache_size=0 if self.pooled else 100,
            server_settings=session_settings("callboard", pooled=self.pooled),
            init=self._watch_queries,
            password=self._password if self._password() else None,
        )

    def _password(self) -> str:
        """Return the password of the moment: it may be rotated while a pool lives."""
        return unquote(urlsplit(self.url).password or "")

    async def _watch_queries(self, connection: Any) -> None:
        if self.observe_query is not None:
            connection.add_query_logger(self.observe_query)

    async def connect(self) -> None:
        """Reconnect all pools. Raises one of `ERRORS` if the server is unavailable."""
        self.disconnect()
        try:
            await self._identify()
            for pool in self.pools:
                await pool.open()
        except BaseException:
            self.disconnect()
            raise
        if not self.has_sessions:
            self._tell(self._told, NO_SESSION, NO_SESSION)
        self.has_worked = True
        self._refused.clear()
        self.why = ""
        self.breaker.close()
        self.unavailable.clear()
        self.available.set()
        if self._return_is_news:
            self._return_is_news = False
            log.info("PostgreSQL is available%s", ", behind a pooler" if self.pooled else "")

    async def _identify(self) -> None:
        """Identify the server, and read its clock."""
        connection = await asyncpg.connect(
            self.url, timeout=ACQUIRE_TIMEOUT_S, command_timeout=ACQUIRE_TIMEOUT_S, statement_cache_size=0
        )
        try:
            if self.pooler is Pooler.AUTO:
                self.pooled = await is_pooled(connection)
            await self._compare_clocks(connection)
        finally:
            connection.terminate()

    def disconnect(self) -> None:
        """Close all connections at once, even if they hang."""
        self.available.clear()
        self.unavailable.set()
        for pool in self.pools:
            pool.close()

    def expire(self) -> None:
        """Have all connections replaced: after a failover they lead to a server that refuses writes."""
        now = time.monotonic()
        if now - self._expired_at < EXPIRE_INTERVAL_S:
            return
        self._expired_at = now
        task = asyncio.get_running_loop().create_task(self._expire(), name="expire connections")
        self._expiring.add(task)
        task.add_done_callback(self._expiring.discard)

    async def _expire(self) -> None:
        for pool in self.pools:
            await pool.expire()

    # Clock ------------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the database's time: its last reading, plus the time since then on our monotonic clock. Before the
        first reading it is our own time.

        So processes whose clocks differ agree on expiry times, and a clock that jumps changes nothing.
        """
        if self._seen is None:
            return datetime.fromtimestamp(self._wall(), UTC)
        moment, at = self._seen
        return moment + timedelta(seconds=self._monotonic() - at)

    async def compare_clocks(self) -> None:
        """Measure the difference between the database's clock and ours, over a separate connection. Raises one of
        `ERRORS`.
        """
        connection = await asyncpg.connect(
            self.url, timeout=ACQUIRE_TIMEOUT_S, command_timeout=ACQUIRE_TIMEOUT_S, statement_cache_size=0
        )
        try:
            await self._compare_clocks(connection)
        finally:
            connection.terminate()

    async def _compare_clocks(self, connection: Any) -> None:
        async with connection.transaction(readonly=True):
            before, ours = self._monotonic(), self._wall()
            theirs = await connection.fetchval("select clock_timestamp()")
            middle = (before + self._monotonic()) / 2
        self._seen = theirs, middle
        was, self.skew_s = self.skew_s, theirs.timestamp() - ours - (middle - before)
        if abs(self.skew_s) > SKEW_S >= abs(was):
            log.warning(
                "this machine's clock is %.1f s %s the database's clock, which Callboard uses: synchronise it by NTP",
                abs(self.skew_s),
                "behind" if self.skew_s > 0 else "ahead of",
            )
