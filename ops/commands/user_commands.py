"""`callboard users`: accounts, by the same actors as the server's."""

import argparse
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callboard.actors.errors import Problem
from callboard.actors.identity.errors import USERS_NOT_FOUND
from callboard.actors.identity.users import ChangeUser, CreateUser, ListUsers, User
from callboard.actors.infrastructure.principals import Role
from callboard.ops.cli import OK
from callboard.ops.commands.context import CommandContext, command_context, print_problem
from callboard.ops.commands.user_import import import_file
from callboard.ops.embedded.data_directory import data_folder
from callboard.ops.terminal import json_line, visible

PAGE = 100  # accounts read at a time


async def run_users(options: argparse.Namespace) -> int:
    """Run an action; return the exit status."""
    match options.users:
        case "import":
            return await import_file(options)
        case "list":
            return await _list(options)
        case _:
            return await _change(options)


async def _change(options: argparse.Namespace) -> int:
    """Create an admin, or make an account one; set a role; disable an account, or enable it again."""
    async with command_context(data_folder(options.data_dir)) as at:
        try:
            if options.users == "create-admin":
                user = await at.users.ask(CreateUser(options.email, options.password, options.full_name, Role.ADMIN))
                said = "an admin"
            elif options.users == "role":
                role = Role(options.role)
                user = await _changed(at, options.email, role=role)
                said = f"{'an' if role[0] in 'ae' else 'a'} {role}"
            else:
                user = await _changed(at, options.email, is_active=options.enable)
                said = "enabled" if options.enable else "disabled"
        except Problem as problem:
            return print_problem(problem)
    print(json_line(user) if options.json else f"{user.email} is {said} ({user.user_id})")
    return OK


async def _changed(at: CommandContext, email: str, **change: Any) -> User:
    """Change the account with this address. Raises Problem."""
    found = await at.users.ask(ListUsers(1, email=email))
    if not found:
        raise Problem(USERS_NOT_FOUND, f"There is no account with the address {email}.")
    return await at.users.ask(ChangeUser(found[0].user_id, **change))


async def _list(options: argparse.Namespace) -> int:
    """Print the accounts that match the filters, newest first: a table, or one JSON object a line; return the exit
    status.

    JSON is read and printed a hundred accounts at a time; a table is printed once it is complete.
    """
    filters = {
        "email": options.email,
        "role": options.role,
        "is_verified": options.verified,
        "is_active": options.active,
        "q": options.q,
    }
    table = Table("address", "name", "role", "verified", "active", "since", "id")
    async with command_context(data_folder(options.data_dir)) as at:
        try:
            before: dict[str, Any] = {}
            while page := await at.users.ask(ListUsers(PAGE, **filters, **before)):
                for user in page:
                    if options.json:
                        print(json_line(user))
                    else:
                        marks = ("yes" if flag else "no" for flag in (user.is_verified, user.is_active))
                        since = f"{user.created_at:%Y-%m-%d %H:%M}"
                        cells = (user.email, user.full_name, user.role, *marks, since, str(user.user_id))
                        table.add_row(*map(escape, map(visible, cells)))
                before = {"before": page[-1].created_at, "before_id": page[-1].user_id}
        except Problem as problem:
            return print_problem(problem)
    if not options.json:
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    return OK
