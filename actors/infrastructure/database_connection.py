"""A connection in a pool, with the time limit of its statements; also behind a pooler.

Behind a pooler in transaction mode two statements of one connection may run in two sessions of the server. So nothing
may be left in a session: no limit, no prepared statement. The settings of a statement are in its own transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg

from callboard.actors.errors import SERVER_TIMEOUT, Problem

IDLE_TRANSACTION_MS = 10_000  # then the server ends a session: its process is frozen or lost, and holds locks
FIRST_ASSIGNED_OID = 10_000  # types below have the same numbers in all releases of PostgreSQL
CONTROL = frozenset({"abort", "begin", "commit", "end", "release", "rollback", "savepoint", "set", "start", "vacuum"})
NAMED = SimpleNamespace(name="none")  # to asyncpg: no statement was sent that replaced an unnamed one
_described: dict[frozenset[int], Any] = {}  # PostgreSQL's own types, as it has described them to asyncpg


class Connection(asyncpg.Connection):
    """A connection with its own session. Its one session setting is statement_timeout, whose value it knows.

    So its release needs no round trip for a reset: the next user sets the limit if it differs, which is seldom.
    """

    limit_ms: int | None = None  # the session's value; None if unknown: it is new, or setting it was interrupted
    opened = ""  # PostgreSQL's result of `open_with`
    _opening = ""
    _after_commit: tuple[Callable[[], None], ...] = ()

    def open_with(self, statement: str) -> None:
        """Send a statement together with the BEGIN of the next transaction: one round trip for both."""
        self._opening = statement

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - overrides
        """See asyncpg. BEGIN is sent with the opening statement; if that fails, there is no transaction."""
        if not self._opening or query[:5].upper() != "BEGIN":
            return await super().execute(query, *args, timeout=timeout)
        opening, self._opening = self._opening, ""
        try:
            self.opened = await super().execute(f"{query} {opening}", timeout=timeout)
        except asyncpg.PostgresError:
            if self.is_in_transaction():
                await super().execute("rollback", timeout=timeout)
            raise
        return self.opened

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> Any:  # noqa: ASYNC109
        """Describe types that asyncpg does not know, such as arrays of UUIDs. A process asks once about PostgreSQL's
        own: measured, the query takes a third of the time of a new connection's first search.
        """
        asked = frozenset(typeoids)
        if asked in _described:
            return _described[asked], NAMED
        found, statement = await super()._introspect_types(typeoids, timeout)  # type: ignore[misc]  # its stubs lack it
        if max(asked) < FIRST_ASSIGNED_OID:
            _described[asked] = found
        return found, statement

    def get_reset_query(self) -> str:
        """Nothing to reset: measured, the reset is most of the overhead of a pooled query."""
        return ""

    def on_commit(self, call: Callable[[], None]) -> None:
        """Call this once, when the connection is released with its work committed; never if that has failed."""
        if call not in self._after_commit:
            self._after_commit += (call,)

    def take_commits(self) -> tuple[Callable[[], None], ...]:
        """Return the callbacks of `on_commit`, and forget them."""
        taken, self._after_commit = self._after_commit, ()
        return taken

    async def limit(self, usual_s: float, deadline: float | None) -> None:
        """Have the server cancel statements after `usual_s`, or at `deadline` (of the loop's time) if that is sooner.

        Raises Problem(SERVER_TIMEOUT) after the deadline.
        """
        wanted_ms = limit_ms(usual_s, deadline)
        if wanted_ms != self.limit_ms:
            self.limit_ms = None
            await self.execute(f"set statement_timeout = {wanted_ms}")
            self.limit_ms = wanted_ms

    async def unlimit(self) -> None:
        """Remove the limit. The next user of the connection sets its own."""
        self.limit_ms = None
        await self.execute("set statement_timeout = 0")

    async def begun(self) -> None:
        """Prepare a transaction that has just begun: nothing to do, since the session has its limit."""


class PooledConnection(Connection):
    """A connection to a pooler in transaction mode: each single statement is a transaction that sets its limit."""

    async def limit(self, usual_s: float, deadline: float | None) -> None:
        """Set the limit of later statements and transactions. Raises Problem(SERVER_TIMEOUT)."""
        self.limit_ms = limit_ms(usual_s, deadline)

    def open_with(self, statement: str) -> None:
        """See Connection. The limits are sent before the statement, which they must cover."""
        super().open_with(f"{self._limits()}; {statement}")

    async def unlimit(self) -> None:
        """Keep the limit of the server's role: a limit that is set here would stay in another client's session."""
        self.limit_ms = None

    async def begun(self) -> None:
        """Set the limits for this transaction only."""
        await super().execute(self._limits())

    def _limits(self) -> str:
        idle = f"set local idle_in_transaction_session_timeout = {IDLE_TRANSACTION_MS}"
        return f"set local statement_timeout = {self.limit_ms}; {idle}" if self.limit_ms else idle

    @asynccontextmanager
    async def _single_statement(self) -> AsyncIterator[None]:
        """Open a transaction for one statement, unless one is open. A statement is parsed and run in two
        round trips.
        """
        if self.is_in_transaction():
            yield
            return
        async with self.transaction():
            await self.begun()
            yield

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - overrides
        """See asyncpg; statements that open and end transactions are sent unchanged."""
        if query.split(None, 1)[0].rstrip(";").lower() in CONTROL:
            return await super().execute(query, *args, timeout=timeout)
        async with self._single_statement():
            return await super().execute(query, *args, timeout=timeout)

    async def executemany(self, command: str, args: Iterable[Any], **options: Any) -> None:
        """See asyncpg."""
        async with self._single_statement():
            await super().executemany(command, args, **options)

    async def fetch(self, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        async with self._single_statement():
            return await super().fetch(*args, **options)

    async def fetchrow(self, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        async with self._single_statement():
            return await super().fetchrow(*args, **options)

    async def fetchval(self, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        async with self._single_statement():
            return await super().fetchval(*args, **options)


def limit_ms(usual_s: float, deadline: float | None) -> int:
    """Return the time limit of a statement now. Raises Problem(SERVER_TIMEOUT) after the deadline."""
    usual_ms = round(usual_s * 1000)
    if deadline is None:
        return usual_ms
    left_ms = round((deadline - asyncio.get_running_loop().time()) * 1000)
    if left_ms <= 0:
        raise Problem(SERVER_TIMEOUT)
    return min(usual_ms, left_ms)


async def is_pooled(connection: Any) -> bool:
    """Whether a pooler is in between: then the process that answers differs from the one that greeted.

    Asked in its own transaction, by a connection without a statement cache: it leaves nothing behind.
    """
    async with connection.transaction(readonly=True):
        return bool(await connection.fetchval("select pg_backend_pid()") != connection.get_server_pid())
