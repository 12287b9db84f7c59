"""Reads of single rows: gathered into few queries, and nobody sees less than was committed before they asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest

from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.row_loader import MAX_BATCH, Reads

QUERY = "select user_id, full_name from users where user_id = any($1)"
ADD = "insert into users (user_id, email, full_name, password_hash) values ($1, $2 || gen_random_uuid(), $2, '')"


class Counting:
    """A database that counts its queries."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.queries = 0

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with self.database.acquire() as self.connection:
            yield self

    async def fetch(self, query: str, keys: list[UUID]) -> Any:
        self.queries += 1
        return await self.connection.fetch(query, keys)


async def add(database: Database, full_name: str) -> UUID:
    user_id = uuid4()
    async with database.acquire() as connection:
        await connection.execute(ADD, user_id, full_name)
    return user_id


def reads_of(database: Any) -> Reads[UUID]:
    return Reads(database, QUERY, "user_id")


async def test_what_is_asked_at_one_time_is_one_query_and_each_gets_their_own(database: Database) -> None:
    ids = [await add(database, str(n)) for n in range(20)]
    counting = Counting(database)
    reads = reads_of(counting)
    rows = await asyncio.gather(*(reads.read(each) for each in (*ids, uuid4(), *ids)))
    assert [row and row["full_name"] for row in rows] == [*map(str, range(20)), None, *map(str, range(20))]
    assert counting.queries == 1


async def test_a_read_sees_what_was_committed_before_it_was_asked(database: Database) -> None:
    """Also when a query that began earlier is under way: it joins the next."""
    user_id = await add(database, "before")
    reads = reads_of(database)
    early = reads.read(user_id)
    async with database.acquire() as connection:
        await asyncio.sleep(0)  # the first query is under way, or done
        await connection.execute("update users set full_name = 'after' where user_id = $1", user_id)
        late = reads.read(user_id)
    assert (await early)["full_name"] in ("before", "after")
    assert (await late)["full_name"] == "after"


async def test_more_than_a_query_takes_are_several(database: Database) -> None:
    counting = Counting(database)
    reads = reads_of(counting)
    assert await asyncio.gather(*(reads.read(uuid4()) for _ in range(MAX_BATCH + 1))) == [None] * (MAX_BATCH + 1)
    assert counting.queries == 2


async def test_who_gives_up_leaves_the_others_their_rows(database: Database) -> None:
    first, second = await add(database, "a"), await add(database, "b")
    reads = reads_of(database)
    gone, stays = reads.read(first), reads.read(second)
    gone.cancel()
    assert (await stays)["full_name"] == "b"


async def test_while_the_database_is_away_all_are_told() -> None:
    reads = reads_of(Database("postgresql://nowhere"))
    answers = await asyncio.gather(*(reads.read(uuid4()) for _ in range(3)), return_exceptions=True)
    assert [each.code for each in answers if isinstance(each, Problem)] == [SERVER_UNAVAILABLE] * 3
    with pytest.raises(Problem):
        await reads.read(uuid4())
