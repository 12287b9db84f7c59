"""The command line: `callboard up | serve | migrate | users ... | keys ... | jobs ...`, and others: see `--help`."""

import argparse
import asyncio
import gc
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from callboard.http.server.errors import CannotListenError
from callboard.ops.commands.dead_letter_arguments import add_dead_letters
from callboard.ops.commands.job_arguments import add_jobs
from callboard.ops.commands.key_arguments import add_keys
from callboard.ops.commands.operator_arguments import add_config, add_flags, add_pools, add_tree
from callboard.ops.commands.user_arguments import add_users
from callboard.ops.config.sources import ConfigError
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.event_loop import EventLoop
from callboard.ops.start import complain

OK, FAILED, USAGE = 0, 1, 2
PIPE = 141  # the status of a process that died of SIGPIPE
SHELLS = ("bash", "zsh", "tcsh")

UNPAIRED = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that are no UTF-8

Command = Callable[[argparse.Namespace], Coroutine[Any, Any, int]]


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
    serve.add_argument("--processes", type=count, default=1, help="processes that share the port (default: 1)")
    document = commands.add_parser("openapi", help="print the API's OpenAPI document")
    document.set_defaults(run=_openapi)
    events = commands.add_parser("asyncapi", help="print the AsyncAPI document of the events")
    events.set_defaults(run=_asyncapi)
    demo = commands.add_parser("demo", parents=[data], help="play the demo against a running `callboard up`")
    demo.set_defaults(run=_demo)

    output = argparse.ArgumentParser(add_help=False, parents=[data])
    output.add_argument("--json", action="store_true", help="a JSON object a line")
    plane = argparse.ArgumentParser(add_help=False, parents=[output])
    plane.add_argument("--url", help="the operator plane of the process (default: OPS_HOST and OPS_PORT)")
    _add_operators(commands, plane)
    _add_servers(commands, output)
    return top


def _add_operators(commands: Any, plane: argparse.ArgumentParser) -> None:
    """Add the commands that ask a running process."""
    add_tree(_add(commands, "tree", "operator_commands:show_tree", "show the supervision tree of a process", plane))
    add_pools(_group(commands, "pools", "operator_commands:run_pools", "the pools of a process"), plane)
    add_config(_group(commands, "config", "config_commands:run_config", "the settings"), plane)
    add_flags(_group(commands, "flags", "operator_commands:run_flags", "feature flags"), plane)
    doctor = _add(commands, "doctor", "doctor:run_doctor", "name what is wrong around a process, and its remedy", plane)
    doctor.add_argument("--indexes", action="store_true", help="list bloated and unused indexes instead")


def _add_servers(commands: Any, output: argparse.ArgumentParser) -> None:
    """Add the commands that work on the servers themselves."""
    _add_audit(_add(commands, "audit", "audit_log:run_audit", "list security events, newest first", output))
    _add_migrate(_group(commands, "migrate", "migration_commands:run_migrate", "the schema of the database"), output)
    add_jobs(_group(commands, "jobs", "job_commands:run_jobs", "the job queue"), output)
    add_keys(_group(commands, "keys", "key_commands:run_keys", "keys of producers, which send events"), output)
    _add(commands, "topics", "topics:run_topics", "list the partitions of Kafka's topics, and their lag", output)
    letters = _group(
        commands, "dlq", "dead_letter_commands:run_dead_letters", "dead letters of records, mails and jobs"
    )
    add_dead_letters(letters, output)
    add_users(_group(commands, "users", "user_commands:run_users", "accounts"), output)
    shells = _add(commands, "completion", _completion, "print the completion script of a shell")
    shells.add_argument("shell", choices=SHELLS)


def _add(
    commands: Any, name: str, run: str | Command, meaning: str, *parents: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """Add a command; a text names its function, in a module of callboard.ops.commands, imported when it runs."""
    added: argparse.ArgumentParser = commands.add_parser(name, parents=parents, help=meaning)
    added.set_defaults(run=run)
    return added


def _group(commands: Any, name: str, run: str, meaning: str) -> Any:
    """Add a command that has actions."""
    return _add(commands, name, run, meaning).add_subparsers(dest=name, required=True, metavar="action")


def _add_audit(audit: argparse.ArgumentParser) -> None:
    audit.add_argument("--action", help="an action, such as login.failed")
    audit.add_argument("--user", help="the id or address of an account: events about it and by it")
    audit.add_argument("--since", help="a time with its zone, such as 2026-01-31T12:00:00Z")
    audit.add_argument("--until", help="a time with its zone; only earlier events")
    audit.add_argument("--limit", type=count, default=100, help="the maximum number (default: 100)")


def _add_migrate(migrate: Any, output: argparse.ArgumentParser) -> None:
    migrate.add_parser(
        "status", parents=[output], help="show the database's revision; status 1 if migrations are missing"
    )
    up = migrate.add_parser("up", parents=[output], help="run the missing migrations")
    up.add_argument("--to", default="head", help="the last revision to run")
    up.add_argument("--sql", action="store_true", help="print the SQL and run nothing")
    up.add_argument("--since", default="0001", help="with --sql: the current revision of the database")
    down = migrate.add_parser("down", parents=[output], help="revert migrations")
    down.add_argument("--to", default="-1", help="the revision to go back to; without it, one step")
    new = migrate.add_parser("new", parents=[output], help="write the file of a new migration")
    new.add_argument("title", help="the change, as a sentence")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, and exit with its status: 0, 1 if it failed, 2 if it could not begin."""
    given = sys.argv[1:] if arguments is None else arguments
    if any(UNPAIRED.search(each) for each in given):
        complain("callboard: arguments must be UTF-8")
        sys.exit(USAGE)
    options = parser().parse_args(given)
    try:
        status = _run(_command(options.run)(options))
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


def _command(run: str | Command) -> Command:
    if not isinstance(run, str):
        return run
    module, _, function = run.partition(":")
    command: Command = getattr(import_module(f"callboard.ops.commands.{module}"), function)
    return command


def _run(command: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        return runner.run(command)


# Each command imports its own modules: Faust alone takes a second, which `--help` should not take.


async def _up(options: argparse.Namespace) -> int:
    from callboard.ops.embedded.data_directory import data_folder  # noqa: PLC0415 - see above
    from callboard.ops.up import up  # noqa: PLC0415 - see above

    gc.freeze()  # what is imported stays: only what comes after it is looked through before the first request
    return await up(data_folder(options.data_dir), reset=options.reset, play=options.demo)


async def _serve(options: argparse.Namespace) -> int:
    from callboard.ops import logs  # noqa: PLC0415 - see above
    from callboard.ops.application import Application, live  # noqa: PLC0415 - see above
    from callboard.ops.commands.config_commands import load_all, load_or_explain  # noqa: PLC0415 - see above
    from callboard.ops.config.names import warnings  # noqa: PLC0415 - see above
    from callboard.ops.processes import serve_processes  # noqa: PLC0415 - see above

    gc.freeze()  # the same
    configuration = (load_all if options.processes > 1 else load_or_explain)(os.environ)
    config = configuration.process
    logs.configure(config.log_level, debug=config.enable_debug_mode)
    logs.warn([*warnings(os.environ), *configuration.cautions])

    if options.processes > 1:
        return await serve_processes(configuration, options.processes)

    async def announce() -> None:
        complain(f"callboard serves on {config.http_host}:{config.http_port}")

    with _scratch() as folder:
        return await live(Application(configuration, folder), announce)


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
    from callboard.ops.embedded.data_directory import data_folder, read_running  # noqa: PLC0415 - see above

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


async def _completion(options: argparse.Namespace) -> int:
    import shtab  # noqa: PLC0415 - see above

    print(shtab.complete(parser(), options.shell))
    return OK
