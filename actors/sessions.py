"""Sessions: logging in, and who an access token speaks for.

A session lives in PostgreSQL. `Logins` checks credentials, which takes a hasher's time; `Sessions`, keyed by user,
opens sessions and answers who is calling.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiosql
import msgspec

from callboard.actors.access import Identity, Role
from callboard.actors.database import Database
from callboard.actors.errors import (
    AUTH_INACTIVE,
    AUTH_INVALID_CREDENTIALS,
    AUTH_SESSION_ENDED,
    AUTH_UNVERIFIED,
    Problem,
)
from callboard.actors.passwords import HashPassword, VerifyPassword, outdated
from callboard.actors.tokens import Signer, fingerprint, refresh_token
from callboard.runtime import Actor, Ref, Request, on

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("sessions.sql"), "asyncpg")
USERS: Any = aiosql.from_path(Path(__file__).with_name("users.sql"), "asyncpg")  # users.py needs this module

SESSION_TTL_S = 30 * 24 * 3600


class Login(msgspec.Struct, frozen=True):
    """A new session's tokens, shown once, and whose it is. `expires_in` is the access token's life in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    user_id: UUID
    email: str
    full_name: str

    def __repr__(self) -> str:
        """Without the tokens."""
        return f"Login(user_id={self.user_id})"


class LogIn(Request[Login], frozen=True):
    """Check credentials and open a session.

    Raises Problem(AUTH_INVALID_CREDENTIALS), and with the right password only AUTH_UNVERIFIED or AUTH_INACTIVE.
    """

    email: str
    password: str
    device: str
    ip: str | None

    def __repr__(self) -> str:
        """Without the password."""
        return "LogIn(...)"


class OpenSession(Request[Login], frozen=True):
    """Open a session for a user whose credentials have been checked."""

    user_id: UUID
    email: str
    full_name: str
    device: str
    ip: str | None


class Authenticate(Request[Identity], frozen=True):
    """Who calls with a token of this session. Raises Problem(AUTH_SESSION_ENDED, AUTH_INACTIVE)."""

    user_id: UUID
    session_id: UUID


class ForgetUser(Request[None], frozen=True):
    """Forget, here and in every process, what is known of a user: their sessions or their account have changed.

    To be asked after the commit of the change, which is in force once this is answered.
    """

    user_id: UUID


async def end_sessions(connection: Any, user_id: UUID, keep: UUID | None = None) -> None:
    """End a user's sessions, but `keep`, in the caller's transaction; `ForgetUser` is to follow its commit.

    What makes the sessions end (a new password, a deactivated account) stands before this in the transaction, so that
    a login that does not know of it yet either waits for the commit or is ended here.
    """
    await QUERIES.end_sessions(connection, user_id=user_id, keep=keep)


class Logins(Actor[LogIn]):
    """Checks credentials. An unknown address costs the same time and gives the same answer as a wrong password."""

    def __init__(
        self, database: Database, passwords: Ref[HashPassword | VerifyPassword], sessions: Ref[OpenSession]
    ) -> None:
        self.database = database
        self.passwords = passwords
        self.sessions = sessions

    @on(LogIn)
    async def log_in(self, message: LogIn) -> Login:
        """No connection is held while the password is hashed."""
        async with self.database.acquire() as connection:
            user = await USERS.user_by_email(connection, email=message.email)
        password_hash = user["password_hash"] if user else None
        if not await self.passwords.ask(VerifyPassword(message.password, password_hash)) or user is None:
            raise Problem(AUTH_INVALID_CREDENTIALS)
        if not user["is_active"]:
            raise Problem(AUTH_INACTIVE)
        if not user["is_verified"]:
            raise Problem(AUTH_UNVERIFIED)
        if outdated(user["password_hash"]):
            renewed = await self.passwords.ask(HashPassword(message.password))
            async with self.database.acquire() as connection:
                await USERS.set_password_hash(connection, user_id=user["user_id"], password_hash=renewed)
        return await self.sessions.ask(
            OpenSession(user["user_id"], user["email"], user["full_name"], message.device, message.ip)
        )


class Sessions(Actor[OpenSession | Authenticate | ForgetUser]):
    """The session manager, keyed by user. PostgreSQL is asked each time, so what it says is in force at once."""

    def __init__(self, database: Database, signer: Signer, now: Callable[[], datetime]) -> None:
        self.database = database
        self.signer = signer
        self.now = now

    @on(OpenSession)
    async def open(self, message: OpenSession) -> Login:
        """Of the refresh token only the hash is kept."""
        session_id, refresh = uuid4(), refresh_token()
        async with self.database.acquire() as connection:
            await QUERIES.add_session(
                connection,
                session_id=session_id,
                user_id=message.user_id,
                refresh_hash=fingerprint(refresh),
                device=message.device[:400],
                ip=message.ip,
                ttl_s=SESSION_TTL_S,
            )
        access = self.signer.issue(
            user_id=message.user_id, email=message.email, session_id=session_id, token_id=uuid4(), now=self.now()
        )
        return Login(access, refresh, self.signer.access_ttl_s, message.user_id, message.email, message.full_name)

    @on(Authenticate)
    async def authenticate(self, message: Authenticate) -> Identity:
        """The role is the one of this moment, not of the token."""
        async with self.database.acquire() as connection:
            row = await QUERIES.living_session(connection, session_id=message.session_id, user_id=message.user_id)
        if row is None:
            raise Problem(AUTH_SESSION_ENDED)
        if not row["is_active"]:
            raise Problem(AUTH_INACTIVE)
        return Identity(row["user_id"], row["session_id"], row["email"], Role(row["role"]))

    @on(ForgetUser)
    def forget(self, message: ForgetUser) -> None:
        """Nothing is remembered."""
