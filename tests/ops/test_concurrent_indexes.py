"""Indexes of large tables are built outside of transactions, and again if a build was interrupted."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from callboard.ops import schema
from callboard.ops.embedded.data_directory import free_ports, open_data_directory
from callboard.ops.embedded.postgres import Postgres
from callboard.ops.migrations import runner

ROWS = Path(__file__).with_name("data") / "first_release.sql"
IDS = (
    "select indexrelid from pg_index join pg_class on oid = indrelid "
    "where relnamespace = 'public'::regnamespace order by 1"
)
DEFINITIONS = "select indexdef from pg_indexes where schemaname = 'public' order by 1"
STATES = "select content_id, status, updated_at from content order by 1"
INVALID = "select indexrelid::regclass from pg_index where not indisvalid"
NOT_VALIDATED = "select conname from pg_constraint where not convalidated and conrelid = 'content'::regclass"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[str]:
    """A database of the first release, with its rows."""
    with open_data_directory(tmp_path / "data") as place:
        postgres = Postgres(place, free_ports(1)[0])
        await postgres.start()
        connection = await asyncpg.connect(postgres.url)
        await connection.execute((schema.VERSIONS / "0001_first_release.sql").read_text(encoding="utf-8"))
        await connection.execute(ROWS.read_text(encoding="utf-8"))
        await connection.execute("update content set status = 'pending', published_at = null")
        await connection.close()
        yield postgres.url
        await postgres.stop()
        place.reset()


async def test_the_indexes_of_content_are_made_without_a_lock_and_anew_after_an_interruption(server: str) -> None:
    """To build an index in a transaction that also alters its table keeps everybody out for as long."""
    connection = await asyncpg.connect(server)
    await runner.up(server, to="0080")
    before, was = await connection.fetch(IDS), await connection.fetch(STATES)
    await runner.up(server, to="0081")
    assert await connection.fetch(IDS) == before
    assert await connection.fetch(NOT_VALIDATED)
    await runner.up(server, to="0101")
    assert [(key, "pending_review", time) for key, _, time in was] == await connection.fetch(STATES)
    made = await connection.fetch(DEFINITIONS)
    await connection.execute("update pg_index set indisvalid = false where indexrelid = 'content_status_idx'::regclass")
    await connection.execute("drop index content_editor_idx; update alembic_version set version_num = '0100'")
    await runner.up(server, to="0101")
    assert await connection.fetch(DEFINITIONS) == made
    assert (await connection.fetch(INVALID), await connection.fetch(NOT_VALIDATED)) == ([], [])
    await connection.close()
