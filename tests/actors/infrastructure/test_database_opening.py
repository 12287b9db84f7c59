"""A statement that is sent with the BEGIN of its transaction, and the first statement of a connection."""

import asyncpg
import pytest

from callboard.actors.infrastructure.database import Database
from callboard.ops.embedded.postgres import Postgres


async def test_a_statement_sent_with_the_begin_that_fails_leaves_no_transaction_and_no_statement_behind(
    postgres: Postgres,
) -> None:
    database = Database(postgres.url, size=1)
    await database.connect()
    async with database.acquire() as connection:
        await connection.execute("create temporary table opened (n int)")
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with database.transaction("insert into opened values (1 / 0)"):
            pytest.fail("there is no transaction")
    async with database.transaction("insert into opened values (1)") as connection:
        assert connection.opened == "INSERT 0 1"
    async with database.transaction() as connection:
        assert await connection.fetchval("select count(*) from opened") == 1
    with pytest.raises(ZeroDivisionError):
        async with database.transaction("insert into opened values (2)"):
            raise ZeroDivisionError
    async with database.acquire() as connection:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("select array_agg(n) from opened") == [1]
    database.disconnect()


async def test_a_process_asks_once_about_types_of_postgresql_itself(postgres: Postgres) -> None:
    database = Database(postgres.url, size=2)
    await database.connect()
    async with database.acquire() as one, database.acquire() as other:
        asked: list[str] = []
        for connection in (one, other):
            connection.add_query_logger(lambda record: asked.append(record.query))
            assert await connection.fetchval("select $1::int2[] || $2::int2[]", [1], [2]) == [1, 2]
        assert sum("typeinfo" in each for each in asked) <= 1  # none if a test before this one has
        assert (
            await other.fetchval("select $1::information_schema.time_stamp[]", []) == []
        )  # not a number of a type's own
    database.disconnect()
