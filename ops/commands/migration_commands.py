"""`callboard migrate`: the schema of the database."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

from callboard.actors.infrastructure.database_server import ERRORS, shown_address
from callboard.actors.infrastructure.postgres_errors import judge_connecting, words
from callboard.ops.cli import CommandError
from callboard.ops.config.lookup import read_setting
from callboard.ops.config.settings import Config
from callboard.ops.embedded.data_directory import data_folder, read_running
from callboard.ops.migrations import runner


async def run_migrate(options: argparse.Namespace) -> int:
    """Run an action; return the exit status."""
    if options.migrate == "new":
        return runner.new(options.title, as_json=options.json)
    if options.migrate == "up" and options.sql:
        return runner.print_sql(options.since)
    url = database_url(options)
    with named(url):
        if options.migrate == "status":
            return await runner.status(url, as_json=options.json)
        change = runner.up if options.migrate == "up" else runner.down
        return await change(url, options.to, as_json=options.json)


def database_url(options: argparse.Namespace) -> str:
    """Return the database of the environment, or of the running `callboard up`. Raises CommandError, ConfigError."""
    names = ("database_direct_url", "database_url")
    given = next(filter(None, (read_setting(Config, name, os.environ) for name in names)), None)
    url = given or (read_running(data_folder(options.data_dir)) or {}).get("DATABASE_URL")
    if not url:
        raise CommandError("no database: set DATABASE_URL, or run `callboard up` on this data folder")
    return str(url)


@contextmanager
def named(url: str) -> Iterator[None]:
    """Raise CommandError for an error of a database: its address without credentials, the state and the message."""
    try:
        yield
    except ERRORS as error:
        said = f"{judge_connecting(error).why}; {words(error)}"
        raise CommandError(f"DATABASE_URL ({shown_address(url)}): {said}") from error
