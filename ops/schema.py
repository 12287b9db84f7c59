"""The schema of a database: whether it fits this release, and who migrates it if not.

Nothing here imports Alembic, which takes 46 MB: a serving process reads one row, and leaves the work to `callboard
migrate up` in a process of its own.
"""

import asyncio
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

SCHEMA = Path(__file__).parents[1] / "schema.sql"
VERSIONS = Path(__file__).with_name("migrations") / "versions"
_LINKS = re.compile(
    r'^revision = "(?P<revision>\w+)"$.*?^down_revision = (?:"(?P<down>\w+)"|None)$', re.MULTILINE | re.DOTALL
)
FIRST = "0001"  # the revision of a database that is older than revisions

_LOCK = 0x63616C6C  # an advisory lock's key: "call"; of several processes that start together one changes the schema
_LOCK_RETRY_S = 0.1
_TIMEOUT_S = 2.0
_STATEMENT_TIMEOUT_S = 30.0

log = logging.getLogger(__name__)


class SchemaOutdatedError(Exception):
    """The database lacks migrations of this release; waiting cannot help."""


class MigrationFailedError(Exception):
    """`callboard migrate up` has failed; its last output says why."""


class History(msgspec.Struct, frozen=True):
    """The migrations of a package's department, with a version table of their own: a removed package leaves nothing in
    ours.
    """

    department: str
    folder: Path

    @property
    def table(self) -> str:
        """Return the name of the table with its revision."""
        return f"alembic_version_{self.department}"


def revisions(folder: Path = VERSIONS) -> list[str]:
    """Return the revisions in a folder, by default ours, first to last: each names the one before it."""
    after: dict[str, str] = {}
    for path in folder.glob("[0-9]*_*.py"):
        found = _LINKS.search(path.read_text(encoding="utf-8"))
        if found is not None:
            after[found["down"] or ""] = found["revision"]
    chain = [after[""]]
    while chain[-1] in after:
        chain.append(after[chain[-1]])
    return chain


def head() -> str:
    """Return the revision of this release."""
    return revisions()[-1]


async def revision_of(connection: Any) -> str | None:
    """Return the revision of a database; None for one without our tables."""
    if await connection.fetchval("select to_regclass('alembic_version') is not null"):
        version: str | None = await connection.fetchval("select version_num from alembic_version")
        if version is not None:
            return version
    ours = "select to_regclass('users') is not null and to_regclass('content_transitions') is not null"
    return FIRST if await connection.fetchval(ours) else None


def missing_from(revision: str | None) -> list[str]:
    """Return this release's revisions that a database at `revision` lacks; none for one of a later release."""
    known = revisions()
    if revision is None:
        return known
    return known[known.index(revision) + 1 :] if revision in known else []


async def missing_of(connection: Any, history: History) -> list[str]:
    """Return a package's revisions that a database lacks."""
    known, at = revisions(history.folder), None
    if await connection.fetchval("select to_regclass($1) is not null", history.table):
        at = await connection.fetchval(f"select version_num from {history.table}")  # noqa: S608 - named after a department
    return known if at is None else known[known.index(at) + 1 :] if at in known else []


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """Yield a separate connection for changes of the schema. Raises asyncpg's errors while the server is
    unavailable.
    """
    connection = await asyncpg.connect(url, timeout=_TIMEOUT_S, command_timeout=_STATEMENT_TIMEOUT_S)
    try:
        yield connection
    finally:
        await connection.close(timeout=_TIMEOUT_S)


@asynccontextmanager
async def locked(connection: Any) -> AsyncIterator[None]:
    """Hold the right to change the schema, which one process has at a time.

    It polls instead of waiting: `create index concurrently` waits for all who wait.
    """
    while not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):  # noqa: ASYNC110 - PostgreSQL tells nobody
        await asyncio.sleep(_LOCK_RETRY_S)
    try:
        yield
    finally:
        await connection.execute("select pg_advisory_unlock($1)", _LOCK)


async def install(url: str) -> None:
    """Give an empty database all of schema.sql, in one transaction; leave any other as it is.

    Raises asyncpg's errors while the server is unavailable.
    """
    async with connected(url) as connection:
        if await revision_of(connection) is not None:
            return
        async with locked(connection), connection.transaction():
            if await revision_of(connection) is not None:
                return
            await connection.execute(SCHEMA.read_text(encoding="utf-8"))
            await connection.execute(
                "create table alembic_version (version_num varchar(32) constraint alembic_version_pkc primary key)"
            )
            await connection.execute("insert into alembic_version values ($1)", head())
            log.info("the database was empty: the schema is installed, at revision %s", head())


async def prepare(url: str, *, migrate: bool, histories: Sequence[History] = ()) -> None:
    """Ensure that a database has the schema of this release, and of the packages with these histories: fill an empty
    one, and migrate an older one if `migrate`.

    Raises SchemaOutdatedError for an older one without `migrate`, MigrationFailedError, and asyncpg's errors while the
    server is unavailable.
    """
    await install(url)
    async with connected(url) as connection:
        revision = await revision_of(connection)
        of_packages = [f"{each.department} {one}" for each in histories for one in await missing_of(connection, each)]
    missing = [*missing_from(revision), *of_packages]
    if missing and not migrate:
        raise SchemaOutdatedError(
            f"the database is at revision {revision} and lacks {', '.join(missing)}: "
            "run `callboard migrate up`, or set MIGRATE=auto"
        )
    if missing:
        await _migrate_apart(url)
    elif revision not in revisions():
        log.warning("the database is at revision %s of a later release", revision)


async def _migrate_apart(url: str) -> None:
    """Run `callboard migrate up` and wait for it. Raises MigrationFailedError."""
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "callboard.ops", "migrate", "up"),
        env={**os.environ, "DATABASE_URL": url},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await command.communicate()
    except asyncio.CancelledError:
        command.terminate()  # each migration is a transaction
        await command.wait()
        raise
    lines = said.decode(errors="replace").strip().splitlines() or [""]
    if command.returncode:
        raise MigrationFailedError(f"the database could not be migrated: {lines[-1]}")
    for line in lines:
        log.info("%s", line)
