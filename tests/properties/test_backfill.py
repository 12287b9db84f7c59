"""An example of the five steps of a change of stored data: add, backfill, verify, switch, drop."""

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest
from kit.jobs import Note, Process, kind
from kit.mortal import MortalDatabase

from callboard.actors.infrastructure.backfill import Backfill, Filled, backfill
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Backoff, Job, Outcome

ROWS = 300
FAST = {"lease_s": 0.6, "backoff": Backoff(0.001, 0.002), "max_attempts": 20}
FILL = """
    with batch as (
        select person_id from people where $1::bigint is null or person_id > $1 order by person_id limit $2 for update
    ), filled as (
        update people p set full_name = p.first_name || ' ' || p.last_name
        from batch b where b.person_id = p.person_id and p.full_name is null
    )
    select count(*)::int as rows, max(person_id) as last from batch
"""
LEFT = "select count(*) from people where full_name is null"


async def fill(connection: Any, after: int | None, limit: int) -> Filled[int]:
    row = await connection.fetchrow(FILL, after, limit)
    return Filled(row["rows"], row["last"])


async def left(connection: Any) -> int:
    return int(await connection.fetchval(LEFT))


async def fill_names(job: Job[Note]) -> Outcome:
    return await backfill(job, Backfill(fill, left), max_batch=20)


@pytest.mark.parametrize("seed", range(3))
async def test_a_column_is_added_filled_verified_switched_to_and_the_old_ones_dropped(
    database: Database, url: str, seed: int
) -> None:
    declared = kind(slots=1, **FAST)
    last = Process(database, (declared, fill_names), name="last")
    await last.execute("drop table if exists people")
    await last.execute(
        "create table people (person_id bigint primary key, first_name text not null, last_name text not null)"
    )
    await last.execute("insert into people select n, 'First' || n, 'Last' || n from generate_series(1, 300) n")
    # 1. Add: the column is empty, and every write fills both.
    await last.execute("alter table people add column full_name text")
    await last.put("names")
    # 2. Backfill, while others write, and processes die.
    writing = asyncio.ensure_future(write(database))
    rng = random.Random(seed)  # noqa: S311 - a seed that can be repeated
    for life in range(2):
        mortal = MortalDatabase(url, dies_at=rng.randrange(10, 60))
        await mortal.connect()
        async with Process(mortal, (declared, fill_names), name=f"mortal {life}").working():
            with suppress(TimeoutError):
                async with asyncio.timeout(0.4):
                    await mortal.dead.wait()
            mortal.die()
        await mortal.leave()
    async with last.working():
        await last.settled()
    await writing
    # 3. Verify: the job was done only when no row was left.
    assert await last.value(LEFT) == 0
    assert await last.value("select count(*) from people where full_name <> first_name || ' ' || last_name") == 1
    # 4. Switch. 5. Drop.
    await last.execute("alter table people alter column full_name set not null")
    await last.execute("alter table people drop column first_name, drop column last_name")
    assert await last.value("select count(*) from people") == ROWS + 50
    assert await last.value("select full_name from people where person_id = 7") == "changed meanwhile"
    await last.execute("drop table people")


async def write(database: Database) -> None:
    """Writers of the new release: a row that they fill is not filled again."""
    async with database.acquire() as connection:
        await connection.execute("update people set full_name = 'changed meanwhile' where person_id = 7")
        for number in range(50):
            await connection.execute(
                "insert into people values ($1, 'A', 'B', 'A B')", ROWS + 1 + number if number % 2 else -number
            )


async def test_a_backfill_is_not_done_while_a_row_is_left(database: Database) -> None:
    counts = [2, 1, 0]
    seen: list[Any] = []

    async def few(_connection: Any, after: int | None, _limit: int) -> Filled[int]:
        seen.append(after)
        return Filled(1, 9)

    async def fewer(_connection: Any) -> int:
        return counts.pop(0)

    async def handle(job: Job[Note]) -> Outcome:
        outcome = await backfill(job, Backfill(few, fewer))
        return outcome and type(outcome)(0.0, outcome.reason)  # type: ignore[call-arg, union-attr]  # it is Later

    process = Process(database, (kind(), handle))
    async with process.working():
        await process.put("names")
        await process.settled()
    assert seen == [None, None, None]
    assert await process.value("select count(*) from finished_jobs where outcome = 'done'") == 1
