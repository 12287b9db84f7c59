"""The PostgreSQL server behind all pools of a process: whether it is there, why not, and how its clock goes."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg

from callboard.actors.infrastructure.database_connection import Connection, PooledConnection, is_pooled
from callboard.actors.infrastructure.postgres_errors import Judgement, Scope, Verdict, words

log = logging.getLogger(__name__)

ACQUIRE_TIMEOUT_S = 1.0  # how long a caller waits for a free connection
EXPIRE_INTERVAL_S = 0.5  # all connections are replaced at most this often while the server is read-only
TROUBLE_S = 1.0  # how long a state that passes is shown after it was seen: it may be over by then
REPEAT_S = 60.0  # how soon the same state is logged again
SKEW_S = 5.0  # more than that between the clocks is worth a warning

ERRORS = (
    OSError,
    TimeoutError,
    UnicodeError,  # a host name that is none
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server's last word came while nobody asked
)


class Pooler(StrEnum):
    """Whether a pooler in transaction mode stands before the server."""

    AUTO = "auto"
    TRANSACTION = "transaction"
    NONE = "none"


class ConnectionPool(Protocol):
    """A pool as its server sees it."""

    async def open(self) -> None:
        """Make the pool."""

    def close(self) -> None:
        """Drop its connections."""

    async def expire(self) -> None:
        """Have its connections replaced."""


def shown_address(url: str) -> str:
    """Host, port and database of a URL, without its login and its options."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + parts.path


class DatabaseServer:
    """The state of the database server as this process knows it, shared by all pools. It is unavailable until `connect`
    succeeds.

    `direct_url` is for what needs a session; `observe` is told each error by its verdict and state.
    """

    def __init__(
        self,
        url: str,
        *,
        direct_url: str = "",
        pooler: Pooler = Pooler.AUTO,
        observe: Callable[[str, str], None] = lambda _verdict, _state: None,
        wall: Callable[[], float] = time.time,
        even: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.direct_url = direct_url or url
        self.direct_setting = "DATABASE_DIRECT_URL" if direct_url else "DATABASE_URL"
        self.pooler = pooler
        self.pooled = pooler is Pooler.TRANSACTION
        self.pools: list[ConnectionPool] = []
        self.away = asyncio.Event()  # set while the server cannot be used; the guard waits for it
        self.away.set()
        self.back = asyncio.Event()
        self.has_worked = False
        self.why = "not connected yet"
        self.skew_s = 0.0  # by how much the database's clock is ahead of ours
        self._observe = observe
        self.observe_query: Callable[[Any], None] | None = None  # is told of each statement, as asyncpg tells it
        self._wall = wall
        self._even = even
        self._seen: tuple[datetime, float] | None = None  # the database's clock, and when by our even one
        self._told: dict[str, float] = {}  # what was logged, and when
        self._trouble: tuple[str, float] | None = None
        self._expired_at = -EXPIRE_INTERVAL_S
        self._expiring: set[asyncio.Task[None]] = set()

    # What befalls it -------------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """The state that the server was in just now, which passes; or nothing."""
        if self._trouble is None or time.monotonic() - self._trouble[1] > TROUBLE_S:
            return ""
        return self._trouble[0]

    def suffer(self, judgement: Judgement, error: BaseException) -> None:
        """Take note of an error that one of the pools has met."""
        state = (error.sqlstate if isinstance(error, asyncpg.PostgresError) else None) or type(error).__name__
        self._observe(judgement.verdict, state)
        if judgement.scope is Scope.SERVER:
            self.mark_unavailable(judgement, error)
            return
        if judgement.verdict is Verdict.PASSES:
            self._trouble = judgement.why, time.monotonic()
            self._tell(judgement.why, f"PostgreSQL: {judgement.why}; {words(error)}")
        if judgement.scope is Scope.ENDPOINT:
            self.expire()

    def mark_unavailable(self, judgement: Judgement, error: BaseException) -> None:
        """Note that the server is away."""
        if not self.away.is_set():
            self.why = judgement.why
            log.warning("PostgreSQL is unavailable: %s; %s", judgement.why, words(error))
        self.back.clear()
        self.away.set()

    def report(self, setting: str, judgement: Judgement, error: BaseException) -> str:
        """Say why it cannot be connected, once for each reason. The reason, with the setting and the address."""
        url = self.url if setting == "DATABASE_URL" else self.direct_url
        self.why = judgement.why
        line = f"{setting} ({shown_address(url)}): {judgement.why}; {words(error)}"
        self._tell(line, line)
        return line

    def _tell(self, reason: str, line: str) -> None:
        now = time.monotonic()
        if now - self._told.get(reason, -REPEAT_S) >= REPEAT_S:
            self._told = {known: when for known, when in self._told.items() if now - when < REPEAT_S}
            self._told[reason] = now
            log.warning("%s", line)

    # Its connections -------------------------------------------------------------------------------------------------

    async def make_pool(self, size: int, timeout_s: float) -> "asyncpg.Pool[Any]":
        """A pool of up to `size` connections, none of them open yet."""
        return await asyncpg.create_pool(
            self.url,
            min_size=0,  # asyncpg would keep a floor by itself, and race with the guard for a server that is away
            max_size=size,
            timeout=ACQUIRE_TIMEOUT_S,
            command_timeout=timeout_s,
            connection_class=PooledConnection if self.pooled else Connection,
            statement_cache_size=0 if self.pooled else 100,
            server_settings={"application_name": "callboard", "timezone": "UTC"},
            init=self._watch_queries,
        )

    async def _watch_queries(self, connection: Any) -> None:
        if self.observe_query is not None:
            connection.add_query_logger(self.observe_query)

    async def connect(self) -> None:
        """Connect all pools anew. Raises one of `ERRORS` when the server is away."""
        self.disconnect()
        try:
            await self._meet()
            for pool in self.pools:
                await pool.open()
        except BaseException:
            self.disconnect()
            raise
        self.has_worked = True
        self._told.clear()
        self.why = ""
        self.away.clear()
        self.back.set()

    async def _meet(self) -> None:
        """See who answers, and how its clock goes."""
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
        """Drop all connections at once, also while they hang."""
        self.back.clear()
        self.away.set()
        for pool in self.pools:
            pool.close()

    def expire(self) -> None:
        """Have all connections replaced: after a failover they lead to a server that takes no writes any more."""
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

    # Its clock -------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The database's time: by its clock when we last saw it, and by our even one since. Ours alone before that.

        So processes whose clocks disagree issue and judge what expires alike, and a clock that jumps does nothing.
        """
        if self._seen is None:
            return datetime.fromtimestamp(self._wall(), UTC)
        moment, at = self._seen
        return moment + timedelta(seconds=self._even() - at)

    async def compare_clocks(self) -> None:
        """See how far the database's clock is from ours, over a connection of its own. Raises one of `ERRORS`."""
        connection = await asyncpg.connect(
            self.url, timeout=ACQUIRE_TIMEOUT_S, command_timeout=ACQUIRE_TIMEOUT_S, statement_cache_size=0
        )
        try:
            await self._compare_clocks(connection)
        finally:
            connection.terminate()

    async def _compare_clocks(self, connection: Any) -> None:
        async with connection.transaction(readonly=True):
            before, ours = self._even(), self._wall()
            theirs = await connection.fetchval("select clock_timestamp()")
            middle = (before + self._even()) / 2
        self._seen = theirs, middle
        was, self.skew_s = self.skew_s, theirs.timestamp() - ours - (middle - before)
        if abs(self.skew_s) > SKEW_S >= abs(was):
            log.warning(
                "this machine's clock is %.1f s %s the database's clock, which Callboard uses: synchronise it by NTP",
                abs(self.skew_s),
                "behind" if self.skew_s > 0 else "ahead of",
            )
