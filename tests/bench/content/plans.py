"""The times and plans of the server's statements, from its own log."""

import re
from pathlib import Path
from typing import NamedTuple

import asyncpg

NOTHING: dict[str, str] = {}
TIMES = {"log_duration": "on"}
PLANS = {
    "session_preload_libraries": "'auto_explain'",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
}
ENTRY = re.compile(r"^\d{4}-\d\d-\d\d .*?(?=^\d{4}-\d\d-\d\d |\Z)", re.MULTILINE | re.DOTALL)
DURATION = re.compile(r"duration: ([\d.]+) ms$", re.MULTILINE)
PLAN = re.compile(r"duration: ([\d.]+) ms +plan:\n(.*)", re.DOTALL)
SCAN = re.compile(r"Seq Scan on (\w+)")


class Plan(NamedTuple):
    """One statement, as it was run."""

    ms: float
    text: str

    def scanned(self, large: set[str]) -> set[str]:
        """Return the large tables that it read from end to end."""
        return set(SCAN.findall(self.text)) & large


async def log_only(url: str, settings: dict[str, str]) -> None:
    """Have the server log this, and nothing that was asked for before. Connections that are open end."""
    connection = await asyncpg.connect(url)
    await connection.execute("alter database callboard reset all")
    for name, value in settings.items():
        await connection.execute(f"alter database callboard set {name} = {value}")
    await connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where backend_type = 'client backend' and pid <> pg_backend_pid()"
    )
    await connection.close()


async def large_tables(url: str) -> set[str]:
    """Return the tables that no call may read from end to end."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("select relname from pg_class where relkind = 'r' and reltuples > 10000")
    await connection.close()
    return {row["relname"] for row in rows}


def read_ms(log: Path, offset: int) -> float:
    """Return the milliseconds in which statements were parsed, planned and executed, from `offset` on."""
    return sum(map(float, DURATION.findall(log.read_bytes()[offset:].decode(errors="replace"))))


def read_plans(log: Path, offset: int) -> list[Plan]:
    """Return the plans that the log has from `offset` on, of statements that read a table of content."""
    entries = ENTRY.findall(log.read_bytes()[offset:].decode(errors="replace"))
    found = [match for entry in entries if (match := PLAN.search(entry))]
    return [Plan(float(match[1]), match[2]) for match in found if re.search(r"Scan.* on ", match[2])]
