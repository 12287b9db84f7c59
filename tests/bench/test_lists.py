"""Lists of accounts in a large table: 1,000,000 by COPY, with times. `make bench-content` measures content.

It takes some minutes, so it runs on demand: `BENCH_LISTS=1 .venv/bin/python -m pytest -s tests/bench/test_lists.py`.
"""

import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from callboard.actors.identity.user_lists import list_users
from callboard.actors.identity.users import ListUsers
from callboard.actors.infrastructure.database import Database
from callboard.ops import schema
from callboard.ops.embedded.data_directory import free_ports, open_data_directory
from callboard.ops.embedded.postgres import Postgres

pytestmark = [
    pytest.mark.skipif(not os.environ.get("BENCH_LISTS"), reason="minutes long: set BENCH_LISTS=1"),
    pytest.mark.timeout(3600),
]

ACCOUNTS = int(os.environ.get("BENCH_ACCOUNTS", "1000000"))
ROUNDS = 9
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS = ["user_id", "email", "password_hash", "full_name", "created_at"]


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def accounts() -> Iterator[tuple[Any, ...]]:
    for number in range(ACCOUNTS):
        yield UUID(int=number), f"person{number}@example.org", "x", f"Person {number}", NOW - timedelta(seconds=number)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def database(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    with open_data_directory(tmp_path_factory.mktemp("lists") / "data") as place:
        server = Postgres(place, free_ports(1)[0])
        await server.start()
        await schema.install(server.url)
        await _fill(server.url)
        database = Database(server.url)
        await database.connect()
        yield database
        database.disconnect()
        await server.stop()
        place.reset()


async def _fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    began = time.monotonic()
    await connection.copy_records_to_table("users", records=accounts(), columns=FIELDS)
    await connection.execute("vacuum analyze", timeout=3000)
    tell(f"copied in {time.monotonic() - began:.0f} s")
    await connection.close()


async def measured(name: str, ask: Callable[[], Awaitable[list[Any]]]) -> float:
    """Print the median and the worst time of some rounds, in ms; the median."""
    times: list[float] = []
    found: list[Any] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = await ask()
        times.append((time.perf_counter() - began) * 1000)
    median = statistics.median(times)
    tell(f"{name:40} {len(found):4} rows  median {median:7.1f} ms  worst {max(times):7.1f} ms")
    return median


async def test_a_page_costs_the_same_in_a_table_of_any_size(database: Database) -> None:
    fields = ListUsers(21).__struct_fields__
    for filters in ({}, {"role": "admin"}, {"is_active": False}, {"q": "person"}, {"q": "person 77777"}, {"q": "zz"}):
        given = dict.fromkeys(fields) | {"limit": 21} | filters
        await measured(f"accounts {filters}", lambda given=given: list_users(database, given))  # type: ignore[misc]
