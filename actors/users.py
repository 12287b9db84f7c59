"""Users: registration, verification of the address, looking up, and what an admin may change."""

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiosql
import asyncpg
import msgspec
from email_validator import EmailNotValidError, validate_email

from callboard.actors.access import Role
from callboard.actors.database import Database
from callboard.actors.errors import (
    AUTH_MAIL_TOKEN_INVALID,
    REQUEST_INVALID,
    USERS_EMAIL_TAKEN,
    USERS_LAST_ADMIN,
    USERS_NOT_FOUND,
    Detail,
    Problem,
)
from callboard.actors.passwords import HashPassword, password_faults
from callboard.actors.tokens import Signer, fingerprint
from callboard.runtime import Actor, Ref, Request, on
from callboard.streams.events import LetterRequested, UserRegistered, UserUpdated, UserVerified
from callboard.streams.outbox import emit
from callboard.streams.topics import PRIORITY

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("users.sql"), "asyncpg")

VERIFY_TTL_S = 24 * 3600
MAX_NAME_LENGTH = 200  # as schema.sql has it


class User(msgspec.Struct, frozen=True):
    """An account as its owner and admins see it."""

    user_id: UUID
    email: str
    full_name: str
    role: Role
    is_verified: bool
    is_active: bool
    created_at: datetime


class RegisterUser(Request[User], frozen=True):
    """Make an account and have the verification mail sent. Raises Problem(REQUEST_INVALID, USERS_EMAIL_TAKEN)."""

    email: str
    password: str
    full_name: str
    terms_accepted: bool

    def __repr__(self) -> str:
        """Without the password."""
        return "RegisterUser(...)"


class AddUser(Request[User], frozen=True):
    """Make a verified account with a role, or give the account of this address that role. For operators.

    Raises Problem(REQUEST_INVALID).
    """

    email: str
    password: str
    full_name: str
    role: Role

    def __repr__(self) -> str:
        """Without the password."""
        return "AddUser(...)"


class VerifyEmail(Request[User], frozen=True):
    """Use the secret of a verification mail, once. Raises Problem(AUTH_MAIL_TOKEN_INVALID)."""

    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return "VerifyEmail(...)"


class ResendVerification(Request[None], frozen=True):
    """Send another verification mail, if the address has an account that needs one; the answer does not tell."""

    email: str


class GetUser(Request[User], frozen=True):
    """Look an account up. Raises Problem(USERS_NOT_FOUND)."""

    user_id: UUID


class ChangeUser(Request[User], frozen=True):
    """Change an account's role, or whether it is active; None leaves it.

    Raises Problem(USERS_NOT_FOUND, USERS_LAST_ADMIN).
    """

    user_id: UUID
    role: Role | None = None
    is_active: bool | None = None


class Users(Actor[RegisterUser | AddUser | VerifyEmail | ResendVerification | GetUser | ChangeUser]):
    """Accounts. What must be unique or single-use is so by SQL; the workers of the pool share nothing."""

    def __init__(self, database: Database, passwords: Ref[HashPassword], signer: Signer) -> None:
        self.database = database
        self.passwords = passwords
        self.signer = signer

    @on(RegisterUser)
    async def register(self, message: RegisterUser) -> User:
        """The account, its token, its event and the request for its mail are one transaction."""
        email = checked_address(message.email, message.password, message.full_name, message.terms_accepted)
        password_hash = await self.passwords.ask(HashPassword(message.password))
        async with self.database.transaction() as connection:
            user = await self._add(
                connection, email, password_hash, message.full_name, role=Role.MEMBER, is_verified=False
            )
            await self._send_verification(connection, user)
        return user

    async def _add(
        self, connection: Any, email: str, password_hash: str, full_name: str, *, role: Role, is_verified: bool
    ) -> User:
        try:
            row = await QUERIES.add_user(
                connection,
                user_id=uuid4(),
                email=email,
                password_hash=password_hash,
                full_name=full_name.strip(),
                role=role,
                is_verified=is_verified,
            )
        except asyncpg.UniqueViolationError as error:
            raise Problem(USERS_EMAIL_TAKEN, details=(Detail("email", "is taken"),)) from error
        user = _user(row)
        await QUERIES.add_profile(connection, user_id=user.user_id)
        await emit(connection, UserRegistered(user.user_id, user.email), event_id=uuid4())
        return user

    async def _send_verification(self, connection: Any, user: User) -> None:
        token_id = uuid4()
        await QUERIES.add_mail_token(
            connection,
            token_id=token_id,
            user_id=user.user_id,
            purpose="verify_email",
            token_hash=fingerprint(self.signer.mail_token(token_id)),
            ttl_s=VERIFY_TTL_S,
        )
        letter = LetterRequested("verify_email", user.user_id, {"token_id": str(token_id)})
        await emit(connection, letter, event_id=uuid4(), topic=PRIORITY)

    @on(AddUser)
    async def add(self, message: AddUser) -> User:
        """An account that exists keeps its password: an operator's typo must not lock its owner out."""
        email = checked_address(message.email, message.password, message.full_name, terms_accepted=True)
        password_hash = await self.passwords.ask(HashPassword(message.password))
        async with self.database.transaction() as connection:
            row = await QUERIES.user_by_email(connection, email=email)
            if row is None:
                return await self._add(
                    connection, email, password_hash, message.full_name, role=message.role, is_verified=True
                )
            user = _user(row)
            if user.role is message.role and user.is_verified and user.is_active:
                return user
            await QUERIES.mark_verified(connection, user_id=user.user_id)
            return await self._change(connection, ChangeUser(user.user_id, message.role, is_active=True))

    @on(VerifyEmail)
    async def verify(self, message: VerifyEmail) -> User:
        """The secret is used, the account verified and the event written in one transaction."""
        async with self.database.transaction() as connection:
            used = await QUERIES.use_mail_token(
                connection, token_hash=fingerprint(message.token), purpose="verify_email"
            )
            row = used and await QUERIES.mark_verified(connection, user_id=used["user_id"])
            if not row:
                raise Problem(AUTH_MAIL_TOKEN_INVALID, details=(Detail("token", "is not valid"),))
            await emit(connection, UserVerified(row["user_id"]), event_id=uuid4())
            return _user(row)

    @on(ResendVerification)
    async def resend(self, message: ResendVerification) -> None:
        """Earlier links stay good until they expire: the mails may cross."""
        async with self.database.transaction() as connection:
            row = await QUERIES.user_by_email(connection, email=message.email)
            if row is not None and row["is_active"] and not row["is_verified"]:
                await self._send_verification(connection, _user(row))

    @on(GetUser)
    async def get(self, message: GetUser) -> User:
        """Read one row."""
        async with self.database.acquire() as connection:
            row = await QUERIES.user_by_id(connection, user_id=message.user_id)
        if row is None:
            raise Problem(USERS_NOT_FOUND)
        return _user(row)

    @on(ChangeUser)
    async def change(self, message: ChangeUser) -> User:
        """There is always an active admin left."""
        async with self.database.transaction() as connection:
            return await self._change(connection, message)

    async def _change(self, connection: Any, message: ChangeUser) -> User:
        admins = [row["user_id"] async for row in QUERIES.lock_admins(connection)]
        demoted = message.role not in (None, Role.ADMIN) or message.is_active is False
        if demoted and admins == [message.user_id]:
            raise Problem(USERS_LAST_ADMIN)
        row = await QUERIES.change_user(
            connection, user_id=message.user_id, role=message.role, is_active=message.is_active
        )
        if row is None:
            raise Problem(USERS_NOT_FOUND)
        changed = tuple(name for name in ("role", "is_active") if getattr(message, name) is not None)
        await emit(connection, UserUpdated(message.user_id, changed), event_id=uuid4())
        return _user(row)


def _user(row: Any) -> User:
    return msgspec.convert({name: row[name] for name in User.__struct_fields__}, User)


def checked_address(email: str, password: str, full_name: str, terms_accepted: bool) -> str:
    """The normalised address of a new account. Raises Problem(REQUEST_INVALID) that names every fault."""
    faults: list[Detail] = []
    try:
        email = validate_email(email, check_deliverability=False, allow_smtputf8=False).normalized
    except EmailNotValidError as error:
        faults.append(Detail("email", str(error)))
    if not full_name.strip():
        faults.append(Detail("full_name", "must not be empty"))
    elif len(full_name.strip()) > MAX_NAME_LENGTH:
        faults.append(Detail("full_name", f"must have {MAX_NAME_LENGTH} characters at most"))
    if not terms_accepted:
        faults.append(Detail("terms_accepted", "must be true"))
    faults += [Detail("password", fault) for fault in password_faults(password, (email.split("@")[0], full_name))]
    if faults:
        raise Problem(REQUEST_INVALID, details=tuple(faults))
    return email
