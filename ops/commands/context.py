"""The context of an operator's command: the same actors as the server's, in a tree of its own for a moment."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
from msgspec import Struct

from callboard.actors.errors import Problem
from callboard.actors.identity.department import IDENTITY, IdentitySettings
from callboard.actors.identity.password_policy import PasswordPolicy
from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.identity.users import UserMessage
from callboard.actors.infrastructure.audit_log import CommandLine
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.database_server import shown_address
from callboard.actors.infrastructure.department import INFRASTRUCTURE, InfrastructureSettings
from callboard.actors.infrastructure.redis import KeySpace, RedisClient
from callboard.actors.infrastructure.refs import Clients, Infrastructure
from callboard.actors.infrastructure.token_signer import Signer, utc_now
from callboard.ops import schema
from callboard.ops.cli import FAILED, USAGE, CommandError
from callboard.ops.config.lookup import read_setting
from callboard.ops.config.settings import Config
from callboard.ops.departments import build, declared_by
from callboard.ops.embedded.data_directory import read_running
from callboard.ops.logs import silence
from callboard.ops.terminal import visible
from callboard.runtime import Context, Ref, System, supervisor, use_context

CONNECT_S = 10.0
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
    silence("callboard")
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
