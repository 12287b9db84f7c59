"""PostgreSQL, where the truth is kept: a pool of connections that says at once when it is away.

`Database` is the handle that actors hold; `DatabaseGuard` is the actor that connects it, and connects it again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import asyncpg

from callboard.actors.errors import SERVER_TIMEOUT, SERVER_UNAVAILABLE, Problem
from callboard.runtime import Actor, RuntimeFault, current_context

log = logging.getLogger(__name__)

ACQUIRE_TIMEOUT_S = 1.0  # how long a caller waits for a free connection
COMMAND_TIMEOUT_S = 1.5  # one statement; with the above, a stopped server is a 503 within 2 to 3 s
STATEMENT_TIMEOUT_S = 1.3  # the server's own limit, and the first to end: a slow statement does not make it away
PROBE_INTERVAL_S = 0.25

AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, crash, cannot connect now
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,  # the server's last word came while nobody asked, and the connection is not yet closed
)


class Connection(asyncpg.Connection):
    """A pooled connection with one session state of ours, its statement_timeout, which it knows. So giving it back
    needs no round trip to reset it: who takes it next sets what it needs, and that is seldom.
    """

    limit_ms: int | None = round(STATEMENT_TIMEOUT_S * 1000)  # None: unknown, since setting it was cut short

    def get_reset_query(self) -> str:
        """Nothing to reset: measured, the reset is most of what a pooled query costs beyond a held one."""
        return ""

    async def limit(self, deadline: float | None) -> None:
        """Have the server end statements at `deadline` (of the loop's time), if that is sooner than it would anyway.

        Raises Problem(SERVER_TIMEOUT) when it is over.
        """
        wanted_ms = round(STATEMENT_TIMEOUT_S * 1000)
        if deadline is not None:
            left_ms = round((deadline - asyncio.get_running_loop().time()) * 1000)
            if left_ms <= 0:
                raise Problem(SERVER_TIMEOUT)
            wanted_ms = min(wanted_ms, left_ms)
        if wanted_ms != self.limit_ms:
            self.limit_ms = None
            await self.execute(f"set statement_timeout = {wanted_ms}")
            self.limit_ms = wanted_ms


def storable(moment: datetime) -> bool:
    """Whether a time can be given to PostgreSQL: it goes in UTC, where its year may be 0 or 10000."""
    try:
        moment.astimezone(UTC)
    except OverflowError:
        return False
    return True


def unavailable() -> Problem:
    """The answer while PostgreSQL is away."""
    return Problem(SERVER_UNAVAILABLE, "The database is away; try again.", retry_after_s=1)


def _gone(connection: Any) -> bool:
    """Whether a pooled connection is closed. One that closed by itself is the pool's again, and raises at any call."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


def _drop(connection: Any) -> None:
    """Close a connection at once, if it is not gone already."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


class Database:
    """A bounded pool. While the server is away every call raises Problem(SERVER_UNAVAILABLE), without waiting.

    A statement that takes longer than STATEMENT_TIMEOUT_S, or than what the request being handled has left, is
    cancelled on the server, and raises Problem(SERVER_TIMEOUT).
    """

    def __init__(self, url: str, *, size: int = 10) -> None:
        self.url = url
        self.size = size
        self.away = asyncio.Event()  # set while the server cannot be used; the guard waits for it
        self.away.set()
        self.back = asyncio.Event()
        self._pool: asyncpg.Pool[Any] | None = None

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """A connection for single statements. Raises Problem(SERVER_UNAVAILABLE, SERVER_TIMEOUT)."""
        pool = self._pool  # ours to the end, though the guard connects another meanwhile
        if pool is None or self.away.is_set():
            raise unavailable()
        connection: Any = None
        try:
            context = current_context()
            connection = await pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
            await connection.limit(context and context.deadline)
            yield connection
        except RuntimeFault:  # an ask inside the block that timed out says nothing about the database
            raise
        except TimeoutError as error:
            if connection is None:  # all connections are taken: the server may be well
                raise unavailable() from error
            _drop(connection)
            self.lose(error, pool)
            raise unavailable() from error
        except (asyncpg.TooManyConnectionsError, asyncpg.QueryCanceledError) as error:
            # Others have the connections, or the statement took too long: what we hold goes on working.
            late = isinstance(error, asyncpg.QueryCanceledError)
            raise Problem(SERVER_TIMEOUT) if late else unavailable() from error
        except (asyncpg.InterfaceError, *AWAY) as error:
            if isinstance(error, asyncpg.InterfaceError) and connection is not None and not _gone(connection):
                raise
            self.lose(error, pool)
            raise unavailable() from error
        finally:
            if connection is not None:
                try:
                    await pool.release(connection, timeout=ACQUIRE_TIMEOUT_S)
                except (asyncpg.InterfaceError, *AWAY) as error:  # it is terminated; the block's own outcome stands
                    self.lose(error, pool)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A connection in a transaction, committed when the block ends and rolled back when it raises."""
        async with self.acquire() as connection:
            cancelled = None
            try:
                async with connection.transaction():
                    try:
                        yield connection
                    except asyncio.CancelledError as error:
                        cancelled = error
                        raise
                    except RuntimeFault:
                        raise
                    except TimeoutError:
                        _drop(connection)  # a server that gave no answer gives none to a rollback either
                        raise
            except (asyncpg.InterfaceError, *AWAY) as error:
                if cancelled is None:
                    raise
                _drop(connection)  # it could not be rolled back; the server does that when it finds us gone
                self.lose(error)
                raise cancelled from None

    def lose(self, error: BaseException, pool: "asyncpg.Pool[Any] | None" = None) -> None:
        """Note that the server is away; what befalls a connection of an earlier `pool` says nothing of this one."""
        if pool is not None and pool is not self._pool:
            return
        if not self.away.is_set():
            log.warning("PostgreSQL is away: %s", type(error).__name__)
        self.back.clear()
        self.away.set()

    async def connect(self) -> None:
        """Connect the pool anew. Raises one of `AWAY` when the server is away."""
        self.disconnect()
        pool = asyncpg.create_pool(
            self.url,
            min_size=0,  # asyncpg would keep a floor by itself, and race with the guard for a server that is away
            max_size=self.size,
            timeout=ACQUIRE_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            connection_class=Connection,
            server_settings={
                "application_name": "callboard",
                "timezone": "UTC",
                "statement_timeout": str(round(STATEMENT_TIMEOUT_S * 1000)),
            },
        )
        self._pool = await pool
        try:
            await self._pool.fetchval("select 1")
        except BaseException:
            self.disconnect()
            raise
        self.away.clear()
        self.back.set()

    def disconnect(self) -> None:
        """Drop all connections at once, also while they hang."""
        self.back.clear()
        self.away.set()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def check(self) -> None:
        """Raise Problem(SERVER_UNAVAILABLE) unless the server answers."""
        async with self.acquire() as connection:
            await connection.fetchval("select 1")


class DatabaseGuard(Actor[None]):
    """Connects the database, notices its loss by signal, and tries until it is back; its absence crashes nobody."""

    def __init__(self, database: Database, prepare: Callable[[str], Awaitable[None]]) -> None:
        self.database = database
        self.prepare = prepare

    async def run(self) -> None:
        """Connect whenever the database is away; `prepare(url)` sees first that it has our schema."""
        while True:
            await self.database.away.wait()
            try:
                await self.prepare(self.database.url)
                await self.database.connect()
            except (asyncpg.InterfaceError, *AWAY) as error:
                log.debug("PostgreSQL is still away: %s", error)
                await asyncio.sleep(PROBE_INTERVAL_S)
            else:
                log.info("PostgreSQL is here")

    async def on_stop(self) -> None:
        """Close the connections, gently when they answer."""
        self.database.disconnect()
