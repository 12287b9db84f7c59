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
from callboard.ops.terminal import json_line
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

BLOATED = 2.0  # times the size that its entries need
WORTH_BYTES = 8 << 20  # smaller ones are not worth a rebuild


async def bloated(connection: Any) -> list[Any]:
    """Return the indexes that are worth a rebuild, the largest gain first."""
    return [row async for row in QUERIES.bloated_indexes(connection, times=BLOATED, bytes=WORTH_BYTES)]


async def report_indexes(url: str, *, as_json: bool = False) -> int:
    """Print both lists; return the exit status. Raises asyncpg's errors if the database cannot be asked."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        large = await bloated(connection)
        unused = [row async for row in QUERIES.unused_indexes(connection)]
        since = await QUERIES.counted_since(connection)
    finally:
        await connection.close()
    if as_json:
        for kind, rows in (("bloated", large), ("unused", unused)):
            for row in rows:
                print(json_line({"fault": kind, **dict(row)}))
    else:
        _print(large, unused, since)
    return OK


def _print(large: list[Any], unused: list[Any], since: datetime | None) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    if large:
        table = Table("index", "table", "size", "needs about", "mend by")
        for row in large:
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
