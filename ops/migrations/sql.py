"""The one function by which a migration runs SQL."""

from alembic import op
from sqlalchemy.util import await_only


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
    await_only(driver.execute(sql))
