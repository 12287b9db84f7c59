"""`callboard users create-admin`: the same actors as the server's, in a tree of their own for a moment."""

import os
import sys
from pathlib import Path

import anyio

from callboard.actors.access import Role
from callboard.actors.database import Database, DatabaseGuard
from callboard.actors.errors import Problem
from callboard.actors.passwords import Passwords
from callboard.actors.tokens import Signer
from callboard.actors.users import AddUser, Users
from callboard.ops import schema
from callboard.ops.cli import FAILED, OK, USAGE, CommandError
from callboard.ops.embedded.place import read_running
from callboard.runtime import System, supervisor, worker

CONNECT_S = 10.0


async def create_admin(data: Path | None, email: str, password: str, full_name: str) -> int:
    """Make an admin on DATABASE_URL, or on the running embedded servers. Raises CommandError when there is neither."""
    running = read_running(data)
    url = os.environ.get("DATABASE_URL") or (running and str(running["DATABASE_URL"]))
    if not url:
        raise CommandError("no database: set DATABASE_URL, or run `callboard up` on this data folder")
    database = Database(url, size=2)
    signer = Signer("", issuer="", access_ttl_s=1)  # nothing is signed: an admin's address needs no mail
    passwords = worker("passwords", Passwords)
    users = worker("users", Users, database, passwords, signer)
    guard = worker("database", DatabaseGuard, database, schema.install)
    async with System(supervisor("admin", guard, passwords, users)):
        with anyio.move_on_after(CONNECT_S):
            await database.back.wait()
        try:
            user = await users.ask(AddUser(email, password, full_name, Role.ADMIN))
        except Problem as problem:
            for line in [f"{detail.field} {detail.message}" for detail in problem.details] or [problem.message]:
                print(f"callboard: {line}", file=sys.stderr)
            return USAGE if problem.details else FAILED
    print(f"{user.email} is an admin ({user.user_id})")
    return OK
