"""Migrations beside the release before: no statement locks it out or takes away what it reads, and none waits long."""

import asyncio
import io
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest
from alembic import command

from callboard.ops import schema
from callboard.ops.embedded.data_directory import free_ports, open_data_directory
from callboard.ops.embedded.postgres import Postgres
from callboard.ops.migrations import runner

SQUAWK = Path(sys.executable).with_name("squawk")
BEFORE_THE_RULE = "0215"  # migrations up to this one came before a release that could run beside them
# What locks a table for as long as it is large, or takes away or tightens what the release before uses.
REFUSED = {
    "adding-field-with-default",
    "adding-foreign-key-constraint",
    "adding-not-nullable-field",
    "adding-required-field",
    "adding-serial-primary-key-field",
    "ban-alter-domain-with-add-constraint",
    "ban-drop-column",
    "ban-drop-database",
    "ban-drop-not-null",
    "ban-drop-table",
    "ban-truncate-cascade",
    "changing-column-type",
    "constraint-missing-not-valid",
    "disallowed-unique-constraint",
    "renaming-column",
    "renaming-table",
    "require-concurrent-index-creation",
    "require-concurrent-index-deletion",
    "syntax-error",
    "transaction-nesting",
}
WITH_REASON = re.compile(r"--\s*contract: \S.+\n--\s*squawk-ignore\s+[\w, -]+\n")


def faults_of(sql: str) -> list[str]:
    """What squawk finds in it, of what is refused; and an exception without its reason."""
    exceptions = sql.count("squawk-ignore")
    found = ["an exception needs a line before it: -- contract: unused since RELEASE"]
    found = found if exceptions > len(WITH_REASON.findall(sql)) else []
    options = ("--reporter=json", "--pg-version=15", "--stdin-filepath=migration.sql")
    done = subprocess.run([SQUAWK, *options], input=sql, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.stdout.startswith("["), done.stderr
    rules = [each["rule_name"] for each in json.loads(done.stdout)]
    return found + [rule for rule in rules if rule in REFUSED]


def sql_of(revision: str, before: str) -> str:
    """The statements of a migration, as `callboard migrate up --sql` prints them."""
    settings = runner.config()
    settings.output_buffer = printed = io.StringIO()
    command.upgrade(settings, f"{before}:{revision}", sql=True)
    return printed.getvalue()


def later() -> list[tuple[str, str]]:
    known = schema.revisions()
    return [(each, before) for before, each in pairwise(known) if each > BEFORE_THE_RULE]


@pytest.mark.parametrize(("revision", "before"), later())
def test_a_migration_only_expands_what_the_release_before_uses(revision: str, before: str) -> None:
    """See "Migrations" in CONTRIBUTING.md."""
    assert faults_of(sql_of(revision, before)) == []


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("alter table content drop column body;", "ban-drop-column"),
        ("drop table comments;", "ban-drop-table"),
        ("alter table content rename column body to text;", "renaming-column"),
        ("alter table content rename to articles;", "renaming-table"),
        ("alter table content alter column title type varchar(100);", "changing-column-type"),
        ("alter table content alter column category_id set not null;", "adding-not-nullable-field"),
        ("alter table content add column kind text not null;", "adding-required-field"),
        ("create index content_kind_idx on content (kind);", "require-concurrent-index-creation"),
        ("alter table content add constraint long check (length(title) > 1);", "constraint-missing-not-valid"),
        ("alter table content add constraint one unique (title);", "disallowed-unique-constraint"),
        (
            "-- squawk-ignore ban-drop-column\nalter table content drop column body;",
            "an exception needs a line before it",
        ),
    ],
)
def test_what_would_break_the_release_before_is_refused(statement: str, rule: str) -> None:
    assert any(each.startswith(rule) for each in faults_of(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "alter table content add column kind text;",
        "alter table content add column stars integer not null default 0;",
        "create table stars (content_id uuid primary key, stars integer not null);",
        "create index concurrently content_kind_idx on content (kind);",
        "alter table content add constraint long check (length(title) > 1) not valid;",
        "-- contract: unused since 0.3\n-- squawk-ignore ban-drop-column\nalter table content drop column body;",
    ],
)
def test_what_expands_and_a_contraction_with_its_reason_are_accepted(statement: str) -> None:
    assert faults_of(statement) == []


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[str]:
    with open_data_directory(tmp_path / "data") as place:
        postgres = Postgres(place, free_ports(1)[0])
        await postgres.start()
        yield postgres.url
        await postgres.stop()
        place.reset()


async def test_a_migration_that_must_wait_for_a_lock_lets_requests_pass_and_comes_again(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of minutes would otherwise hold up the migration, and the migration all who come after it."""
    monkeypatch.setattr(runner, "_LOCK_TIMEOUT", "50ms")
    waits: list[float] = []
    waited, sleep = asyncio.Event(), asyncio.sleep

    async def note(seconds: float) -> None:
        waits.append(seconds)
        waited.set()
        await sleep(0)

    monkeypatch.setattr(runner.asyncio, "sleep", note)
    await schema.install(server)
    reader, request = await asyncpg.connect(server), await asyncpg.connect(server)
    steps = schema.revisions()
    held = reader.transaction()
    await held.start()
    await reader.execute("lock table content_attachments in access share mode")
    migrating = asyncio.create_task(runner.down(server, steps[steps.index("0205") - 1]))  # drops that table
    await asyncio.wait_for(waited.wait(), 60)
    await request.fetch("select * from content_attachments", timeout=30)  # passes, however long the reader reads
    await held.rollback()
    assert await asyncio.wait_for(migrating, 60) == 0
    assert not await request.fetchval("select to_regclass('content_attachments') is not null")
    await runner.up(server)
    assert await request.fetchval("select version_num from alembic_version") == steps[-1]
    assert set(waits) <= {runner._LOCK_RETRY_S, schema._LOCK_RETRY_S, 0}
    await asyncio.gather(reader.close(), request.close())
