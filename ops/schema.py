"""The schema: an empty database gets all of schema.sql, in one transaction; any other is left as it is."""

import logging
from pathlib import Path

import asyncpg

SCHEMA = Path(__file__).parents[1] / "schema.sql"

_LOCK = 0x63616C6C  # an advisory lock's key: "call"; of several processes that start together one installs
_TIMEOUT_S = 2.0

log = logging.getLogger(__name__)


async def install(url: str) -> None:
    """Install the schema if the database has none. Raises what asyncpg raises while the server is away."""
    connection = await asyncpg.connect(url, timeout=_TIMEOUT_S, command_timeout=30)
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
            if await connection.fetchval("select to_regclass('users') is null"):
                await connection.execute(SCHEMA.read_text())
                log.info("the database was empty: the schema is installed")
    finally:
        await connection.close(timeout=_TIMEOUT_S)
