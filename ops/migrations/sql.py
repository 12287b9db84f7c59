"""The one function by which a migration runs SQL."""

import re
from typing import Any

from alembic import op
from sqlalchemy.util import await_only

CONCURRENTLY = re.compile(r"\bconcurrently\b", re.IGNORECASE)


def execute(sql: str) -> None:
    """Run one or more statements unchanged: neither `:word` nor `%` means anything here.

    With `callboard migrate up --sql` they are printed instead. Alembic's own `op.execute` takes one statement only, and
    reads `:word` as a parameter.
    """
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(sql.strip().rstrip(";") + ";\n")
        return
    driver = op.get_bind().connection.driver_connection
    if driver is None:
        raise RuntimeError("the migration has no connection")
    await_only(_wait_and_execute(driver, sql) if CONCURRENTLY.search(sql) else driver.execute(sql))


async def _wait_and_execute(driver: Any, sql: str) -> None:
    """Run a statement that waits for all transactions and blocks none: it has no limit of waiting."""
    limit = await driver.fetchval("select current_setting('lock_timeout')")
    await driver.execute("set lock_timeout = 0")
    try:
        await driver.execute(sql)
    finally:
        await driver.execute(f"set lock_timeout = '{limit}'")
