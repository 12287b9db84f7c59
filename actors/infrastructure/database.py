"""PostgreSQL, the system of record: connection pools that report at once if it is unavailable.

Actors hold a `Database`, a pool for one kind of work; the actor `DatabaseGuard` connects and reconnects all pools of a
process. `DatabaseServer` holds the state of the server itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import asyncpg
from msgspec import Struct

from callboard.actors.errors import SERVER_TIMEOUT, SERVER_UNAVAILABLE, DegradedError, Problem
from callboard.actors.infrastructure.database_server import (
    ACQUIRE_TIMEOUT_S,
    ERRORS,
    NO_SESSION,
    DatabaseServer,
    session_settings,
    wants_tls,
)
from callboard.actors.infrastructure.postgres_errors import LOST, NO_ANSWER, Scope, Verdict, judge, judge_connecting
from callboard.actors.infrastructure.retry import RetryPolicy, retry
from callboard.runtime import Actor, Backoff, RuntimeFault, current_context

P = ParamSpec("P")
R = TypeVar("R")

STATEMENT_TIMEOUT_S = 1.3  # the server's own limit: it ends a slow statement before we count the server as lost
# Our limit for a statement is this much later. All waits of a request together are bounded by its own deadline.
GRACE_S = 0.2
CONFLICTS = RetryPolicy(3, Backoff(initial_s=0.02, factor=4.0, jitter=1.0), within_s=STATEMENT_TIMEOUT_S)
CLOCK_INTERVAL_S = 30.0  # the interval between comparisons of the clocks


class TransactionConflict(Problem):
    """A concurrent transaction won, and ours is rolled back: the same work may run again at once."""

    def __init__(self) -> None:
        super().__init__(SERVER_UNAVAILABLE, "Another change was made first; try again.", retry_after_s=1)


def retried(work: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Retry a function whose only effect is one transaction: up to twice after a conflict.

    Every transaction of an actor is in such a function: a test checks that.
    """

    @wraps(work)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return await retry(
            lambda: work(*args, **kwargs),
            CONFLICTS,
            lambda error: 0.0 if isinstance(error, TransactionConflict) else None,
        )

    return run


class PoolSettings(Struct, frozen=True):
    """A pool for one kind of work: its number of connections, and the time limit of its statements."""

    size: int
    statement_timeout_s: float = STATEMENT_TIMEOUT_S


def storable(moment: datetime) -> bool:
    """Whether PostgreSQL can store a time: it is sent in UTC, where its year may become 0 or 10000."""
    try:
        moment.astimezone(UTC)
    except OverflowError:
        return False
    return True


def unavailable_problem(why: str = "The database is unavailable; try again.") -> Problem:
    """Return the response while PostgreSQL is unavailable."""
    return Problem(SERVER_UNAVAILABLE, why, retry_after_s=1)


async def shielded(work: Awaitable[None]) -> None:
    """Wait for work that goes on when its caller is cancelled; its error is then noticed all the same."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    await asyncio.shield(task)


def _gone(connection: Any) -> bool:
    """Whether a pooled connection is closed. One that closed by itself has returned to the pool, and raises at any
    call.
    """
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


def _drop(connection: Any) -> None:
    """Close a connection at once, if it is still open."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


class Database:
    """A bounded pool on a server, which may be given by its URL. While the server is unavailable every call raises
    Problem(SERVER_UNAVAILABLE), without waiting.

    A statement that exceeds the limit of the pool, or the deadline of the request, is cancelled on the server, and
    raises Problem(SERVER_TIMEOUT). Temporary errors raise Problem(SERVER_UNAVAILABLE), conflicts TransactionConflict;
    only bugs, and errors that the caller must handle, are asyncpg's own.
    """

    def __init__(
        self,
        server: DatabaseServer | str,
        *,
        size: int = 10,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
        pools: Mapping[str, PoolSettings] | None = None,
    ) -> None:
        self.server = DatabaseServer(server) if isinstance(server, str) else server
        self.size = size
        self.statement_timeout_s = statement_timeout_s
        self._pool: asyncpg.Pool[Any] | None = None
        self._kinds: dict[str, Database] = {}
        self.server.pools.append(self)
        for kind, each in (pools or {}).items():
            self._kinds[kind] = Database(self.server, size=each.size, statement_timeout_s=each.statement_timeout_s)

    def pool(self, kind: str) -> "Database":
        """Return the pool of a kind of work: its flood takes no connection of another's. By default it is this pool."""
        return self._kinds.get(kind, self)

    def kinds(self) -> "dict[str, Database]":
        """Return the pools by their work."""
        return {"requests": self, **self._kinds}

    def connections(self) -> dict[str, int]:
        """Return the number of open connections, the number in use, and the maximum."""
        pool = self._pool
        opened, idle = (0, 0) if pool is None else (pool.get_size(), pool.get_idle_size())
        return {"open": opened, "used": opened - idle, "max": self.size}

    @property
    def url(self) -> str:
        """Return the server's address for requests: it may be a pooler's."""
        return self.server.url

    @property
    def direct_url(self) -> str:
        """Return the server's address for work that needs its own session: session locks, LISTEN, migrations."""
        return self.server.direct_url

    @property
    def unavailable(self) -> asyncio.Event:
        """Set while the server is unavailable."""
        return self.server.unavailable

    @property
    def available(self) -> asyncio.Event:
        """Set while the server is available."""
        return self.server.available

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """Yield a connection for single statements. Raises Problem(SERVER_UNAVAILABLE, SERVER_TIMEOUT)."""
        pool = self._pool  # ours to the end, even if the guard connects another pool meanwhile
        if pool is None or self.unavailable.is_set():
            self.server.breaker.refused += 1
            raise unavailable_problem()
        connection: Any = None
        is_interrupted = False
        try:
            context = current_context()
            connection = await pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
            await connection.limit(self.statement_timeout_s, context and context.deadline)
            connection.take_commits()  # of work that failed
            yield connection
            for call in connection.take_commits():
                call()
        except RuntimeFault:  # a timed-out ask inside the block says nothing about the database
            raise
        except asyncio.CancelledError:
            is_interrupted = True
            raise
        except ERRORS as error:
            refusal = self._refusal(error, connection, pool)
            if refusal is None:
                raise
            raise refusal from error
        finally:
            if connection is not None:
                release = pool.release(connection, timeout=ACQUIRE_TIMEOUT_S)
                try:
                    await (shielded(release) if is_interrupted else release)
                except ERRORS as error:  # it is terminated; the block's own outcome stands
                    self._mark_unavailable(error, pool)

    def _refusal(self, error: BaseException, connection: Any, pool: "asyncpg.Pool[Any]") -> Problem | None:
        """Handle an error by its class; return the error to raise instead, or None for a bug or the caller's
        own error.
        """
        if connection is None:
            if isinstance(error, TimeoutError) and pool.get_size() == self.size:
                return unavailable_problem()  # all connections are in use: the server may be well
            judgement = judge_connecting(error)
        elif isinstance(error, asyncpg.InterfaceError):
            if not _gone(connection):
                return None
            judgement = LOST
        else:
            judgement = judge(error)
        if judgement.verdict is Verdict.BUG:
            return None
        if judgement.scope in (Scope.CONNECTION, Scope.SERVER) and connection is not None:
            _drop(connection)
        if pool is self._pool:
            self.server.note_error(judgement, error)
        if judgement.verdict is Verdict.CONFLICT:
            return TransactionConflict()
        return Problem(SERVER_TIMEOUT) if judgement.verdict is Verdict.SLOW else unavailable_problem()

    @asynccontextmanager
    async def transaction(self, opening: str = "") -> AsyncIterator[Any]:
        """Yield a connection in a transaction, committed when the block ends and rolled back when it raises.

        The statement `opening` goes with its BEGIN, and costs no round trip of its own; it has no parameters, and
        `connection.opened` is its result. Raises TransactionConflict if another transaction won; `retried` then runs
        the whole handler again.
        """
        async with self.acquire() as connection:
            cancelled = None
            if opening:
                connection.open_with(opening)
            try:
                async with connection.transaction():
                    await connection.begun()
                    try:
                        yield connection
                    except asyncio.CancelledError as error:
                        cancelled = error
                        raise
                    except RuntimeFault:
                        raise
                    except TimeoutError:
                        _drop(connection)  # a server that did not respond does not respond to a rollback either
                        raise
            except ERRORS as error:
                if cancelled is None:
                    raise
                _drop(connection)  # it could not be rolled back; the server does so when it finds us gone
                self._mark_unavailable(error, self._pool)
                raise cancelled from None

    @asynccontextmanager
    async def session(self, name: str, *, timeout_s: float, statement_timeout_s: float) -> AsyncIterator[Any]:
        """Yield a separate connection, past any pooler: for a lease, and for LISTEN. It is closed when the block ends.

        `timeout_s` limits the connection and each statement. Every error of the driver that ends the block becomes the
        cause of a Problem(SERVER_UNAVAILABLE); the pools are not affected.
        """
        if not self.server.has_sessions:
            raise unavailable_problem(NO_SESSION)
        connection: Any = None
        try:
            connection = await asyncpg.connect(
                self.direct_url,
                timeout=timeout_s,
                command_timeout=timeout_s,
                server_settings=session_settings(name) | {"statement_timeout": str(int(statement_timeout_s * 1000))},
            )
            yield connection
        except ERRORS as error:
            if connection is None:
                judgement = judge_connecting(error)
            else:
                judgement = LOST if connection.is_closed() else judge(error)
            raise unavailable_problem(judgement.why) from error
        finally:
            if connection is not None:
                connection.terminate()

    def _mark_unavailable(self, error: BaseException, pool: "asyncpg.Pool[Any] | None") -> None:
        """Note that the server is unavailable; errors of connections of an earlier `pool` do not count."""
        if pool is self._pool:
            self.server.mark_unavailable(NO_ANSWER, error)

    async def connect(self) -> None:
        """Reconnect all pools of the process. Raises one of `ERRORS` if the server is unavailable."""
        await self.server.connect()

    def disconnect(self) -> None:
        """Close all connections of all pools at once, even if they hang."""
        self.server.disconnect()

    async def open(self) -> None:
        """Make the pool; its connections are opened on demand."""
        self._pool = await self.server.make_pool(self.size, self.statement_timeout_s + GRACE_S)

    def close(self) -> None:
        """Close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def expire(self) -> None:
        """Have every connection replaced before its next use."""
        if self._pool is not None:
            await self._pool.expire_connections()

    async def check(self) -> None:
        """Raise Problem(SERVER_UNAVAILABLE) unless the server responds, and DegradedError unless it does all of its
        work.
        """
        if self.unavailable.is_set():
            raise unavailable_problem(self.server.why)
        async with self.acquire() as connection:
            read_only = await connection.fetchval("select current_setting('transaction_read_only')::boolean")
        if read_only:
            self.server.expire()
            raise DegradedError("the server is read-only")
        if self.server.trouble:
            raise DegradedError(self.server.trouble)
        if not self.server.has_sessions:
            raise DegradedError(NO_SESSION)


class DatabaseGuard(Actor[None]):
    """Connects the database, learns of its loss by signal, and retries until it is back; its absence crashes nothing.

    `prepare(url)` checks the schema before each connection. `give_up` gets the reason, once the server has refused the
    first attempts for a permanent cause.
    """

    def __init__(
        self,
        database: Database,
        prepare: Callable[[str], Awaitable[None]],
        give_up: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self.server = database.server
        self.prepare = prepare
        self.give_up = give_up

    async def run(self) -> None:
        """Connect whenever the database is unavailable, and compare the clocks while it is available."""
        while True:
            if self.server.unavailable.is_set():
                await self._connect()
            else:
                await self._watch_clock()

    async def _connect(self) -> None:
        server = self.server
        step = server.direct_setting
        try:
            await self.prepare(server.direct_url)
            step = "DATABASE_URL"
            await server.connect()
        except ERRORS as error:
            url = server.url if step == "DATABASE_URL" else server.direct_url
            judgement = judge_connecting(error, wants_tls=wants_tls(url))
            reason = server.report(step, judgement, error)
            if judgement.verdict is Verdict.UNMENDABLE and not server.has_worked:
                self.give_up(reason)
            await server.breaker.until_probe()

    async def _watch_clock(self) -> None:
        """Wait for the loss of the server, and compare the clocks at intervals."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.server.unavailable.wait(), CLOCK_INTERVAL_S)
            return
        with suppress(*ERRORS):
            await self.server.compare_clocks()

    async def on_stop(self) -> None:
        """Close the connections at once, even if they hang."""
        self.server.disconnect()


__all__ = [
    "ERRORS",
    "Database",
    "DatabaseGuard",
    "DatabaseServer",
    "PoolSettings",
    "TransactionConflict",
    "retried",
    "storable",
    "unavailable_problem",
]
