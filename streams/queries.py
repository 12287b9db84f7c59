"""Queries: the named statements of the .sql file beside a module, as methods that take the connection they run on."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosql
from aiosql.adapters.asyncpg import AsyncPGAdapter


class Direct(AsyncPGAdapter):
    """Runs a statement on the connection it is given.

    aiosql's own looks at each call through all names of the connection, for it might be a pool: measured, 50 µs, as
    much as some of the statements.
    """

    def _ordered(self, query_name: str, parameters: Any) -> Any:
        return self.maybe_order_params(query_name, parameters)  # type: ignore[no-untyped-call]

    async def select(
        self, conn: Any, query_name: str, sql: str, parameters: Any, record_class: Any = None
    ) -> AsyncIterator[Any]:
        """The rows, one by one."""
        for row in await conn.fetch(sql, *self._ordered(query_name, parameters)):
            yield row if record_class is None else record_class(**row)

    async def select_one(self, conn: Any, query_name: str, sql: str, parameters: Any, record_class: Any = None) -> Any:
        """The first row, or None."""
        row = await conn.fetchrow(sql, *self._ordered(query_name, parameters))
        return row if row is None or record_class is None else record_class(**row)

    async def select_value(self, conn: Any, query_name: str, sql: str, parameters: Any) -> Any:
        """The first value of the first row, or None."""
        return await conn.fetchval(sql, *self._ordered(query_name, parameters))

    async def insert_update_delete(self, conn: Any, query_name: str, sql: str, parameters: Any) -> Any:
        """PostgreSQL's word for what was done."""
        return await conn.execute(sql, *self._ordered(query_name, parameters))


def queries_beside(module: str, name: str = "") -> Any:
    """The queries of the .sql file beside a module, given by its `__file__`; of the same name unless one is given."""
    path, adapter = Path(module), Direct
    return aiosql.from_path(path.with_name(f"{name or path.stem}.sql"), adapter)  # type: ignore[arg-type]  # as aiosql's own
