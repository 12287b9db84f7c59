"""Logins: credentials are checked so that neither the response nor its time reveals which addresses have an account."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.identity.audit_actions import LOGIN_FAILED, LOGIN_LOCKED, STEP_UP_SUCCEEDED
from callboard.actors.identity.errors import (
    AUTH_ACCOUNT_LIMITED,
    AUTH_INACTIVE,
    AUTH_INVALID_CREDENTIALS,
    AUTH_SESSION_ENDED,
    AUTH_UNVERIFIED,
)
from callboard.actors.identity.known_devices import (
    KNOWN_DAYS,
    Origin,
    account_key,
    device_of,
    make_device_token,
    network_of,
    origin_of,
)
from callboard.actors.identity.password_hasher import HashPassword, PasswordCheck, VerifyPassword, hash_or_overloaded
from callboard.actors.identity.sessions import QUERIES as SESSION_QUERIES
from callboard.actors.identity.sessions import LoginResult, OpenSession
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.audit_log import FailedLogins
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.rate_limiter import CheckLimit, LimitResult, RateLimit
from callboard.actors.infrastructure.token_signer import Signer
from callboard.runtime import Actor, Ref, Request, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

# Failed logins of an account: from one place, and from all places together.
ACCOUNT = RateLimit("account", 10, 900, "rate_limit_account")
ACCOUNT_TOTAL = RateLimit("account_total", 100, 900, "rate_limit_account_total")


class LogIn(Request[LoginResult], frozen=True):
    """Check credentials and open a session. `device_token` comes from an earlier login, if there was one.

    Raises Problem(AUTH_INVALID_CREDENTIALS), after too many of these AUTH_ACCOUNT_LIMITED, also for the right password;
    and with the right password only AUTH_UNVERIFIED, unless that is concealed, or AUTH_INACTIVE.
    """

    email: str
    password: str
    device: str
    ip: str | None
    device_token: str | None = None

    def __repr__(self) -> str:
        """Without the secrets."""
        return "LogIn(...)"


class StepUp(Request[None], frozen=True):
    """Confirm the password in a session. The session may then change the address, delete the account and export its
    data.

    Raises Problem(AUTH_INVALID_CREDENTIALS), which counts as a failed login: AUTH_ACCOUNT_LIMITED; and
    AUTH_SESSION_ENDED.
    """

    user_id: UUID
    session_id: UUID
    password: str

    def __repr__(self) -> str:
        """Without the password."""
        return f"StepUp(user_id={self.user_id})"


class Credentials(msgspec.Struct, frozen=True):
    """The stored account data that a password is verified against."""

    user_id: UUID
    email: str
    is_verified: bool
    is_active: bool
    password_hash: str
    password_changed_at: datetime

    def __repr__(self) -> str:
        """Without the hash."""
        return f"Credentials(user_id={self.user_id})"


class PasswordChecker:
    """Checks an account's password, in the same time if there is no account, and no more often than the policies allow.

    Failures are counted twice: by account and origin, and with a higher limit by account alone, so that many networks
    together gain little (OWASP, Authentication Cheat Sheet). An attempt from a known device or network of the account
    is held to the first count only: strangers do not lock the owner out. Checks in progress are not counted yet: as
    many more as there are hashers and login workers may pass.
    """

    def __init__(
        self, passwords: Ref[HashPassword | VerifyPassword], limits: Ref[CheckLimit], failures: FailedLogins
    ) -> None:
        self.passwords = passwords
        self.limits = limits
        self.failures = failures

    async def check(
        self, email: str, password: str, user: Credentials | None, origin: Origin, *, renew: bool = False
    ) -> PasswordCheck:
        """Whether it is the password of `user`, the owner of `email`. Raises Problem(AUTH_ACCOUNT_LIMITED)."""
        # Counted by the account's own spelling, if there is an account: other spellings have no count of their own.
        account = account_key(user.email if user else email, user.password_changed_at.timestamp() if user else 0.0)
        here = hashlib.sha256(f"{account}:{origin.key}".encode()).hexdigest()
        counts = [(ACCOUNT.name, here), (ACCOUNT_TOTAL.name, account)]
        verdicts = await self._look(counts[:1] if origin.is_known else counts, count=False)
        if not all(verdict.allowed for verdict in verdicts):
            self.failures.count(LOGIN_LOCKED, user.user_id if user else None)
            raise Problem(AUTH_ACCOUNT_LIMITED, retry_after_s=max(verdict.retry_after_s for verdict in verdicts))
        checked = await hash_or_overloaded(
            self.passwords, VerifyPassword(password, user.password_hash if user else None, renew)
        )
        if not checked:
            await self._look(counts, count=True)
            self.failures.count(LOGIN_FAILED, user.user_id if user else None)
        return checked

    async def _look(self, counts: Sequence[tuple[str, str]], *, count: bool) -> list[LimitResult]:
        return await asyncio.gather(*(self.limits.ask(CheckLimit(policy, key, count=count)) for policy, key in counts))


def session_origin(session_id: UUID) -> Origin:
    """Return the origin of a logged-in user: strangers cannot lock a session out."""
    return Origin(f"session:{session_id}", is_known=True)


async def credentials(connection: Any, user_id: UUID) -> Credentials | None:
    """Return the credentials of the account with this id; None without an account."""
    row = await QUERIES.credentials_by_id(connection, user_id=user_id)
    return Credentials(**row) if row else None


async def credentials_from(
    connection: Any, email: str, ip: str | None, known_days: int
) -> tuple[Credentials | None, bool]:
    """Return the credentials of the account with this address, or None; and whether this network is known for it."""
    row = dict(await QUERIES.credentials_by_email(connection, email=email, network=network_of(ip), days=known_days))
    is_known = row.pop("is_known")
    return Credentials(**row) if row["user_id"] else None, is_known


class Logins(Actor[LogIn | StepUp]):
    """Checks credentials. An unknown address costs the same time and gets the same response as a wrong password."""

    def __init__(
        self,
        database: Database,
        passwords: Ref[HashPassword | VerifyPassword],
        sessions: Ref[OpenSession],
        limits: Ref[CheckLimit],
        failures: FailedLogins,
        *,
        signer: Signer,
        conceal: bool = False,
        known_days: int = KNOWN_DAYS,
    ) -> None:
        self.database = database
        self.sessions = sessions
        self.checker = PasswordChecker(passwords, limits, failures)
        self.signer = signer
        self.conceal = conceal
        self.known_days = known_days

    @on(LogIn)
    async def log_in(self, message: LogIn) -> LoginResult:
        """Log in. No database connection is held while the password is hashed."""
        async with self.database.acquire() as connection:
            user, is_known = await credentials_from(connection, message.email, message.ip, self.known_days)
        user_id = user.user_id if user else None
        origin = origin_of(self.signer, user_id, message.ip, message.device_token, is_known=is_known)
        checked = await self.checker.check(message.email, message.password, user, origin, renew=True)
        if not checked or user is None or (self.conceal and not user.is_verified):
            raise Problem(AUTH_INVALID_CREDENTIALS)
        if not user.is_active:
            raise Problem(AUTH_INACTIVE)
        if not user.is_verified:
            raise Problem(AUTH_UNVERIFIED)
        if checked.renewed is not None:
            async with self.database.acquire() as connection:
                await QUERIES.renew_hash(
                    connection, user_id=user.user_id, password_hash=user.password_hash, renewed=checked.renewed
                )
        login = await self.sessions.ask(OpenSession(user.user_id, user.password_changed_at, message.device, message.ip))
        return msgspec.structs.replace(login, device_token=self._device_token(user.user_id, message.device_token))

    def _device_token(self, user_id: UUID, given: str | None) -> str:
        """Return the device's token, or a new one."""
        is_ours = given is not None and device_of(self.signer, user_id, given) is not None
        return given if given is not None and is_ours else make_device_token(self.signer, user_id)

    @on(StepUp)
    async def step_up(self, message: StepUp) -> None:
        """Confirm the password, only if neither the session nor the password has changed meanwhile."""
        async with self.database.acquire() as connection:
            user = await credentials(connection, message.user_id)
        if user is None:
            raise Problem(AUTH_SESSION_ENDED)
        if not await self.checker.check(user.email, message.password, user, session_origin(message.session_id)):
            raise Problem(AUTH_INVALID_CREDENTIALS, "The password is wrong.")
        await self._prove(message, user.password_changed_at)

    @retried
    async def _prove(self, message: StepUp, seen: datetime) -> None:
        async with self.database.transaction() as connection:
            if not await SESSION_QUERIES.prove(
                connection,
                session_id=message.session_id,
                user_id=message.user_id,
                password_changed_at=seen,
            ):
                raise Problem(AUTH_SESSION_ENDED)
            await audit.record(connection, STEP_UP_SUCCEEDED, of=message.user_id, session_id=message.session_id)
