"""A connection to PostgreSQL in a pool of ours, which knows how long its statements may take; also behind a pooler.

Behind a pooler in transaction mode two statements of one connection may meet two sessions of the server. So nothing may
be left in a session: no limit, no prepared statement; and what one statement needs stands in its own transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from callboard.actors.errors import SERVER_TIMEOUT, Problem

CONTROL = frozenset({"abort", "begin", "commit", "end", "release", "rollback", "savepoint", "set", "start", "vacuum"})


class Connection(asyncpg.Connection):
    """A connection whose session is its own. It has one session state of ours, its statement_timeout, which it knows.

    So giving it back needs no round trip to reset it: whoever takes it next sets what it needs, and that is seldom.
    """

    limit_ms: int | None = None  # what the session has; None: unknown, since it is new or setting it was cut short
    opened = ""  # PostgreSQL's word for what `open_with` has done
    _opening = ""
    _after_commit: tuple[Callable[[], None], ...] = ()

    def open_with(self, statement: str) -> None:
        """Send a statement together with the BEGIN of the next transaction: one round trip for both."""
        self._opening = statement

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - overrides
        """See asyncpg. What opens a transaction has its BEGIN with it; if that fails, there is no transaction."""
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

    def get_reset_query(self) -> str:
        """Nothing to reset: measured, the reset is most of what a pooled query costs beyond a held one."""
        return ""

    def on_commit(self, call: Callable[[], None]) -> None:
        """Call this once when the connection is given back with its work committed, and never if that has failed."""
        if call not in self._after_commit:
            self._after_commit += (call,)

    def take_commits(self) -> tuple[Callable[[], None], ...]:
        """Return what `on_commit` was asked for, and forget it."""
        taken, self._after_commit = self._after_commit, ()
        return taken

    async def limit(self, usual_s: float, deadline: float | None) -> None:
        """Have the server end statements after `usual_s`, or at `deadline` (of the loop's time) if that is sooner.

        Raises Problem(SERVER_TIMEOUT) when the deadline is over.
        """
        wanted_ms = limit_ms(usual_s, deadline)
        if wanted_ms != self.limit_ms:
            self.limit_ms = None
            await self.execute(f"set statement_timeout = {wanted_ms}")
            self.limit_ms = wanted_ms

    async def unlimit(self) -> None:
        """Have the server end no statement. Whoever takes the connection next sets its own limit again."""
        self.limit_ms = None
        await self.execute("set statement_timeout = 0")

    async def begun(self) -> None:
        """Do what a transaction that has just begun needs: nothing, since the session has its limit."""


class PooledConnection(Connection):
    """A connection to a pooler in transaction mode: a single statement is a transaction with its limit in it."""

    async def limit(self, usual_s: float, deadline: float | None) -> None:
        """Remember the limit for the statements and transactions that come. Raises Problem(SERVER_TIMEOUT)."""
        self.limit_ms = limit_ms(usual_s, deadline)

    def open_with(self, statement: str) -> None:
        """See Connection. The limit comes before it: it is the first to need it."""
        super().open_with(f"set local statement_timeout = {self.limit_ms}; {statement}" if self.limit_ms else statement)

    async def unlimit(self) -> None:
        """Keep the limit that the server's role has: one that is set here would stay in another's session."""
        self.limit_ms = None

    async def begun(self) -> None:
        """Set the limit for this transaction alone."""
        if self.limit_ms is not None:
            await super().execute(f"set local statement_timeout = {self.limit_ms}")

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """A transaction for one statement, unless one is open. A statement is parsed and run in two round trips."""
        if self.is_in_transaction():
            yield
            return
        async with self.transaction():
            await self.begun()
            yield

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - overrides
        """See asyncpg; what opens and ends transactions goes as it is."""
        if query.split(None, 1)[0].rstrip(";").lower() in CONTROL:
            return await super().execute(query, *args, timeout=timeout)
        async with self._alone():
            return await super().execute(query, *args, timeout=timeout)

    async def executemany(self, command: str, args: Iterable[Any], **options: Any) -> None:
        """See asyncpg."""
        async with self._alone():
            await super().executemany(command, args, **options)

    async def fetch(self, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        async with self._alone():
            return await super().fetch(*args, **options)

    async def fetchrow(self, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        async with self._alone():
            return await super().fetchrow(*args, **options)

    async def fetchval(self, *args: Any, **options: Any) -> Any:
        """See asyncpg."""
        async with self._alone():
            return await super().fetchval(*args, **options)


def limit_ms(usual_s: float, deadline: float | None) -> int:
    """How long a statement may take now. Raises Problem(SERVER_TIMEOUT) when the deadline is over."""
    usual_ms = round(usual_s * 1000)
    if deadline is None:
        return usual_ms
    left_ms = round((deadline - asyncio.get_running_loop().time()) * 1000)
    if left_ms <= 0:
        raise Problem(SERVER_TIMEOUT)
    return min(usual_ms, left_ms)


async def is_pooled(connection: Any) -> bool:
    """Whether a pooler stands between: then the process that answers is not the one that greeted.

    Asked in a transaction of its own, by a connection without a cache of statements: so it leaves nothing behind.
    """
    async with connection.transaction(readonly=True):
        return bool(await connection.fetchval("select pg_backend_pid()") != connection.get_server_pid())
