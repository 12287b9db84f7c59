"""A statement that is sent with the BEGIN of its transaction."""

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
