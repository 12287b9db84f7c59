"""schema.sql and the queries: each fits the other, and the constraints that the code relies on are there."""

# ruff: noqa: S608 - statements of our own making

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiosql
import asyncpg
import pytest
from kit.domain import Domain

from callboard.actors.infrastructure.database import Database
from callboard.ops import schema
from callboard.ops.embedded.postgres import Postgres

ROOT = schema.SCHEMA.parent
FILES = sorted([*(ROOT / "actors").rglob("*.sql"), *(ROOT / "streams").glob("*.sql")])


def queries(path: Path) -> dict[str, str]:
    loaded = aiosql.from_path(path, "asyncpg")
    return {name: getattr(loaded, name).sql for name in loaded.available_queries if not name.endswith("_cursor")}


# A row is added to a table of another department where one statement does both.
WRITTEN_IN_PASSING = {
    ("identity", "into", "audit_log"),  # a login is one statement, with its entry
    ("delivery", "into", "jobs"),  # mails that an earlier release has left become jobs
}

QUERIES = {f"{path.parent.name}/{path.stem}.{name}": sql for path in FILES for name, sql in queries(path).items()}

USER = "insert into users (email, password_hash, full_name"
SOME_USER = "select user_id from users where email = 'ada@example.org'"
CONTENT = "insert into content (author_id, title, body, body_html, status) select user_id, 't', 'b', '', "
VIOLATIONS = [
    ("users_email_key", f"{USER}) values ('ADA@example.org', 'x', 'Ada')"),
    ("users_role_check", f"{USER}, role) values ('b@example.org', 'x', 'B', 'king')"),
    ("users_full_name_check", f"{USER}) values ('b@example.org', 'x', '')"),
    (
        "refresh_tokens_session_key",
        (
            f"with s as (insert into sessions (user_id, expires_at) select user_id, now() from ({SOME_USER}) u "
            f"returning session_id) insert into refresh_tokens (refresh_hash, session_id) "
            f"select h, session_id from s, (values ('a'::bytea), ('b'::bytea)) t(h)"
        ),
    ),
    (
        "refresh_tokens_child_check",
        (
            f"with s as (insert into sessions (user_id, expires_at) select user_id, now() from ({SOME_USER}) u "
            f"returning session_id) insert into refresh_tokens (refresh_hash, session_id, spent_at) "
            f"select 'a', session_id, now() from s"
        ),
    ),
    (
        "mail_tokens_token_hash_key",
        (
            f"insert into mail_tokens (user_id, purpose, token_hash, expires_at) "
            f"select user_id, 'verify_email', h, now() from ({SOME_USER}) u, (values ('a'::bytea), ('a'::bytea)) s(h)"
        ),
    ),
    (
        "mail_tokens_purpose_check",
        (
            f"insert into mail_tokens (user_id, purpose, token_hash, expires_at) "
            f"select user_id, 'other', 'a', now() from ({SOME_USER}) u"
        ),
    ),
    (
        "content_category_id_fkey",
        (
            f"insert into content (author_id, title, body, body_html, category_id) "
            f"select user_id, 't', 'b', '', gen_random_uuid() from ({SOME_USER}) u"
        ),
    ),
    ("content_status_check", f"{CONTENT} 'lost' from ({SOME_USER}) u"),
    (
        "content_body_html_check",
        (
            f"insert into content (author_id, title, body, body_html) "
            f"select user_id, 't', 'b', repeat('x', 2000001) from ({SOME_USER}) u"
        ),
    ),
    ("content_published_at_check", f"{CONTENT} 'published' from ({SOME_USER}) u"),
    ("categories_slug_key", "insert into categories (slug, name) values ('a', 'A'), ('a', 'B')"),
    ("categories_name_key", "insert into categories (slug, name) values ('a', '\u00c9A'), ('b', '\u00e9a')"),
    (
        "subscriptions_user_key",
        (
            f"insert into subscriptions (user_id, plan_type, status, ends_at) "
            f"select user_id, 'p', s, now() from ({SOME_USER}) u, (values ('active'), ('past_due')) as s(s)"
        ),
    ),
    ("aggregated_stats_hour_check", "insert into aggregated_stats values ('m', 's', '2026-01-01 10:30Z', 1, 1)"),
    (
        "outbox_event_id_key",
        (
            "insert into outbox (event_id, topic, key, type, value) "
            "select '00000000-0000-0000-0000-000000000001', 't', 'k', 'y', 'v' from generate_series(1, 2)"
        ),
    ),
    ("consumed_events_pkey", "insert into consumed_events values ('c', 's', 'e'), ('c', 's', 'e')"),
    (
        "mails_pkey",
        (
            "insert into mails (mail_id, recipient, letter, expires_at) "
            "select '00000000-0000-0000-0000-000000000001', 'r', 'l', now() from generate_series(1, 2)"
        ),
    ),
    (
        "mails_status_check",
        (
            "insert into mails (mail_id, recipient, letter, expires_at, status) "
            "values (gen_random_uuid(), 'r', 'l', now(), 'lost')"
        ),
    ),
]


@pytest.fixture
async def empty(postgres: Postgres) -> AsyncIterator[str]:
    """The address of a database in which there is nothing at all."""
    name = f"empty_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f'create database "{name}" template template0')
    yield postgres.url.rpartition("/")[0] + f"/{name}"
    await connection.execute(f'drop database "{name}" with (force)')
    await connection.close()


@pytest.mark.parametrize("name", QUERIES)
async def test_every_query_prepares_against_the_schema(database: Database, name: str) -> None:
    async with database.acquire() as connection:
        await connection.prepare(QUERIES[name])


def test_the_queries_of_every_file_are_among_those_prepared() -> None:
    assert {name.partition(".")[0] for name in QUERIES} == {f"{path.parent.name}/{path.stem}" for path in FILES}
    assert len(QUERIES) > 40


def test_a_department_reads_the_tables_of_another_only_through_its_views() -> None:
    tables = set(re.findall(r"^create table (\w+)", schema.SCHEMA.read_text(), re.MULTILINE))
    named: dict[str, set[str]] = {table: set() for table in tables}
    for path in FILES:
        folder = path.parent.name
        text = re.sub(r"--.*", "", path.read_text())
        for verb, table in re.findall(r"\b(from|join|using|into|update|table)\s+(?:only\s+)?(\w+)", text):
            if table in tables and (folder, verb, table) not in WRITTEN_IN_PASSING:
                named[table].add(folder)
    assert {table: folders for table, folders in named.items() if len(folders) > 1} == {}
    assert {"identity", "editorial", "delivery", "infrastructure"} <= set.union(*named.values())


@pytest.mark.parametrize(("constraint", "statement"), VIOLATIONS, ids=[name for name, _ in VIOLATIONS])
async def test_the_database_itself_refuses_what_breaks_a_rule(domain: Domain, constraint: str, statement: str) -> None:
    await domain.person(email="ada@example.org")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
        await domain.execute(statement)
    assert caught.value.constraint_name == constraint


async def test_a_deleted_account_frees_its_address(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    await domain.execute("update users set deleted_at = now()")
    await domain.person(email="Ada@example.org")


async def test_every_table_with_an_updated_at_keeps_it_by_a_trigger(domain: Domain) -> None:
    with_column = await domain.rows(
        "select table_name from information_schema.columns join information_schema.tables "
        "using (table_schema, table_name) "
        "where table_schema = 'public' and table_type = 'BASE TABLE' and column_name = 'updated_at' order by table_name"
    )
    with_trigger = await domain.rows(
        "select event_object_table as table_name from information_schema.triggers "
        "where action_statement like '%touch_updated_at%' and event_manipulation = 'UPDATE' "
        "and action_timing = 'BEFORE' order by 1"
    )
    assert with_column == with_trigger
    assert len(with_column) >= 8


async def test_an_update_moves_updated_at_whatever_it_says_itself(domain: Domain) -> None:
    await domain.person()
    before = await domain.value("select updated_at from users")
    await domain.execute("update users set full_name = 'New', updated_at = '2001-01-01'")
    assert await domain.value("select updated_at from users") > before


async def test_an_insert_into_the_outbox_is_announced_once_at_its_commit(database: Database) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with database.acquire() as listener, database.acquire() as writer:

        def hear(*notice: object) -> None:
            heard.put_nowait(str(notice[2]))

        await listener.add_listener("callboard_outbox", hear)
        insert = "insert into outbox (event_id, topic, key, type, value) values (gen_random_uuid(), 't', 'k', 'y', '')"
        async with writer.transaction():
            await writer.execute(insert)
            await writer.execute(insert)
        assert await asyncio.wait_for(heard.get(), 5) == "callboard_outbox"
        await listener.fetchval("select 1")
        await listener.remove_listener("callboard_outbox", hear)
        assert heard.empty()


async def test_several_that_install_at_once_install_once(empty: str) -> None:
    await asyncio.gather(*(schema.install(empty) for _ in range(5)))
    connection = await asyncpg.connect(empty)
    try:
        await connection.execute(f"{USER}) values ('a@example.org', 'x', 'A')")
        await schema.install(empty)
        assert await connection.fetchval("select count(*) from users") == 1
    finally:
        await connection.close()


async def test_an_installation_that_fails_leaves_nothing(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "schema.sql"
    broken.write_text(schema.SCHEMA.read_text() + "create table nonsense (x no_such_type);")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "SCHEMA", broken)
        with pytest.raises(asyncpg.UndefinedObjectError):
            await schema.install(empty)
    await schema.install(empty)
    connection = await asyncpg.connect(empty)
    try:
        assert await connection.fetchval("select count(*) from users") == 0
    finally:
        await connection.close()
