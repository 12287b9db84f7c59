"""Logins: checking credentials, so that neither the answer nor its time tells which addresses have an account."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import aiosql
import msgspec

from callboard.actors.audit_log import AuditAction, FailedLogins
from callboard.actors.database import Database
from callboard.actors.errors import (
    AUTH_ACCOUNT_LIMITED,
    AUTH_INACTIVE,
    AUTH_INVALID_CREDENTIALS,
    AUTH_UNVERIFIED,
    Problem,
)
from callboard.actors.limits import CheckLimit
from callboard.actors.passwords import HashPassword, VerifyPassword, ask_hasher, outdated
from callboard.actors.sessions import Login, OpenSession
from callboard.runtime import Actor, Ref, Request, on

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("logins.sql"), "asyncpg")

ACCOUNT = "account"  # the policy that counts the failed logins of an account


class LogIn(Request[Login], frozen=True):
    """Check credentials and open a session.

    Raises Problem(AUTH_INVALID_CREDENTIALS), after too many of these AUTH_ACCOUNT_LIMITED, also for the right password;
    and with the right password only AUTH_UNVERIFIED or AUTH_INACTIVE.
    """

    email: str
    password: str
    device: str
    ip: str | None

    def __repr__(self) -> str:
        """Without the password."""
        return "LogIn(...)"


class Credentials(msgspec.Struct, frozen=True):
    """What a password is held against."""

    user_id: UUID
    email: str
    is_verified: bool
    is_active: bool
    password_hash: str
    password_changed_at: datetime

    def __repr__(self) -> str:
        """Without the hash."""
        return f"Credentials(user_id={self.user_id})"


class Checker:
    """Checks an account's password, as slowly where there is none, and no more often than its policy allows.

    Failures are counted by account, wherever they come from (OWASP, Authentication Cheat Sheet). Those that are being
    checked at the same moment are not counted yet: as many more as there are hashers and logins may pass.
    """

    def __init__(
        self, passwords: Ref[HashPassword | VerifyPassword], limits: Ref[CheckLimit], failures: FailedLogins
    ) -> None:
        self.passwords = passwords
        self.limits = limits
        self.failures = failures

    async def check(self, email: str, password: str, user: Credentials | None) -> bool:
        """Whether it is the password of `user`, the owner of `email`. Raises Problem(AUTH_ACCOUNT_LIMITED)."""
        # By the account's own spelling where there is one: no other spelling of an address has a count of its own.
        address = (user.email if user else email).lower()
        key = hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()
        verdict = await self.limits.ask(CheckLimit(ACCOUNT, key, count=False))
        if not verdict.allowed:
            self.failures.count(AuditAction.LOGIN_LOCKED, user.user_id if user else None)
            raise Problem(AUTH_ACCOUNT_LIMITED, retry_after_s=verdict.retry_after_s)
        if await ask_hasher(self.passwords, VerifyPassword(password, user.password_hash if user else None)):
            return True
        await self.limits.ask(CheckLimit(ACCOUNT, key))
        self.failures.count(AuditAction.LOGIN_FAILED, user.user_id if user else None)
        return False


async def credentials(connection: Any, who: str | UUID) -> Credentials | None:
    """Those of the account with this address or id; None when there is none."""
    if isinstance(who, UUID):
        row = await QUERIES.credentials_by_id(connection, user_id=who)
    else:
        row = await QUERIES.credentials_by_email(connection, email=who)
    return Credentials(**row) if row else None


class Logins(Actor[LogIn]):
    """Checks credentials. An unknown address costs the same time and gives the same answer as a wrong password."""

    def __init__(
        self,
        database: Database,
        passwords: Ref[HashPassword | VerifyPassword],
        sessions: Ref[OpenSession],
        limits: Ref[CheckLimit],
        failures: FailedLogins,
    ) -> None:
        self.database = database
        self.passwords = passwords
        self.sessions = sessions
        self.checker = Checker(passwords, limits, failures)

    @on(LogIn)
    async def log_in(self, message: LogIn) -> Login:
        """No connection is held while the password is hashed."""
        async with self.database.acquire() as connection:
            user = await credentials(connection, message.email)
        if not await self.checker.check(message.email, message.password, user) or user is None:
            raise Problem(AUTH_INVALID_CREDENTIALS)
        if not user.is_active:
            raise Problem(AUTH_INACTIVE)
        if not user.is_verified:
            raise Problem(AUTH_UNVERIFIED)
        if outdated(user.password_hash):
            renewed = await ask_hasher(self.passwords, HashPassword(message.password))
            async with self.database.acquire() as connection:
                await QUERIES.renew_hash(
                    connection, user_id=user.user_id, password_hash=user.password_hash, renewed=renewed
                )
        return await self.sessions.ask(OpenSession(user.user_id, user.password_changed_at, message.device, message.ip))
