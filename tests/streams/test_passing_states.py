"""A state of PostgreSQL that passes, and a slow one: records wait or go on slowly, and none of them is to blame."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from callboard.actors.infrastructure.database import Database
from callboard.runtime import Crashed

EFFECTS = "select count(*) from effects"
LETTERS = "select count(*) from dead_letters"
RECORDS = 1500
DISK_FULL = """
create function no_room() returns trigger language plpgsql as
$$ begin raise exception 'could not extend file' using errcode = '53100'; end $$;
create trigger no_room before insert on effects for each statement execute function no_room();
"""
SLOW_ROWS = """
create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.001); return new; end $$;
create trigger slow before insert on effects for each row execute function slow();
"""


@pytest.fixture
async def admin(stage: Any) -> AsyncIterator[Any]:
    """A connection that stands beside the pool, and may write whatever the others may."""
    connection = await asyncpg.connect(stage.database.direct_url)
    await connection.execute("set default_transaction_read_only = off")
    yield connection
    await connection.execute("drop trigger if exists no_room on effects; drop function if exists no_room")
    await connection.execute("drop trigger if exists slow on effects; drop function if exists slow")
    await connection.close()


async def send_views(stage: Any, count: int) -> None:
    async with stage.producer() as send:
        for number in range(count):
            value, headers = stage.encoded(stage.view(value=float(number)))
            await send(value, headers)


async def asked(stage: Any, times: int) -> None:
    """Wait until the consumer was asked so often from now on."""
    for _ in range(times):
        stage.books.asked.clear()
        await asyncio.wait_for(stage.books.asked.wait(), 30)


async def read_only(admin: Any, *, on: bool) -> None:
    name = await admin.fetchval("select current_database()")
    await admin.execute(f"alter database {name} set default_transaction_read_only = {'on' if on else 'off'}")


def crashes(stage: Any) -> list[Any]:
    return [each for each in stage.seen if isinstance(each, Crashed)]


async def test_a_database_that_is_read_only_for_a_while_costs_no_record_and_no_restart(stage: Any, admin: Any) -> None:
    async with stage.playing("streams"):
        await read_only(admin, on=True)
        try:
            stage.database.disconnect()  # the setting holds for connections that are made after it
            await stage.database.connect()
            await send_views(stage, 9)
            await asked(stage, 3)
            assert await admin.fetchval(EFFECTS) == 0
        finally:
            await read_only(admin, on=False)
        await stage.until(9, EFFECTS)  # over connections that found out by themselves
        assert await stage.count(LETTERS) == 0
    assert not crashes(stage)


async def test_a_disk_that_is_full_for_a_while_costs_no_record_and_no_restart(stage: Any, admin: Any) -> None:
    await admin.execute(DISK_FULL)
    async with stage.playing("streams"):
        await send_views(stage, 9)
        await asked(stage, 3)
        assert await admin.fetchval(EFFECTS) == 0
        await admin.execute("drop trigger no_room on effects")
        await stage.until(9, EFFECTS)
        assert await stage.count(LETTERS) == 0
    assert not crashes(stage)


async def test_thousands_of_records_drain_where_each_row_costs_a_millisecond(stage: Any, admin: Any) -> None:
    """As one batch they would take longer than the statement timeout, time after time."""
    await admin.execute(SLOW_ROWS)
    await send_views(stage, RECORDS)
    slow, stage.database = stage.database, Database(stage.database.direct_url, statement_timeout_s=0.5)
    await stage.database.connect()
    stage.recast()
    try:
        async with stage.playing("streams"):
            await stage.until(RECORDS, EFFECTS)
            assert await stage.count(LETTERS) == 0
    finally:
        stage.database.disconnect()
        stage.database = slow
    assert max(stage.books.batches) > RECORDS // 2, "they came as one batch"
    assert not crashes(stage)
