"""The plans of what the server runs, from its own log: auto_explain writes each plan of each connection there."""

import re
from pathlib import Path
from typing import NamedTuple

import asyncpg

SETTINGS = {
    "session_preload_libraries": "'auto_explain'",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
}
ENTRY = re.compile(r"^\d{4}-\d\d-\d\d .*?(?=^\d{4}-\d\d-\d\d |\Z)", re.MULTILINE | re.DOTALL)
DURATION = re.compile(r"duration: ([\d.]+) ms +plan:\n(.*)", re.DOTALL)
SCAN = re.compile(r"Seq Scan on (\w+)")


class Plan(NamedTuple):
    """One statement, as it was run."""

    ms: float
    text: str

    def scanned(self, large: set[str]) -> set[str]:
        """Return the large tables that it read from end to end."""
        return set(SCAN.findall(self.text)) & large


async def explain_all(url: str) -> set[str]:
    """Have every new connection explain its statements, and end those that are there; return the large tables."""
    connection = await asyncpg.connect(url)
    for name, value in SETTINGS.items():
        await connection.execute(f"alter database callboard set {name} = {value}")
    rows = await connection.fetch("select relname from pg_class where relkind = 'r' and reltuples > 10000")
    await connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where backend_type = 'client backend' and pid <> pg_backend_pid()"
    )
    await connection.close()
    return {row["relname"] for row in rows}


def read_plans(log: Path, offset: int) -> list[Plan]:
    """Return the plans that the log has from `offset` on, of statements that read a table of content."""
    entries = ENTRY.findall(log.read_bytes()[offset:].decode(errors="replace"))
    found = [match for entry in entries if (match := DURATION.search(entry))]
    return [Plan(float(match[1]), match[2]) for match in found if re.search(r"Scan.* on ", match[2])]
