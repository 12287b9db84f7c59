"""Queries: the named statements of the .sql file beside a module, as methods that take their connection."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosql
from aiosql.adapters.asyncpg import AsyncPGAdapter


class Direct(AsyncPGAdapter):
    """Runs a statement on the connection it is given.

    aiosql's own adapter scans all names of the connection at each call, for it might be a pool: measured, 50 µs, as
    much as some of the statements.
    """

    def _ordered(self, query_name: str, parameters: Any) -> Any:
        return self.maybe_order_params(query_name, parameters)  # type: ignore[no-untyped-call]

    async def select(
        self, conn: Any, query_name: str, sql: str, parameters: Any, record_class: Any = None
    ) -> AsyncIterator[Any]:
        """Yield the rows, one by one."""
        for row in await conn.fetch(sql, *self._ordered(query_name, parameters)):
            yield row if record_class is None else record_class(**row)

    async def select_one(self, conn: Any, query_name: str, sql: str, parameters: Any, record_class: Any = None) -> Any:
        """Return the first row, or None."""
        row = await conn.fetchrow(sql, *self._ordered(query_name, parameters))
        return row if row is None or record_class is None else record_class(**row)

    async def select_value(self, conn: Any, query_name: str, sql: str, parameters: Any) -> Any:
        """Return the first value of the first row, or None."""
        return await conn.fetchval(sql, *self._ordered(query_name, parameters))

    async def insert_update_delete(self, conn: Any, query_name: str, sql: str, parameters: Any) -> Any:
        """Return PostgreSQL's command tag."""
        return await conn.execute(sql, *self._ordered(query_name, parameters))


def queries_beside(module: str, name: str = "") -> Any:
    """Load the queries of the .sql file beside a module, given by its `__file__`; the default name is the module's."""
    path = Path(module)
    return aiosql.from_path(path.with_name(f"{name or path.stem}.sql"), Direct)  # type: ignore[arg-type]  # the same as aiosql's own
