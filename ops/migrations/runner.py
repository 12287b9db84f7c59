"""`callboard migrate status | up | down | new`: Alembic, over asyncpg, with one process at a time."""

import asyncio
import re
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError as AlembicError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from callboard.ops import schema
from callboard.ops.cli import FAILED, OK, CommandError
from callboard.ops.departments import histories_of, in_order, installed
from callboard.ops.terminal import json_line

_CONNECT_S = 10.0
# A statement that waits for a lock holds up all that come after it: so it gives up before a request does, and the
# migration, which is a transaction, is tried again.
_LOCK_TIMEOUT = "1s"
_LOCK_ATTEMPTS = 60
_LOCK_RETRY_S = 1.0


def config(history: schema.History | None = None) -> Config:
    """Return Alembic's settings for our migrations, or those of a package. There is no alembic.ini."""
    settings = Config()
    if history is not None:
        settings.set_main_option("version_locations", str(history.folder).replace("%", "%%"))
        settings.attributes["version_table"] = history.table
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


async def status(url: str, *, as_json: bool = False) -> int:
    """Print the database's revision and its missing migrations; return the exit status, 1 if any is missing."""
    async with schema.connected(url) as connection:
        revision = await schema.revision_of(connection)
        of_packages = {each: await schema.missing_of(connection, each) for each in histories()}
    missing = schema.missing_from(revision)
    lacking = [f"{history.department} {each}" for history, found in of_packages.items() for each in found]
    if as_json:
        print(json_line({"database": revision, "release": schema.head(), "missing": [*missing, *lacking]}))
    else:
        _print_status(revision, missing, of_packages)
    return FAILED if missing or lacking else OK


def _print_status(revision: str | None, missing: list[str], of_packages: dict[schema.History, list[str]]) -> None:
    scripts = ScriptDirectory.from_config(config())
    print(f"database  {revision or 'empty'}")
    print(f"release   {schema.head()}")
    for each in missing:
        script = scripts.get_revision(each)
        print(f"missing   {each}  {script.doc if script else ''}")
    for history, lacking in of_packages.items():
        print(f"package   {history.department}: {schema.revisions(history.folder)[-1]}")
        for each in lacking:
            print(f"missing   {history.department} {each}")
    if not missing and not any(of_packages.values()):
        print("nothing is missing" if revision in schema.revisions() else "a later release has migrated it")


async def up(url: str, to: str = "head", *, as_json: bool = False) -> int:
    """Run the missing migrations, up to `to`, and then those of packages; return the exit status.

    An empty database gets schema.sql, unless a revision is given: then packages are left as they are.
    """
    if to == "head":
        await schema.install(url)
    await _work(url, lambda settings: command.upgrade(settings, to), attempts=_attempts(to))
    for history in histories() if to == "head" else ():
        await _work(url, lambda settings: command.upgrade(settings, "head"), history)
    return await status(url, as_json=as_json) if to == "head" else OK


async def down(url: str, to: str = "-1", *, as_json: bool = False) -> int:
    """Revert migrations, down to `to`; return the exit status."""
    await _work(url, lambda settings: command.downgrade(settings, to), attempts=_attempts(to))
    await status(url, as_json=as_json)
    return OK


def print_sql(since: str = schema.FIRST) -> int:
    """Print the SQL that `up` would run on a database at `since`; return the exit status. Raises CommandError."""
    if since not in schema.revisions():
        raise CommandError(f"there is no revision {since!r}: callboard migrate status lists them")
    command.upgrade(config(), f"{since}:head", sql=True)
    return OK


def new(title: str, *, as_json: bool) -> int:
    """Write the file of a new migration, to be filled in; return the exit status."""
    known = schema.revisions()
    slug = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
    if not slug:
        raise CommandError("the title needs a word: callboard migrate new 'Keep tags of content'")
    revision = f"{max(map(int, known)) + 1:04}"
    settings = config()
    settings.cmd_opts = Namespace(quiet=True)  # the line below is all
    made = command.revision(settings, message=title.rstrip("."), rev_id=revision, head="head")
    path = Path(made.path) if made and not isinstance(made, list) else schema.VERSIONS
    told = f"{path}: write it, then change schema.sql to match; tests/ops/test_migrations.py compares them"
    print(json_line({"revision": revision, "path": str(path)}) if as_json else told)
    return OK


def histories() -> list[schema.History]:
    """Return the histories of the installed packages, in the order in which their departments are built."""
    return histories_of(in_order(installed()))


def _attempts(to: str) -> int:
    """Return how often a command may be tried: one that goes several steps from wherever it is, only once."""
    return _LOCK_ATTEMPTS if to in ("+1", "-1") or to[:1] not in ("+", "-") else 1


async def _work(
    url: str,
    work: Callable[[Config], None],
    history: schema.History | None = None,
    *,
    attempts: int = _LOCK_ATTEMPTS,
) -> None:
    """Run Alembic while this process holds the lock. Raises CommandError with its reason."""

    def within(connection: Any, *, unmarked: bool) -> None:
        settings = config(history)
        settings.attributes["connection"] = connection
        if unmarked and history is None:
            command.stamp(settings, schema.FIRST)
        work(settings)

    async def connect() -> Any:
        connection = await asyncpg.connect(url, timeout=_CONNECT_S)
        await connection.execute(f"set lock_timeout = '{_LOCK_TIMEOUT}'")
        return connection

    async def attempt() -> None:
        marked = await holder.fetchval("select to_regclass('alembic_version') is not null")
        unmarked = not marked and await schema.revision_of(holder) == schema.FIRST
        async with engine.connect() as connection:
            await connection.run_sync(partial(within, unmarked=unmarked))

    # The lock has a separate connection: Alembic takes an earlier statement on its own for another's transaction, and
    # then commits nothing.
    async with schema.connected(url) as holder, schema.locked(holder):
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
        try:
            for _ in range(attempts - 1):
                with suppress(asyncpg.LockNotAvailableError):
                    return await attempt()
                await asyncio.sleep(_LOCK_RETRY_S)
            await attempt()
        except AlembicError as error:
            raise CommandError(str(error)) from error
        finally:
            await engine.dispose()
