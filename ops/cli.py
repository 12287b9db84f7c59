"""The command line: `callboard up | serve | migrate | users ... | keys ... | jobs ...`, and others: see `--help`."""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from callboard.http.server.errors import CannotListenError
from callboard.ops.commands.dead_letter_arguments import add_dead_letters
from callboard.ops.commands.job_arguments import add_jobs
from callboard.ops.commands.key_arguments import add_keys
from callboard.ops.commands.user_arguments import add_users
from callboard.ops.config.sources import ConfigError
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.start import complain

OK, FAILED, USAGE = 0, 1, 2
PIPE = 141  # the status of a process that died of SIGPIPE


@contextmanager
def _scratch() -> Iterator[Path]:
    """Return a folder for Faust, which stores nothing there: if none can be made, a path without a folder will do."""
    try:
        folder = tempfile.mkdtemp(prefix="callboard-")
    except OSError:
        yield Path("/nonexistent/callboard")
        return
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class CommandError(Exception):
    """A command cannot do its work; the message is one line."""


def count(text: str) -> int:
    """Parse a whole number of at least 1. Raises ArgumentTypeError."""
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, and not {text!r}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their options."""
    top = argparse.ArgumentParser(prog="callboard", description="A backend of supervised actors.")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data-dir", help="the data folder (CALLBOARD_DATA_DIR; default: in the user's data folder)")

    up = commands.add_parser("up", parents=[data], help="run everything on embedded servers")
    up.set_defaults(run=_up)
    up.add_argument("--reset", action="store_true", help="empty the data folder first")
    up.add_argument("--demo", action="store_true", help="play the demo once everything is up")
    serve = commands.add_parser("serve", help="run against the servers that the environment configures")
    serve.set_defaults(run=_serve)
    document = commands.add_parser("openapi", help="print the API's OpenAPI document")
    document.set_defaults(run=_openapi)
    events = commands.add_parser("asyncapi", help="print the AsyncAPI document of the events")
    events.set_defaults(run=_asyncapi)
    demo = commands.add_parser("demo", parents=[data], help="play the demo against a running `callboard up`")
    demo.set_defaults(run=_demo)

    config = commands.add_parser("config", help="settings").add_subparsers(
        dest="config", required=True, metavar="action"
    )
    check = config.add_parser("check", help="check the settings and report every fault")
    check.add_argument("file", nargs="?", help="check only this file, as CALLBOARD_CONFIG, and not the environment")
    check.set_defaults(run=_check)

    audit = commands.add_parser("audit", parents=[data], help="list security events, newest first")
    audit.set_defaults(run=_audit)
    _add_audit(audit)

    doctor = commands.add_parser("doctor", parents=[data], help="find bloated and unused indexes")
    doctor.add_argument("--indexes", action="store_true", required=True, help="bloated and unused indexes")
    doctor.set_defaults(run=_doctor)

    migrate = commands.add_parser("migrate", help="the schema of the database")
    migrate.set_defaults(run=_migrate)
    _add_migrate(migrate.add_subparsers(dest="migrate", required=True, metavar="action"), data)

    jobs = commands.add_parser("jobs", help="the job queue")
    jobs.set_defaults(run=_jobs)
    add_jobs(jobs.add_subparsers(dest="jobs", required=True, metavar="action"), data)

    keys = commands.add_parser("keys", help="the keys of producers, which send events over HTTP")
    keys.set_defaults(run=_keys)
    add_keys(keys.add_subparsers(dest="keys", required=True, metavar="action"), data)

    topics = commands.add_parser("topics", parents=[data], help="list the partitions of Kafka's topics, and their lag")
    topics.add_argument("--json", action="store_true", help="a JSON object a line")
    topics.set_defaults(run=_topics)

    letters = commands.add_parser("dlq", help="dead letters of records, mails and jobs")
    letters.set_defaults(run=_dead_letters)
    add_dead_letters(letters.add_subparsers(dest="dlq", required=True, metavar="action"), data)

    users = commands.add_parser("users", help="accounts")
    users.set_defaults(run=_users)
    add_users(users.add_subparsers(dest="users", required=True, metavar="action"), data)
    return top


def _add_audit(audit: argparse.ArgumentParser) -> None:
    audit.add_argument("--action", help="an action, such as login.failed")
    audit.add_argument("--user", help="the id or address of an account: events about it and by it")
    audit.add_argument("--since", help="a time with its zone, such as 2026-01-31T12:00:00Z")
    audit.add_argument("--until", help="a time with its zone; only earlier events")
    audit.add_argument("--limit", type=count, default=100, help="the maximum number (default: 100)")
    audit.add_argument("--json", action="store_true", help="a JSON object a line")


def _add_migrate(migrate: Any, data: argparse.ArgumentParser) -> None:
    migrate.add_parser(
        "status", parents=[data], help="show the database's revision; status 1 if migrations are missing"
    )
    up = migrate.add_parser("up", parents=[data], help="run the missing migrations")
    up.add_argument("--to", default="head", help="the last revision to run")
    up.add_argument("--sql", action="store_true", help="print the SQL and run nothing")
    up.add_argument("--since", default="0001", help="with --sql: the current revision of the database")
    down = migrate.add_parser("down", parents=[data], help="revert migrations")
    down.add_argument("--to", default="-1", help="the revision to go back to; without it, one step")
    new = migrate.add_parser("new", help="write the file of a new migration")
    new.add_argument("title", help="the change, as a sentence")
    new.set_defaults(run=_new_migration)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, and exit with its status: 0, 1 if it failed, 2 if it could not begin."""
    options = parser().parse_args(arguments)
    try:
        status = _run(options.run(options))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has closed the pipe; the flush at the exit must not find that out again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = PIPE
    except ConfigError as error:
        for fault in error.faults:
            complain(f"callboard: {fault}")
        status = USAGE
    except (EmbeddedError, CannotListenError, CommandError) as error:
        complain(f"callboard: {error}")
        status = USAGE
    except OSError as error:  # a read-only folder, a full disk
        complain(f"callboard: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        status = FAILED
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _run(command: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(command)


# Each command imports its own modules: Faust alone takes a second, which `--help` should not.


async def _up(options: argparse.Namespace) -> int:
    from callboard.ops.up import data_folder, up  # noqa: PLC0415 - see above

    return await up(data_folder(options.data_dir), reset=options.reset, play=options.demo)


async def _serve(_options: argparse.Namespace) -> int:
    from callboard.ops import logs  # noqa: PLC0415 - see above
    from callboard.ops.application import Application, live  # noqa: PLC0415 - see above
    from callboard.ops.config.configuration import load  # noqa: PLC0415 - see above
    from callboard.ops.config.names import warnings  # noqa: PLC0415 - see above

    configuration = load(os.environ)
    config = configuration.process
    logs.configure(config.log_level, debug=config.enable_debug_mode)
    logs.warn([*warnings(os.environ), *configuration.cautions])

    async def announce() -> None:
        complain(f"callboard serves on {config.http_host}:{config.http_port}")

    with _scratch() as folder:
        return await live(Application(configuration, folder), announce)


async def _check(options: argparse.Namespace) -> int:
    from callboard.ops.application import dry_run  # noqa: PLC0415 - see above
    from callboard.ops.config.configuration import load  # noqa: PLC0415 - see above
    from callboard.ops.config.departments import variables_of_packages  # noqa: PLC0415 - see above
    from callboard.ops.config.names import warnings  # noqa: PLC0415 - see above
    from callboard.ops.config.reload import check  # noqa: PLC0415 - see above

    file = options.file
    if file is None:
        for warning in warnings(os.environ):
            complain(f"callboard: {warning}")
        file = load(os.environ).process.callboard_config
        print("the environment is good")
    if file:
        check(dry_run({"CALLBOARD_CONFIG": file, **variables_of_packages(os.environ)}), file)
        print(f"{file} is good")
    return OK


async def _openapi(_options: argparse.Namespace) -> int:
    from callboard.http.openapi.swagger import render_committed_document  # noqa: PLC0415 - see above
    from callboard.ops.departments import installed_routes  # noqa: PLC0415 - see above

    routes = [route for group in installed_routes() for route in group]
    print(render_committed_document(routes), end="")
    return OK


async def _asyncapi(_options: argparse.Namespace) -> int:
    from callboard.ops.departments import declared_by, installed  # noqa: PLC0415 - see above
    from callboard.streams.asyncapi import render_asyncapi  # noqa: PLC0415 - see above

    print(render_asyncapi(declared_by(installed()).events), end="")
    return OK


async def _demo(options: argparse.Namespace) -> int:
    from callboard.ops import demo  # noqa: PLC0415 - see above
    from callboard.ops.embedded.data_directory import read_running  # noqa: PLC0415 - see above
    from callboard.ops.up import data_folder  # noqa: PLC0415 - see above

    facts = read_running(data_folder(options.data_dir))
    if facts is None:
        where = "that data folder" if options.data_dir else "the default data folder (say --data-dir for another)"
        raise CommandError(f"nothing runs on {where}: start it with `make run` or `callboard up --demo`")
    try:
        await demo.play(demo.Target.of(facts), Console())
    except demo.DemoError as error:
        complain(f"callboard: {error}")
        return FAILED
    return OK


async def _new_migration(options: argparse.Namespace) -> int:
    from callboard.ops.migrations import runner  # noqa: PLC0415 - see above

    return runner.new(options.title)


async def _audit(options: argparse.Namespace) -> int:
    from callboard.ops.commands import audit_log  # noqa: PLC0415 - see above
    from callboard.ops.up import data_folder  # noqa: PLC0415 - see above

    return await audit_log.list_entries(
        data_folder(options.data_dir),
        action=options.action,
        user=options.user,
        since=options.since,
        until=options.until,
        limit=options.limit,
        as_json=options.json,
    )


def _database_url(options: argparse.Namespace) -> str:
    """Return the database of the environment, or of the running `callboard up`. Raises CommandError, ConfigError."""
    from callboard.ops.config.settings import Config  # noqa: PLC0415 - see above
    from callboard.ops.config.sources import read_setting  # noqa: PLC0415 - see above
    from callboard.ops.embedded.data_directory import read_running  # noqa: PLC0415 - see above
    from callboard.ops.up import data_folder  # noqa: PLC0415 - see above

    names = ("database_direct_url", "database_url")
    given = next(filter(None, (read_setting(Config, name, os.environ) for name in names)), None)
    url = given or (read_running(data_folder(options.data_dir)) or {}).get("DATABASE_URL")
    if not url:
        raise CommandError("no database: set DATABASE_URL, or run `callboard up` on this data folder")
    return str(url)


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Raise CommandError for an error of a database: its address without credentials, the state and the message."""
    from callboard.actors.infrastructure.database_server import ERRORS, shown_address  # noqa: PLC0415 - see above
    from callboard.actors.infrastructure.postgres_errors import judge_connecting, words  # noqa: PLC0415 - see above

    try:
        yield
    except ERRORS as error:
        said = f"{judge_connecting(error).why}; {words(error)}"
        raise CommandError(f"DATABASE_URL ({shown_address(url)}): {said}") from error


async def _doctor(options: argparse.Namespace) -> int:
    from callboard.ops.commands.doctor import report_indexes  # noqa: PLC0415 - see above

    url = _database_url(options)
    with _named(url):
        return await report_indexes(url)


async def _migrate(options: argparse.Namespace) -> int:
    from callboard.ops.migrations import runner  # noqa: PLC0415 - see above

    if options.migrate == "up" and options.sql:
        return runner.print_sql(options.since)
    url = _database_url(options)
    with _named(url):
        if options.migrate == "status":
            return await runner.status(url)
        return await (runner.up if options.migrate == "up" else runner.down)(url, options.to)


async def _topics(options: argparse.Namespace) -> int:
    from callboard.ops.commands import topics  # noqa: PLC0415 - see above
    from callboard.ops.up import data_folder  # noqa: PLC0415 - see above

    return await topics.list_topics(data_folder(options.data_dir), as_json=options.json)


async def _jobs(options: argparse.Namespace) -> int:
    from callboard.ops.commands import job_commands  # noqa: PLC0415 - see above
    from callboard.ops.up import data_folder  # noqa: PLC0415 - see above

    return await job_commands.run_jobs(data_folder(options.data_dir), options)


async def _keys(options: argparse.Namespace) -> int:
    from callboard.ops.commands import key_commands  # noqa: PLC0415 - see above
    from callboard.ops.up import data_folder  # noqa: PLC0415 - see above

    return await key_commands.run_keys(data_folder(options.data_dir), options)


async def _dead_letters(options: argparse.Namespace) -> int:
    from callboard.ops.commands import dead_letter_commands  # noqa: PLC0415 - see above
    from callboard.ops.up import data_folder  # noqa: PLC0415 - see above

    return await dead_letter_commands.run_dead_letters(data_folder(options.data_dir), options)


async def _users(options: argparse.Namespace) -> int:
    from callboard.actors.infrastructure.principals import Role  # noqa: PLC0415 - see above
    from callboard.ops.commands import context, user_import  # noqa: PLC0415 - see above
    from callboard.ops.up import data_folder  # noqa: PLC0415 - see above

    data = data_folder(options.data_dir)
    if options.users == "create-admin":
        return await context.create_admin(data, options.email, options.password, options.full_name)
    if options.users == "role":
        return await context.set_role(data, options.email, Role(options.role))
    if options.users == "disable":
        return await context.set_active(data, options.email, active=options.enable)
    if options.users == "list":
        filters = {
            "email": options.email,
            "role": options.role,
            "is_verified": options.verified,
            "is_active": options.active,
            "q": options.q,
        }
        return await context.list_users(data, filters, as_json=options.json)
    return await user_import.import_file(
        data,
        options.file,
        form=options.format,
        errors=options.errors,
        send_verification=options.send_verification,
    )
