"""The command line: `callboard up | serve | openapi | demo | config check | users create-admin|list|disable|import`."""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from callboard.http.server import CannotListenError
from callboard.ops.config import ConfigError
from callboard.ops.embedded.errors import EmbeddedError

OK, FAILED, USAGE = 0, 1, 2
PIPE = 141  # as who died of SIGPIPE


class CommandError(Exception):
    """A command cannot do its work; one line says why."""


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="callboard", description="A backend of supervised actors.")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data-dir", help="the data folder (CALLBOARD_DATA_DIR; default: in the user's data folder)")

    up = commands.add_parser("up", parents=[data], help="run everything on embedded servers")
    up.add_argument("--reset", action="store_true", help="empty the data folder first")
    up.add_argument("--demo", action="store_true", help="play the main job once when it is up")
    commands.add_parser("serve", help="run against the servers that the environment names")
    commands.add_parser("openapi", help="print the API's document, as http/openapi.json has it")
    commands.add_parser("demo", parents=[data], help="play the main job against a running `callboard up`")

    config = commands.add_parser("config", help="settings").add_subparsers(
        dest="config", required=True, metavar="action"
    )
    check = config.add_parser("check", help="name every fault of a file for CALLBOARD_CONFIG, and change nothing")
    check.add_argument("file")

    users = commands.add_parser("users", help="accounts").add_subparsers(dest="users", required=True, metavar="action")
    _add_users(users, data)
    return top


def _add_users(users: Any, data: argparse.ArgumentParser) -> None:
    admin = users.add_parser("create-admin", parents=[data], help="make an admin, or make an account one")
    admin.add_argument("--email", required=True)
    admin.add_argument("--password", required=True, help="8 characters or more, an upper case letter, a digit")
    admin.add_argument("--full-name", required=True)

    listing = users.add_parser("list", parents=[data], help="list accounts, newest first")
    listing.add_argument("--email", help="the one with this address")
    listing.add_argument("--role", choices=["member", "editor", "admin"])
    listing.add_argument("--verified", action=argparse.BooleanOptionalAction, default=None)
    listing.add_argument("--active", action=argparse.BooleanOptionalAction, default=None)
    listing.add_argument("--q", help="a part of the name or the address")
    listing.add_argument("--json", action="store_true", help="a JSON object a line")

    disable = users.add_parser("disable", parents=[data], help="disable an account and end its sessions")
    disable.add_argument("email")
    disable.add_argument("--enable", action="store_true", help="enable it again")

    bring = users.add_parser("import", parents=[data], help="import accounts, with hashes of their passwords")
    bring.add_argument("file", type=Path, help="CSV with a header, or a JSON object a line")
    bring.add_argument("--format", choices=["csv", "jsonl"], help="what the file's name does not say")
    bring.add_argument("--errors", type=Path, help="a file for what is wrong, a JSON object a fault")
    bring.add_argument("--send-verification", action="store_true", help="mail a link to who is not verified")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, and exit with its status: 0, 1 when it failed, 2 when it could not begin."""
    options = parser().parse_args(arguments)
    try:
        status = _run(_command(options))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; and the flush at the exit must not find that out again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = PIPE
    except ConfigError as error:
        for fault in error.faults:
            print(f"callboard: {fault}", file=sys.stderr)
        status = USAGE
    except (EmbeddedError, CannotListenError, CommandError) as error:
        print(f"callboard: {error}", file=sys.stderr)
        status = USAGE
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _run(command: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(command)


def _command(options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    # Each command imports what it needs: Faust alone takes a second that `--help` should not.
    if options.command == "serve":
        return _serve()
    if options.command == "config":
        return _check(options.file)
    if options.command == "openapi":
        return _openapi()
    from callboard.ops.up import data_folder, up  # noqa: PLC0415 - see above

    data = data_folder(options.data_dir)
    if options.command == "up":
        return up(data, reset=options.reset, play=options.demo)
    if options.command == "demo":
        return _demo(data)
    return _users(data, options)


async def _serve() -> int:
    from callboard.ops import logs  # noqa: PLC0415 - see _command
    from callboard.ops.config import load  # noqa: PLC0415 - see _command
    from callboard.ops.life import live  # noqa: PLC0415 - see _command
    from callboard.ops.tree import Parts  # noqa: PLC0415 - see _command

    config = load(os.environ)
    logs.configure(config.log_level)

    async def announce() -> None:
        print(f"callboard serves on {config.http_host}:{config.http_port}", file=sys.stderr)

    with tempfile.TemporaryDirectory(prefix="callboard-") as folder:
        return await live(Parts(config, Path(folder)), announce)


async def _check(file: str) -> int:
    from callboard.ops.tree import unconnected  # noqa: PLC0415 - see _command
    from callboard.ops.tuning import check  # noqa: PLC0415 - see _command

    check(unconnected(), file)
    print(f"{file} is good")
    return OK


async def _openapi() -> int:
    from callboard.http.documents import written  # noqa: PLC0415 - see _command
    from callboard.http.routes import ROUTES  # noqa: PLC0415 - see _command

    print(written(ROUTES), end="")
    return OK


async def _demo(data: Path | None) -> int:
    from callboard.ops import demo  # noqa: PLC0415 - see _command
    from callboard.ops.embedded.place import read_running  # noqa: PLC0415 - see _command

    facts = read_running(data)
    if facts is None:
        raise CommandError("nothing runs on that data folder: start it with `make run` or `callboard up`")
    try:
        await demo.play(demo.Target.of(facts), Console())
    except demo.DemoError as error:
        print(f"callboard: {error}", file=sys.stderr)
        return FAILED
    return OK


async def _users(data: Path | None, options: argparse.Namespace) -> int:
    from callboard.ops import admin, imports  # noqa: PLC0415 - see _command

    if options.users == "create-admin":
        return await admin.create_admin(data, options.email, options.password, options.full_name)
    if options.users == "disable":
        return await admin.set_active(data, options.email, active=options.enable)
    if options.users == "list":
        filters = {
            "email": options.email,
            "role": options.role,
            "is_verified": options.verified,
            "is_active": options.active,
            "q": options.q,
        }
        return await admin.list_users(data, filters, as_json=options.json)
    return await imports.import_file(
        data,
        options.file,
        form=options.format,
        errors=options.errors,
        send_verification=options.send_verification,
    )
