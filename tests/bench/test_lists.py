"""Lists and searches in large tables: 200,000 articles and 1,000,000 accounts by COPY, with plans and times.

It takes some minutes, so it runs on demand: `BENCH_LISTS=1 .venv/bin/python -m pytest -s tests/bench/test_lists.py`.
"""

import io
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from callboard.actors.editorial import content_search
from callboard.actors.editorial.content_queries import ContentQueries, ListContent
from callboard.actors.editorial.content_search import SearchContent
from callboard.actors.identity.user_lists import list_users
from callboard.actors.identity.users import ListUsers
from callboard.actors.infrastructure.database import Database
from callboard.ops import schema
from callboard.ops.embedded.data_directory import free_ports, open_data_directory
from callboard.ops.embedded.postgres import Postgres
from callboard.runtime import Props, System, pool, supervisor

pytestmark = [
    pytest.mark.skipif(not os.environ.get("BENCH_LISTS"), reason="minutes long: set BENCH_LISTS=1"),
    pytest.mark.timeout(3600),
]

ARTICLES = int(os.environ.get("BENCH_ARTICLES", "200000"))
ACCOUNTS = int(os.environ.get("BENCH_ACCOUNTS", "1000000"))
AUTHORS = 200
ROUNDS = 9
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS = ["user_id", "email", "password_hash", "full_name", "created_at"]
COLUMNS = ["content_id", "author_id", "title", "body", "body_html", "status", "published_at", "created_at"]


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def accounts() -> Iterator[tuple[Any, ...]]:
    for number in range(ACCOUNTS):
        yield UUID(int=number), f"person{number}@example.org", "x", f"Person {number}", NOW - timedelta(seconds=number)


def articles() -> Iterator[tuple[Any, ...]]:
    """Texts of 150 words of a vocabulary whose words are as common as a language's; every one has "common"."""
    random = Random(1)  # noqa: S311 - the same articles each time
    words = [f"word{number}" for number in range(20_000)]
    weights = [1 / (number + 1) for number in range(20_000)]
    many = random.choices(words, weights, k=1_000_000)
    for number in range(ARTICLES):
        start = random.randrange(len(many) - 150)
        moment = NOW - timedelta(minutes=number)
        body = "common " + " ".join(many[start : start + 150])
        yield UUID(int=number), UUID(int=number % AUTHORS), f"Title {number}", body, "", "published", moment, moment


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
    await connection.execute("alter table content disable trigger content_search; drop index content_search_idx")
    await connection.copy_records_to_table("content", records=articles(), columns=COLUMNS)
    copied = time.monotonic()
    await connection.execute(
        "update content set search = search_vector(language, title, body, category_id)", timeout=3000
    )
    filled = time.monotonic()
    await connection.execute(
        "create index content_search_idx on content using gin (search) where status = 'published'", timeout=3000
    )
    await connection.execute("alter table content enable trigger content_search")
    indexed = time.monotonic()
    await connection.execute("vacuum analyze", timeout=3000)
    tell(f"copied {copied - began:.0f} s, search filled {filled - copied:.0f} s, indexed {indexed - filled:.0f} s")
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
    reader = pool("content_queries", Props(ContentQueries, database), size=2)
    async with System(supervisor("reads", reader)):
        for limit in (21, 101):
            await measured(f"published, {limit}", lambda limit=limit: reader.ask(ListContent(None, limit)))  # type: ignore[misc]
        for q in ("common", "word0 word1", "word19999", '"word1 common word0"', "common -word0", "nothing", "東京"):
            await measured(f"search {q}", lambda q=q: reader.ask(SearchContent(q, 21)))  # type: ignore[misc]
    fields = ListUsers(21).__struct_fields__
    for filters in ({}, {"role": "admin"}, {"is_active": False}, {"q": "person"}, {"q": "person 77777"}, {"q": "zz"}):
        given = dict.fromkeys(fields) | {"limit": 21} | filters
        await measured(f"accounts {filters}", lambda given=given: list_users(database, given))  # type: ignore[misc]


async def test_the_plans_are_printed(database: Database) -> None:
    out = io.StringIO()
    async with database.transaction() as connection:
        await content_search.QUERIES.plan_search(connection)
        bounds = {
            "recent": content_search.RECENT,
            "enough": content_search.ENOUGH,
            "matches": content_search.MATCHES,
        }
        for q in ("common", "word19999"):
            said: list[Any] = []
            with connection.query_logger(lambda record, said=said: said.append(record)):
                rows = content_search.QUERIES.search_content(
                    connection,
                    q=q,
                    languages=["english"],
                    category_id=None,
                    candidates=content_search.CANDIDATES,
                    rank=None,
                    before_id=None,
                    limit=21,
                    **bounds,
                )
                assert [row async for row in rows]
                await connection.fetchval("select 1")
            plan = await connection.fetch(f"explain analyze {said[0].query}", *said[0].args)
            out.write("\n".join([q, *(row[0] for row in plan), ""]))
    tell(out.getvalue())
    assert "Seq Scan on content" not in out.getvalue()
