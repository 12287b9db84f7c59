"""A handle of PostgreSQL that dies with its process: at a statement that a seed chooses, before or after it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from callboard.actors.infrastructure.database import Database, unavailable_problem

STATEMENTS = frozenset({"execute", "executemany", "fetch", "fetchrow", "fetchval"})


class MortalDatabase(Database):
    """Connected like any other. At its `dies_at`th step it is gone, as with SIGKILL: what is open is rolled back, and
    nothing that its process does afterwards reaches the server. While `thawed` is not set every step waits.
    """

    def __init__(self, url: str, *, dies_at: int | None = None, size: int = 5) -> None:
        # Without TLS: a connect that is cut off while asyncpg asks for it leaves an exception that nobody retrieves.
        super().__init__(f"{url}?sslmode=disable", size=size)
        self.dies_at = dies_at
        self.steps = 0
        self.dead = asyncio.Event()
        self.thawed = asyncio.Event()
        self.thawed.set()

    def die(self) -> None:
        """Be gone."""
        if not self.dead.is_set():
            self.dead.set()
            self.available.clear()
            self.unavailable.set()

    async def leave(self) -> None:
        """Close what is left of the connections, without cutting off what the driver still has to say on them."""
        if self._pool is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._pool.close(), 5.0)
        self.disconnect()

    async def step(self) -> None:
        """One point at which the process may die."""
        await self.thawed.wait()
        self.steps += 1
        if self.dies_at is not None and self.steps >= self.dies_at:
            self.die()
        if self.dead.is_set():
            raise unavailable_problem()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        await self.step()
        async with super().acquire() as connection:
            yield MortalConnection(self, connection)
            # What has not been committed yet will not be; what has been, nobody hears of.
        await self.step()


class MortalConnection:
    """A connection whose statements are steps, at their beginning and at their end."""

    def __init__(self, database: MortalDatabase, connection: Any) -> None:
        self._database = database
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._connection, name)
        return self._stepping(value) if name in STATEMENTS else value

    def _stepping(self, call: Any) -> Any:
        async def stepping(*args: Any, **options: Any) -> Any:
            await self._database.step()
            result = await call(*args, **options)
            await self._database.step()
            return result

        return stepping
