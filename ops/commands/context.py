"""The context of an operator's command: the same actors as the server's, in a tree of its own for a moment."""

import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callboard.actors.errors import Problem
from callboard.actors.identity.department import IDENTITY, IdentitySettings
from callboard.actors.identity.errors import USERS_NOT_FOUND
from callboard.actors.identity.password_policy import PasswordPolicy
from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.identity.users import ChangeUser, CreateUser, ListUsers, UserMessage
from callboard.actors.infrastructure.audit_log import CommandLine
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.database_server import shown_address
from callboard.actors.infrastructure.department import INFRASTRUCTURE, InfrastructureSettings
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.redis import KeySpace, RedisClient
from callboard.actors.infrastructure.refs import Clients, Infrastructure
from callboard.actors.infrastructure.token_signer import Signer, utc_now
from callboard.ops import schema
from callboard.ops.cli import FAILED, OK, USAGE, CommandError
from callboard.ops.config.settings import Config
from callboard.ops.config.sources import read_setting
from callboard.ops.departments import build, declared_by
from callboard.ops.embedded.data_directory import read_running
from callboard.ops.terminal import json_line, visible
from callboard.runtime import Context, Ref, System, supervisor, use_context

CONNECT_S = 10.0
PAGE = 100  # accounts read at a time
NO_REDIS = "redis://127.0.0.1:1"  # refuses at once: the server notices new jobs within 30 s by itself


@dataclass(frozen=True)
class CommandContext:
    """The dependencies of a command."""

    database: Database
    users: Ref[UserMessage]
    signer: Signer
    can_sign: bool


@asynccontextmanager
async def command_context(data: Path | None) -> AsyncIterator[CommandContext]:
    """Connect to DATABASE_URL and REDIS_URL, or to the running embedded servers.

    Raises CommandError without an available database, and ConfigError.
    """
    logging.getLogger("callboard").addHandler(logging.NullHandler())  # a command has one line for its error
    facts = read_running(data) or {}

    def given(kind: type[Struct], name: str, usual: str = "") -> Any:
        return read_setting(kind, name, os.environ) or facts.get(name.upper()) or usual

    if not (url := given(Config, "database_url")):
        raise CommandError("no database: set DATABASE_URL, or run `callboard up` on this data folder")
    usual = KeySpace()
    keys = KeySpace(given(Config, "environment", usual.environment), given(Config, "service_name", usual.service))
    database, cache = Database(url, size=2), RedisClient(given(Config, "redis_url", NO_REDIS), keys)
    secret = given(InfrastructureSettings, "jwt_secret_key")
    policy = given(IdentitySettings, "password_policy", PasswordPolicy.COMPOSITION)
    refusals: list[str] = []
    settled = anyio.Event()  # the database is available, or refuses us for good

    def give_up(reason: str) -> None:
        refusals.append(reason)
        settled.set()

    async def wait() -> None:
        await database.available.wait()
        settled.set()

    departments = (INFRASTRUCTURE, IDENTITY)
    settings = {
        INFRASTRUCTURE.name: InfrastructureSettings(jwt_secret_key=secret),
        IDENTITY.name: IdentitySettings(password_policy=policy),
    }
    clients = Clients(database, cache, schema.install, give_up, utc_now, monotonic)
    built = build(departments, settings, clients, declared_by(departments))
    origin = CommandLine(f"callboard, uid {os.getuid()}")
    async with System(supervisor("command", *built.supervisors(roles=frozenset()))):
        with anyio.move_on_after(CONNECT_S):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await settled.wait()
                group.cancel_scope.cancel()
        if refusals:
            raise CommandError(refusals[0])
        if not database.available.is_set():
            raise CommandError(f"DATABASE_URL ({shown_address(database.server.url)}): {database.server.why}")
        with use_context(Context(baggage=origin)):
            users, signer = built.refs(IdentityRefs).users, built.refs(Infrastructure).signer
            yield CommandContext(database, users, signer, can_sign=bool(secret))


def print_problem(problem: Problem) -> int:
    """Print faults to stderr, one line each; return the exit status."""
    for line in [f"{detail.field} {detail.message}" for detail in problem.details] or [problem.message]:
        print(f"callboard: {visible(line)}", file=sys.stderr)
    return USAGE if problem.details else FAILED


async def create_admin(data: Path | None, email: str, password: str, full_name: str) -> int:
    """Create an admin, or make an account one; return the exit status."""
    async with command_context(data) as at:
        try:
            user = await at.users.ask(CreateUser(email, password, full_name, Role.ADMIN))
        except Problem as problem:
            return print_problem(problem)
    print(f"{user.email} is an admin ({user.user_id})")
    return OK


async def set_active(data: Path | None, email: str, *, active: bool) -> int:
    """Disable an account, which ends its sessions at once, or enable it again; return the exit status."""
    async with command_context(data) as at:
        try:
            found = await at.users.ask(ListUsers(1, email=email))
            if not found:
                return print_problem(Problem(USERS_NOT_FOUND, f"There is no account with the address {email}."))
            user = await at.users.ask(ChangeUser(found[0].user_id, is_active=active))
        except Problem as problem:
            return print_problem(problem)
    print(f"{user.email} is {'enabled' if active else 'disabled'} ({user.user_id})")
    return OK


async def set_role(data: Path | None, email: str, role: Role) -> int:
    """Change an account's role; return the exit status."""
    async with command_context(data) as at:
        try:
            found = await at.users.ask(ListUsers(1, email=email))
            if not found:
                return print_problem(Problem(USERS_NOT_FOUND, f"There is no account with the address {email}."))
            user = await at.users.ask(ChangeUser(found[0].user_id, role))
        except Problem as problem:
            return print_problem(problem)
    print(f"{user.email} is {'an' if role[0] in 'ae' else 'a'} {role} ({user.user_id})")
    return OK


async def list_users(data: Path | None, filters: Mapping[str, Any], *, as_json: bool) -> int:
    """Print the accounts that match the filters, newest first: a table, or one JSON object a line; return the exit
    status.

    JSON is read and printed a hundred accounts at a time; a table is printed once it is complete.
    """
    table = Table("address", "name", "role", "verified", "active", "since", "id")
    async with command_context(data) as at:
        try:
            before: dict[str, Any] = {}
            while page := await at.users.ask(ListUsers(PAGE, **filters, **before)):
                for user in page:
                    if as_json:
                        print(json_line(user))
                    else:
                        marks = ("yes" if flag else "no" for flag in (user.is_verified, user.is_active))
                        since = f"{user.created_at:%Y-%m-%d %H:%M}"
                        cells = (user.email, user.full_name, user.role, *marks, since, str(user.user_id))
                        table.add_row(*map(escape, map(visible, cells)))
                before = {"before": page[-1].created_at, "before_id": page[-1].user_id}
        except Problem as problem:
            return print_problem(problem)
    if not as_json:
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    return OK
