"""Password reset: a forgotten password is reset by mail, a known one is changed (OWASP, Forgot Password Cheat
Sheet).
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from msgspec import Struct

from callboard.actors.delivery.events import NotificationRequested
from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.identity import audit_actions
from callboard.actors.identity.authentication import PasswordChecker, credentials, session_origin
from callboard.actors.identity.email_verification import add_token, request_email
from callboard.actors.identity.errors import AUTH_INVALID_CREDENTIALS, AUTH_MAIL_TOKEN_INVALID, AUTH_SESSION_ENDED
from callboard.actors.identity.events import UserUpdated, UserVerified
from callboard.actors.identity.known_devices import remember_network
from callboard.actors.identity.password_hasher import HashPassword, VerifyPassword, hash_or_overloaded
from callboard.actors.identity.password_policy import PasswordPolicy, password_faults
from callboard.actors.identity.sessions import InvalidateUser, end_sessions
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.audit_log import FailedLogins
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.notification_kinds import NotificationKind
from callboard.actors.infrastructure.rate_limiter import CheckLimit
from callboard.actors.infrastructure.token_signer import Signer, fingerprint
from callboard.runtime import Actor, Ref, Request, on
from callboard.streams.outbox import emit
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

RESET_TTL_S = 3600


class NoData(Struct, frozen=True):
    """The data of a notification that says all in its text."""


# Its mail goes out at once, before any other.
PASSWORD_CHANGED = NotificationKind("password_changed", NoData, "Your password was changed.", security=True)


class ResetPassword(Request[None], frozen=True):
    """Use the secret of a reset mail, once: set a new password, and end all sessions. This proves the mailbox, too.

    The owner can then log in from `ip`, after any number of failures by strangers. Raises
    Problem(AUTH_MAIL_TOKEN_INVALID), and REQUEST_INVALID for a bad password; the secret stays valid.
    """

    token: str
    new_password: str
    ip: str | None = None

    def __repr__(self) -> str:
        """Without the secrets."""
        return "ResetPassword(...)"


class ChangePassword(Request[None], frozen=True):
    """Change a password with the old one, and end all sessions but this one.

    Raises Problem(AUTH_INVALID_CREDENTIALS) for a wrong one, which counts as a failed login: AUTH_ACCOUNT_LIMITED; and
    REQUEST_INVALID for a bad new one.
    """

    user_id: UUID
    session_id: UUID
    current_password: str
    new_password: str

    def __repr__(self) -> str:
        """Without the passwords."""
        return f"ChangePassword(user_id={self.user_id})"


class PasswordReset(Actor[ResetPassword | ChangePassword]):
    """Changes passwords. A change, the end of the sessions, its event and its notice are one transaction."""

    def __init__(
        self,
        database: Database,
        passwords: Ref[HashPassword | VerifyPassword],
        sessions: Ref[InvalidateUser],
        limits: Ref[CheckLimit],
        failures: FailedLogins,
        *,
        policy: PasswordPolicy = PasswordPolicy.COMPOSITION,
    ) -> None:
        self.database = database
        self.passwords = passwords
        self.sessions = sessions
        self.checker = PasswordChecker(passwords, limits, failures)
        self.policy = policy

    @on(ResetPassword)
    async def reset(self, message: ResetPassword) -> None:
        """Reset a password. An invalid secret causes no hashing, and of several simultaneous uses of a secret one
        succeeds.
        """
        token_hash = fingerprint(message.token)
        async with self.database.acquire() as connection:
            owner = await QUERIES.reset_owner(connection, token_hash=token_hash)
        if owner is None:
            raise _invalid_link()
        self._check_new(message.new_password, owner["email"], owner["full_name"])
        password_hash = await hash_or_overloaded(self.passwords, HashPassword(message.new_password))
        await self._reset(owner["user_id"], token_hash, password_hash, message.ip)
        await self.sessions.ask(InvalidateUser(owner["user_id"]))

    @retried
    async def _reset(self, owner_id: UUID, token_hash: bytes, password_hash: str, ip: str | None) -> None:
        async with self.database.transaction() as connection:
            user_id = await QUERIES.lock_person(connection, user_id=owner_id)
            if not user_id or not await QUERIES.use_reset_token(connection, token_hash=token_hash):
                raise _invalid_link()
            await self._set(connection, user_id, password_hash)
            if await QUERIES.prove_mailbox(connection, user_id=user_id):
                await emit(connection, UserVerified(user_id), event_id=uuid4())
                await audit.record(connection, audit_actions.EMAIL_VERIFIED, of=user_id, by=user_id)
            await remember_network(connection, user_id, ip)
            await audit.record(connection, audit_actions.PASSWORD_RESET, of=user_id, by=user_id)

    @on(ChangePassword)
    async def change(self, message: ChangePassword) -> None:
        """Change a password. Of several simultaneous changes with the same old password one succeeds."""
        async with self.database.acquire() as connection:
            user = await credentials(connection, message.user_id)
            full_name = await QUERIES.full_name(connection, user_id=message.user_id)
        if user is None or full_name is None:
            raise Problem(AUTH_SESSION_ENDED)
        self._check_new(message.new_password, user.email, full_name)
        if not await self.checker.check(user.email, message.current_password, user, session_origin(message.session_id)):
            raise _wrong_password()
        password_hash = await hash_or_overloaded(self.passwords, HashPassword(message.new_password))
        await self._change(message, user.password_changed_at, password_hash)
        await self.sessions.ask(InvalidateUser(message.user_id))

    @retried
    async def _change(self, message: ChangePassword, seen: datetime, password_hash: str) -> None:
        async with self.database.transaction() as connection:
            await QUERIES.lock_person(connection, user_id=message.user_id)
            if not await self._set(connection, message.user_id, password_hash, seen=seen, keep=message.session_id):
                raise _wrong_password()
            await audit.record(connection, audit_actions.PASSWORD_CHANGED, of=message.user_id)

    def _check_new(self, password: str, email: str, full_name: str) -> None:
        faults = password_faults(password, (email.split("@", maxsplit=1)[0], full_name), self.policy)
        if faults:
            raise Problem(REQUEST_INVALID, details=tuple(FieldError("new_password", fault) for fault in faults))

    async def _set(
        self,
        connection: Any,
        user_id: UUID,
        password_hash: str,
        *,
        seen: datetime | None = None,
        keep: UUID | None = None,
    ) -> bool:
        if not await QUERIES.set_password(
            connection, user_id=user_id, password_hash=password_hash, password_changed_at=seen
        ):
            return False
        await QUERIES.spend_secrets(connection, user_id=user_id)
        await end_sessions(connection, user_id, keep)
        await emit(connection, UserUpdated(user_id, ("password",)), event_id=uuid4())
        await request_email(connection, "password_changed", user_id)
        await emit(connection, NotificationRequested(user_id, PASSWORD_CHANGED.name), event_id=uuid4())
        return True


async def send_reset(connection: Any, signer: Signer, email: str) -> None:
    """Mail a link to reset the password, if the address has an active account and the caller's transaction commits.

    Earlier links stay good until one is used: the mails may cross.
    """
    user = await QUERIES.lock_person_by_email(connection, email=email)
    if user is None:
        return
    token_id = await add_token(connection, signer, user["user_id"], "reset_password", ttl_s=RESET_TTL_S)
    if token_id is not None:
        await request_email(connection, "reset_password", user["user_id"], token_id=str(token_id))


def _invalid_link() -> Problem:
    return Problem(AUTH_MAIL_TOKEN_INVALID, details=(FieldError("token", "is not valid"),))


def _wrong_password() -> Problem:
    return Problem(AUTH_INVALID_CREDENTIALS, "The current password is wrong.")
