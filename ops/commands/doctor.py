"""`callboard doctor --indexes`: indexes that are larger than necessary, and unused ones.

Estimates from PostgreSQL's counters and statistics: nothing is locked and no table is read.
"""

import sys
from datetime import datetime
from typing import Any

import asyncpg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callboard.ops.cli import OK
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

BLOATED = 2.0  # times the size that its entries need
WORTH_BYTES = 8 << 20  # smaller ones are not worth a rebuild


async def report_indexes(url: str) -> int:
    """Print both lists; return the exit status. Raises asyncpg's errors if the database cannot be asked."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        bloated = [row async for row in QUERIES.bloated_indexes(connection, times=BLOATED, bytes=WORTH_BYTES)]
        unused = [row async for row in QUERIES.unused_indexes(connection)]
        since = await QUERIES.counted_since(connection)
    finally:
        await connection.close()
    _print(bloated, unused, since)
    return OK


def _print(bloated: list[Any], unused: list[Any], since: datetime | None) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    if bloated:
        table = Table("index", "table", "size", "needs about", "mend by")
        for row in bloated:
            command = f"reindex index concurrently {row['index']}"
            table.add_row(*map(escape, (row["index"], row["table"], row["size"], row["needed"], command)))
        console.print(table)
    else:
        console.print("No index is bloated.")
    counted = f"since {since:%Y-%m-%d}" if since else "ever"
    if unused:
        table = Table("index", "table", "size", title=f"Not used {counted}, and no constraint")
        for row in unused:
            table.add_row(*map(escape, (row["index"], row["table"], row["size"])))
        console.print(table)
    else:
        console.print(f"Every index was used {counted}.")
