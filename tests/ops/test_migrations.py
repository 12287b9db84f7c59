"""Migrations: together they make schema.sql; they keep the rows of every table; one process at a time runs them."""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from kit.running import Command

from callboard.ops import schema
from callboard.ops.cli import CommandError
from callboard.ops.embedded.binaries import find_postgres
from callboard.ops.embedded.data_directory import DataDirectory, free_ports, open_data_directory
from callboard.ops.embedded.postgres import Postgres
from callboard.ops.migrations import runner
from callboard.streams.email_address import canonical_email

ROWS = Path(__file__).with_name("data") / "first_release.sql"
TABLES = "select tablename from pg_tables where schemaname = 'public' order by 1"
REWRITTEN = {"0082": {"user_profiles"}}  # a row for each user, of some hundred bytes
MOVED = {"petitions", "mails", "exports"}  # their rows may go elsewhere, which has tests of its own


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    with open_data_directory(tmp_path_factory.mktemp("migrations") / "data") as place:
        yield place
        place.reset()


@pytest.fixture(scope="module")
async def postgres(place: DataDirectory) -> AsyncIterator[Postgres]:
    server = Postgres(place, free_ports(1)[0])
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def empty(postgres: Postgres) -> AsyncIterator[str]:
    """The address of a database in which there is nothing at all."""
    name = f"empty_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f'create database "{name}" template template0')
    yield postgres.url.rpartition("/")[0] + f"/{name}"
    await connection.execute(f'drop database "{name}" with (force)')
    await connection.close()


@pytest.fixture
async def older(empty: str) -> str:
    """A database as the first release left it, with rows in every table and no revision."""
    connection = await asyncpg.connect(empty)
    await connection.execute((schema.VERSIONS / "0001_first_release.sql").read_text(encoding="utf-8"))
    await connection.execute(ROWS.read_text(encoding="utf-8"))
    await connection.close()
    return empty


def dump(url: str) -> str:
    """The schema of a database as pg_dump writes it."""
    program = find_postgres(None).postgres.with_name("pg_dump")
    flags = ("--schema-only", "--no-owner", "--no-privileges", "--restrict-key=x", "-T", "alembic_version")
    done = subprocess.run(  # noqa: S603 - a program of the wheel
        [program, *flags, url], check=True, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"}
    )
    return done.stdout


async def counts(url: str) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    tables = [row["tablename"] for row in await connection.fetch(TABLES)]
    rows = {name: await connection.fetchval(f'select count(*) from "{name}"') for name in tables}  # noqa: S608
    await connection.close()
    return rows


async def test_all_migrations_together_make_what_schema_sql_says(empty: str, postgres: Postgres) -> None:
    await runner.up(empty, to=schema.head())
    migrated = dump(empty)
    other = await asyncpg.connect(postgres.url)
    name = f"whole_{uuid4().hex[:8]}"
    await other.execute(f'create database "{name}" template template0')
    whole = postgres.url.rpartition("/")[0] + f"/{name}"
    try:
        await schema.install(whole)
        assert migrated == dump(whole)
    finally:
        await other.execute(f'drop database "{name}" with (force)')
        await other.close()


async def test_what_the_first_release_made_comes_up_whole(older: str) -> None:
    before = await counts(older)
    assert all(before.values()), "a table of the first release has no row here to lose"
    assert await runner.up(older) == 0
    after = await counts(older)
    assert after["comment_counts"] == 1  # of the article that has a comment
    lost = {name for name, rows in before.items() if name not in MOVED and after.get(name, 0) < rows}
    assert not lost


async def test_each_migration_can_be_taken_back_and_run_again(older: str) -> None:
    await runner.up(older)
    migrated = dump(older)
    await runner.down(older, schema.FIRST)
    assert await runner.up(older) == 0
    assert dump(older) == migrated


async def test_no_migration_rewrites_a_table_that_may_be_large(older: str) -> None:
    """To rewrite a table locks it for as long as it is large. What fills a column of every row is a job's, in batches,
    like `search_refill`; a constraint is added `not valid`, and validated in a migration of its own.
    """
    rewritten: dict[str, set[str]] = {}
    before = await files(older)
    for revision in schema.revisions()[1:]:
        await runner.up(older, to=revision)
        after = await files(older)
        changed = {after[oid][0] for oid, (_, file) in before.items() if oid in after and after[oid][1] != file}
        rewritten |= {revision: changed} if changed else {}
        before = after
    assert rewritten == REWRITTEN


async def files(url: str) -> dict[int, tuple[str, int]]:
    """The name and the file of each table, by its id: a table that is rewritten has a new file."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "select oid, relname, relfilenode from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    await connection.close()
    return {row["oid"]: (row["relname"], row["relfilenode"]) for row in rows}


async def test_what_was_asked_for_and_not_done_yet_are_jobs_after_it(older: str) -> None:
    await runner.up(older, "head")
    connection = await asyncpg.connect(older)
    rows = await connection.fetch(
        "select kind, priority, attempts, payload->>'email' as email, payload->>'export_id' as export_id, "
        "deadline - created_at as life from jobs where kind in ('email_request', 'export') order by kind"
    )
    await connection.close()
    request, export = rows
    assert (request["kind"], request["priority"], request["email"]) == ("email_request", 0, "grace@example.org")
    assert request["life"].total_seconds() == 3600
    assert (export["kind"], export["attempts"]) == ("export", 1)
    assert export["export_id"].endswith("3")  # the other one is ready


async def test_texts_of_the_first_release_hold_nothing_that_is_refused_now_and_archives_are_kept(older: str) -> None:
    connection = await asyncpg.connect(older)
    reversed_name, form_feed = "Ada \u202eecalevoL", "one\x0ctwo\n\tthree\x9f"
    archive = bytes(range(256)) * 8193  # two pieces and 256 bytes
    await connection.execute("update users set full_name = $1 where email = 'grace@example.org'", reversed_name)
    await connection.execute("update user_profiles set bio = $1", form_feed)
    await connection.execute("update content_transitions set note = $1", form_feed)
    await connection.execute("update content set title = $1, body = $2", "\u2066\n", form_feed)
    await connection.execute("update exports set archive = $1 where status = 'ready'", archive)
    assert await runner.up(older) == 0
    try:
        assert (
            await connection.fetchval("select full_name from users where email = 'grace@example.org'")
            == "Ada  ecalevoL"
        )
        kept = "onetwo\n\tthree"
        assert {row["bio"] for row in await connection.fetch("select bio from user_profiles")} == {kept}
        assert {row["note"] for row in await connection.fetch("select note from content_transitions")} == {kept}
        rows = await connection.fetch("select title, body, version from content")
        assert {(row["title"], row["body"], row["version"]) for row in rows} == {("--", kept, 2)}
        pieces = await connection.fetch("select piece from export_pieces order by number")
        assert [len(row["piece"]) for row in pieces] == [1 << 20, 1 << 20, 256]
        assert b"".join(row["piece"] for row in pieces) == archive
        assert await connection.fetchrow("select size, pieces from exports where status = 'ready'") == (len(archive), 3)
    finally:
        await connection.close()


async def test_several_processes_that_migrate_at_once_migrate_once(older: str) -> None:
    assert await asyncio.gather(*(runner.up(older) for _ in range(4))) == [0, 0, 0, 0]


async def test_a_migration_that_fails_leaves_the_revision_before_it(
    older: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runner.up(older)
    versions = tmp_path / "versions"
    versions.mkdir()
    for path in schema.VERSIONS.glob("*.*"):
        (versions / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (versions / "9999_broken.py").write_text(
        "from callboard.ops.migrations.sql import execute\n"
        f'revision = "9999"\ndown_revision = "{schema.head()}"\n'
        'def upgrade():\n    execute("create table half (x int); select 1 / 0;")\n'
    )
    settings = runner.config()
    settings.set_main_option("version_locations", str(versions))
    monkeypatch.setattr(runner, "config", lambda _history=None: settings)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await runner.up(older)
    connection = await asyncpg.connect(older)
    assert await connection.fetchval("select to_regclass('half')") is None
    assert await schema.revision_of(connection) == schema.head()
    await connection.close()


async def test_the_tables_of_another_application_are_left_alone(empty: str) -> None:
    connection = await asyncpg.connect(empty)
    await connection.execute("create table users (id int); insert into users values (7)")
    assert await schema.revision_of(connection) is None
    with pytest.raises(asyncpg.DuplicateTableError):
        await runner.up(empty)
    assert [row["tablename"] for row in await connection.fetch(TABLES)] == ["users"]
    assert await connection.fetchval("select id from users") == 7
    await connection.close()


async def test_a_revision_that_this_release_does_not_know_is_neither_migrated_nor_taken_back(older: str) -> None:
    await runner.up(older)
    before = dump(older)
    connection = await asyncpg.connect(older)
    await connection.execute("update alembic_version set version_num = '9999'")
    for work in (runner.up, runner.down):
        with pytest.raises(CommandError, match="9999"):
            await work(older)
    assert await connection.fetchval("select version_num from alembic_version") == "9999"
    assert dump(older) == before
    await connection.close()


async def test_a_database_of_a_later_release_is_served(older: str, caplog: pytest.LogCaptureFixture) -> None:
    await runner.up(older)
    connection = await asyncpg.connect(older)
    await connection.execute("update alembic_version set version_num = '9999'")
    await connection.close()
    await schema.prepare(older, migrate=False)
    assert "a later release" in caplog.text


async def test_serve_names_what_an_older_database_lacks_and_ends(older: str) -> None:
    missing = schema.missing_from(schema.FIRST)
    if not missing:
        pytest.skip("there is only one revision")
    environment = {
        "DATABASE_URL": older,
        "REDIS_URL": "redis://127.0.0.1:1",
        "KAFKA_BROKERS": "127.0.0.1:1",
        "SMTP_HOST": "127.0.0.1",
        "JWT_SECRET_KEY": "x" * 64,
        **dict(zip(("HTTP_PORT", "OPS_PORT"), map(str, free_ports(2)), strict=True)),
    }
    command = Command("serve", environment=environment)
    status = await asyncio.to_thread(command.wait, 60)
    last = command.errors.strip().splitlines()[-1]
    assert status == 2, command.errors
    assert last.startswith("callboard: the database is at revision 0001 and lacks ")
    assert missing[-1] in last


async def test_a_start_that_may_migrates_an_older_database(older: str) -> None:
    await schema.prepare(older, migrate=True)
    connection = await asyncpg.connect(older)
    assert await schema.revision_of(connection) == schema.head()
    await connection.close()


async def test_the_command_says_where_the_database_stands(older: str) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        command = Command("migrate", *arguments, environment={"DATABASE_URL": older})
        return command.wait(), command.output + command.errors

    status, said = await asyncio.to_thread(run, "status")
    assert status == (1 if schema.missing_from(schema.FIRST) else 0), said
    assert "database  0001" in said
    status, said = await asyncio.to_thread(run, "up")
    assert (status, "nothing is missing" in said) == (0, True), said


def test_the_sql_of_migrations_can_be_printed_and_run_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.print_sql() == 0
    printed = capsys.readouterr().out
    for revision in schema.missing_from(schema.FIRST):
        assert f"version_num='{revision}'" in printed


def test_revisions_are_one_line_in_the_order_of_their_names() -> None:
    scripts = ScriptDirectory.from_config(runner.config())
    by_alembic = [script.revision for script in scripts.walk_revisions()][::-1]
    assert by_alembic == schema.revisions()
    assert all(re.fullmatch(r"\d{4}", revision) for revision in by_alembic)


async def test_html_that_an_earlier_release_let_grow_gives_way_to_its_source(older: str) -> None:
    connection = await asyncpg.connect(older)
    await connection.execute("update content set body = '<b>&', body_html = repeat('<b></b>', 1000000)")
    before = await connection.fetch("select content_id, updated_at from content order by 1")
    await runner.up(older)
    after = await connection.fetch("select content_id, updated_at from content order by 1")
    assert after == before, "nobody has changed them"
    assert set(await connection.fetch("select body, body_html from content")) == {("<b>&", "&lt;b&gt;&amp;")}
    await connection.close()


# As the first release kept them: the case of a local part varied, a domain was in Unicode, in lower case and NFC.
INTERNATIONAL = (
    "ada@bücher.example",
    "Bob@faß.de",
    "c@例え.テスト",
    "d@a.münchen-süd.xn--p1ai",
    "e@президент.рф",
    "f@пример.испытание-и-ещё-что-то.example",
    "g@ü.ö.ä.example",
    "h@𠜎𠜱.example",
)
KEPT = (
    "plain+tag@example.org",
    f"{'x' * 65}@example.org",  # refused today, and nobody loses the account
    "twin@bücher.example",  # another has that one, proved
    "TWIN@xn--bcher-kva.example",
)


async def test_addresses_of_an_older_database_become_canonical_and_a_conflict_loses_nothing(older: str) -> None:
    connection = await asyncpg.connect(older)
    await connection.execute("truncate users cascade")
    for email in (*INTERNATIONAL, *KEPT):
        await connection.execute(
            "insert into users (email, password_hash, full_name, is_verified) values ($1, 'x', 'A', $2)",
            email,
            email.startswith("TWIN"),
        )
    assert await runner.up(older) == 0
    after = {row["email"] for row in await connection.fetch("select email from users")}
    await connection.close()
    assert after == {*map(canonical_email, INTERNATIONAL), *KEPT}


async def test_no_row_says_pending_any_more_and_what_was_published_is_found(older: str) -> None:
    connection = await asyncpg.connect(older)
    await connection.execute("""
        update idempotency_keys
        set status = 200, headers = '{}', body = '{"data":{"status":"pending","title":"pending"}}'
    """)
    before = await connection.fetch("select content_id, updated_at from content order by 1")
    await runner.up(older)
    assert await connection.fetch("select content_id, updated_at from content order by 1") == before
    states = await connection.fetch("select status from content order by content_id")
    assert [row["status"] for row in states] == ["draft", "pending_review", "approved", "published", "archived"]
    steps = await connection.fetch("select from_status, to_status from content_transitions order by transition_id")
    assert [tuple(row) for row in steps] == [("draft", "pending_review"), ("pending_review", "approved")]
    kept = await connection.fetchval("select convert_from(body, 'UTF8') from idempotency_keys limit 1")
    assert kept == '{"data":{"status":"pending_review","title":"pending"}}'
    found = "status = 'published' and search @@ search_query('english', 'articles -nothing')"
    query = f"select status from content where {found}"  # noqa: S608 - our own words
    assert [row["status"] for row in await connection.fetch(query)] == ["published"]
    assert await connection.fetchval("select count(*) from jobs where kind = 'search_refill'") == 1
    assert await connection.fetchval("select bool_and(search_outdated) from content"), "made anew by the job alone"
    plans = await connection.fetch("select plan_type, starts_at = created_at as same from subscriptions order by 1")
    assert [tuple(row) for row in plans] == [("basic", True), ("pro", True)]
    await connection.close()


async def test_statistics_of_an_older_database_get_their_totals_and_give_them_back(older: str) -> None:
    connection = await asyncpg.connect(older)
    hour = "date_trunc('hour', now(), 'UTC')"
    await connection.execute(
        f"insert into aggregated_stats (metric, subject_id, hour, sum, count) values "  # noqa: S608 - our own words
        f"('reads', 'a', {hour}, 2, 1), ('reads', 'b', {hour}, 3, 2), ('reads', '', {hour}, 5, 4)"
    )
    rows = "select metric, subject_id, sum, count from aggregated_stats order by 1, 2"
    before = [tuple(row) for row in await connection.fetch(rows)]
    await runner.up(older)
    subject = "40000000-0000-0000-0000-000000000004"
    reads = [("reads", "", 10.0, 7), ("reads", "a", 2.0, 1), ("reads", "b", 3.0, 2)]
    views = [("views", "", 7.0, 7), ("views", subject, 7.0, 7)]
    assert [tuple(row) for row in await connection.fetch(rows)] == [*reads, *views]
    bounds = await connection.fetchrow("select min(min)::text, max(max)::text from aggregated_stats")
    assert tuple(bounds) == ("-Infinity", "Infinity")
    assert await connection.fetchval("select count(*) from stat_metrics") == 2
    await connection.execute(f"insert into live_stats values ('reads', '', {hour}, 1, 1, 1, 1)")  # noqa: S608
    await connection.execute(f"insert into live_stats values ('reads', 'a', {hour}, 1, 1, 1, 1)")  # noqa: S608
    await runner.down(older, "0099")
    before[1] = ("reads", "a", 3.0, 2)
    assert [tuple(row) for row in await connection.fetch(rows)] == before
    await connection.close()
