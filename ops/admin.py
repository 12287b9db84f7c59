"""The desk of an operator's commands: the same actors as the server's, in a tree of their own for a moment."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import anyio

from callboard.actors.access import Role
from callboard.actors.addresses import Enrolment
from callboard.actors.cache import Cache, CacheGuard
from callboard.actors.database import Database, DatabaseGuard
from callboard.actors.epochs import Epochs
from callboard.actors.errors import Problem
from callboard.actors.passwords import PasswordPolicy, Passwords
from callboard.actors.sessions import Sessions
from callboard.actors.tokens import Signer, utc_now
from callboard.actors.users import AddUser, UserMessage, Users
from callboard.ops import schema
from callboard.ops.cli import FAILED, OK, USAGE, CommandError
from callboard.ops.embedded.place import read_running
from callboard.runtime import Ref, System, supervisor, worker

CONNECT_S = 10.0
NO_REDIS = "redis://127.0.0.1:1"  # refuses at once: what is to be told there is then found out within 30 s


@dataclass(frozen=True)
class Desk:
    """What a command works with."""

    database: Database
    users: Ref[UserMessage]


@asynccontextmanager
async def desk(data: Path | None) -> AsyncIterator[Desk]:
    """Connect to DATABASE_URL and REDIS_URL, or to the running embedded servers.

    Raises CommandError when there is no database. One that is away is found out by what is done at the desk.
    """
    facts = read_running(data) or {}
    url, redis = (os.environ.get(name) or str(facts.get(name) or "") for name in ("DATABASE_URL", "REDIS_URL"))
    if not url:
        raise CommandError("no database: set DATABASE_URL, or run `callboard up` on this data folder")
    policy = os.environ.get("PASSWORD_POLICY") or PasswordPolicy.COMPOSITION
    if policy not in list(PasswordPolicy):
        raise CommandError(f"PASSWORD_POLICY must be {' or '.join(PasswordPolicy)}")
    database, cache = Database(url, size=2), Cache(redis or NO_REDIS)
    signer = Signer("", issuer="", access_ttl_s=1)  # nothing is signed: nothing is mailed from here
    passwords = worker("passwords", Passwords)
    sessions = worker("sessions", Sessions, database, Epochs(cache, monotonic), signer, utc_now)
    users = worker("users", Users, database, passwords, signer, sessions, Enrolment(PasswordPolicy(policy)))
    guards = worker("database", DatabaseGuard, database, schema.install), worker("cache", CacheGuard, cache)
    async with System(supervisor("desk", *guards, passwords, sessions, users)):
        with anyio.move_on_after(CONNECT_S):
            await database.back.wait()
        yield Desk(database, users)


def explain(problem: Problem) -> int:
    """Say on stderr what is wrong, a line for each fault; the exit status."""
    for line in [f"{detail.field} {detail.message}" for detail in problem.details] or [problem.message]:
        print(f"callboard: {line}", file=sys.stderr)
    return USAGE if problem.details else FAILED


async def create_admin(data: Path | None, email: str, password: str, full_name: str) -> int:
    """Make an admin, or an account one; the exit status."""
    async with desk(data) as at:
        try:
            user = await at.users.ask(AddUser(email, password, full_name, Role.ADMIN))
        except Problem as problem:
            return explain(problem)
    print(f"{user.email} is an admin ({user.user_id})")
    return OK
