"""Users: registration, verification of the address, looking up, and what they and admins may change."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiosql
import asyncpg
import msgspec

from callboard.actors import addresses, audit_log
from callboard.actors.access import Role
from callboard.actors.addresses import OPEN, Enrolment, add_token, checked_enrolment, send_letter
from callboard.actors.audit_log import AuditAction, masked
from callboard.actors.database import Database
from callboard.actors.errors import (
    AUTH_MAIL_TOKEN_INVALID,
    REQUEST_INVALID,
    USERS_EMAIL_TAKEN,
    USERS_LAST_ADMIN,
    USERS_NOT_FOUND,
    USERS_STALE,
    Detail,
    Problem,
)
from callboard.actors.passwords import HashPassword, VerifyPassword, ask_hasher
from callboard.actors.reads import Reads
from callboard.actors.sessions import ForgetUser, end_sessions
from callboard.actors.tokens import Signer, fingerprint
from callboard.actors.user_lists import list_users
from callboard.runtime import Actor, Ref, Request, on
from callboard.streams.email_address import canonical_email
from callboard.streams.events import Moment, UserDeleted, UserRegistered, UserUpdated, UserVerified
from callboard.streams.outbox import emit

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("users.sql"), "asyncpg")
READ_USERS: str = QUERIES.users_by_id.sql

AT_ONCE = 32  # in one worker: most of them wait for PostgreSQL together


class User(msgspec.Struct, frozen=True):
    """An account as its owner and admins see it."""

    user_id: UUID
    email: str
    full_name: str
    role: Role
    is_verified: bool
    is_active: bool
    created_at: Moment

    @property
    def tag(self) -> str:
        """Another one for all that is seen to differ: the ETag."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class RegisterUser(Request[User], frozen=True):
    """Make an account and have the verification mail sent. Raises Problem(REQUEST_INVALID, USERS_EMAIL_TAKEN).

    `user_id` is the id that it is to have; asked again with the same one, the reply is the account that there is.
    """

    email: str
    password: str
    full_name: str
    terms_accepted: bool
    user_id: UUID | None = None

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
    """Use the secret of a mail that proves an address, once: the account's own, or the one it is to have.

    Raises Problem(AUTH_MAIL_TOKEN_INVALID), and USERS_EMAIL_TAKEN when somebody has registered the new one meanwhile.
    """

    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return "VerifyEmail(...)"


class GetUser(Request[User], frozen=True):
    """Look an account up. Raises Problem(USERS_NOT_FOUND)."""

    user_id: UUID


class ListUsers(Request[list[User]], frozen=True):
    """Accounts, newest first, from before (`before`, `before_id`) on; None filters nothing.

    `email` is a whole address in any case, `q` a part of the name or the address.
    """

    limit: int
    email: str | None = None
    role: Role | None = None
    is_verified: bool | None = None
    is_active: bool | None = None
    created_after: datetime | None = None
    q: str | None = None
    before: datetime | None = None
    before_id: UUID | None = None


class EditUser(Request[User], frozen=True):
    """Change an account's name, and have a new address proved, which is then in force; None leaves the address.

    `tag` is that of the account that was read. Raises Problem(REQUEST_INVALID, USERS_NOT_FOUND, USERS_STALE,
    USERS_EMAIL_TAKEN, and REQUEST_LIMITED for too many addresses in an hour).
    """

    user_id: UUID
    full_name: str
    email: str | None = None
    tag: str | None = None


class ChangeUser(Request[User], frozen=True):
    """Change an account's role or whether it is active; None leaves it. An inactive account has no session. `tag` is of
    the account that was read. Raises Problem(USERS_NOT_FOUND, USERS_LAST_ADMIN, USERS_STALE).
    """

    user_id: UUID
    role: Role | None = None
    is_active: bool | None = None
    tag: str | None = None


class DeleteUser(Request[None], frozen=True):
    """Take an account and its sessions away. Its address is free; what it published stays. Raises like ChangeUser."""

    user_id: UUID
    tag: str | None = None


UserMessage = RegisterUser | AddUser | VerifyEmail | GetUser | ListUsers | EditUser | ChangeUser | DeleteUser


class Users(Actor[UserMessage]):
    """Accounts. What must be unique or single-use is so by SQL; handlers and workers share nothing but reads.

    Whatever changes who an account's sessions speak for is told to the session manager after its commit, and before
    the reply: the next request sees it.
    """

    concurrency = AT_ONCE

    def __init__(
        self,
        database: Database,
        passwords: Ref[HashPassword | VerifyPassword],
        signer: Signer,
        sessions: Ref[ForgetUser],
        enrolment: Enrolment = OPEN,
        *,
        reads: Reads[UUID] | None = None,
    ) -> None:
        self.database = database
        self.reads = reads or Reads(database, READ_USERS, "user_id")
        self.passwords = passwords
        self.signer = signer
        self.sessions = sessions
        self.enrolment = enrolment

    @on(RegisterUser)
    async def register(self, message: RegisterUser) -> User:
        """The account, its token, its event and the request for its mail are one transaction."""
        email, full_name = checked_enrolment(
            message.email,
            message.password,
            message.full_name,
            self.enrolment.policy,
            terms_accepted=message.terms_accepted,
        )
        password_hash = await ask_hasher(self.passwords, HashPassword(message.password))
        user = _fresh(message.user_id or uuid4(), email, full_name, Role.MEMBER, is_verified=False)
        async with self.database.transaction() as connection:
            if self.enrolment.conceal:
                return await self._add_concealed(connection, user, password_hash)
            made = await self._add(connection, user, password_hash)
            if made is not None:
                await addresses.send_verification(connection, self.signer, made.user_id)
                return made
            row = await QUERIES.user_by_email(connection, email=email)
            if row is None or row["user_id"] != user.user_id:
                raise _taken()
            return _user(row)  # the same request again

    async def _add_concealed(self, connection: Any, user: User, password_hash: str, *, late: bool = False) -> User:
        """The account, or a letter to the owner of its address: neither the reply nor its time tells."""
        # Both ways are the same statements, so where there is an owner an account of nobody's is made and taken back.
        # Measured, with three statements for the one and five for the other, the medians were 1.6 ms of 29 apart.
        owner = await QUERIES.user_by_email(connection, email=user.email)
        if owner is not None and owner["user_id"] == user.user_id:
            return _user(owner)  # the same request again
        nobody = msgspec.structs.replace(user, user_id=uuid4(), email=f"{uuid4().hex}@example.invalid")
        attempt = connection.transaction()  # within the transaction: a savepoint
        await attempt.start()
        made = await self._add(connection, nobody if owner else user, password_hash)
        if made is None:  # another request was faster by a moment, and has an owner for us
            await attempt.rollback()
            if late:
                raise _taken()
            return await self._add_concealed(connection, user, password_hash, late=True)
        token_id = await add_token(connection, self.signer, made.user_id, "verify_email")
        if owner is None:
            await attempt.commit()
            await send_letter(connection, "verify_email", made.user_id, token_id=str(token_id))
            return made
        await attempt.rollback()
        await send_letter(connection, "address_taken", owner["user_id"])
        return user  # whom nobody will ever see

    async def _add(self, connection: Any, user: User, password_hash: str) -> User | None:
        facts = msgspec.structs.asdict(user)
        row = await QUERIES.add_user(connection, password_hash=password_hash, **facts)
        if row is None:
            return None
        await QUERIES.add_profile(connection, user_id=user.user_id)
        await emit(connection, UserRegistered(user.user_id, user.email), event_id=uuid4())
        return _user(row)

    @on(AddUser)
    async def add(self, message: AddUser) -> User:
        """A verified account keeps its password: an operator's typo must not lock its owner out."""
        email, full_name = checked_enrolment(
            message.email, message.password, message.full_name, self.enrolment.policy, terms_accepted=True
        )
        password_hash = await ask_hasher(self.passwords, HashPassword(message.password))
        fresh = _fresh(uuid4(), email, full_name, message.role, is_verified=True)
        async with self.database.transaction() as connection:
            made = await self._add(connection, fresh, password_hash)
            if made is not None:
                await audit_log.record(connection, AuditAction.USER_CREATED, of=made.user_id, role=made.role)
                return made
            row = await QUERIES.user_by_email(connection, email=email)
            if row is None:  # deleted in this moment
                raise Problem(USERS_EMAIL_TAKEN)
            user = _user(row)
            if user.role is message.role and user.is_verified and user.is_active:
                return user
            await QUERIES.adopt(connection, user_id=user.user_id, password_hash=password_hash)
            user = await self._change(connection, ChangeUser(user.user_id, message.role, is_active=True))
        await self.sessions.ask(ForgetUser(user.user_id))
        return user

    @on(VerifyEmail)
    async def verify(self, message: VerifyEmail) -> User:
        """The secret is used, the address verified and the event written in one transaction."""
        async with self.database.transaction() as connection:
            used = await addresses.QUERIES.use_token(connection, token_hash=fingerprint(message.token))
            row = used and await self._prove(connection, used["user_id"], used["email"])
            if not row:
                raise Problem(AUTH_MAIL_TOKEN_INVALID, details=(Detail("token", "is not valid"),))
        await self.sessions.ask(ForgetUser(row["user_id"]))
        return _user(row)

    async def _prove(self, connection: Any, user_id: UUID, email: str | None) -> Any:
        try:
            row = await QUERIES.mark_verified(connection, user_id=user_id, email=email)
        except asyncpg.UniqueViolationError as error:
            raise _taken() from error
        if row is None:
            return None
        if email is not None:
            await addresses.QUERIES.spend_tokens(connection, user_id=user_id)
        event = UserVerified(user_id) if email is None else UserUpdated(user_id, ("email",))
        await emit(connection, event, event_id=uuid4())
        action = AuditAction.EMAIL_VERIFIED if email is None else AuditAction.EMAIL_CHANGED
        await audit_log.record(connection, action, of=user_id, by=user_id)
        return row

    @on(GetUser)
    async def get(self, message: GetUser) -> User:
        """Read one row, together with others."""
        row = await self.reads.read(message.user_id)
        if row is None:
            raise Problem(USERS_NOT_FOUND)
        return _user(row)

    @on(ListUsers)
    async def users(self, message: ListUsers) -> list[User]:
        """Read so many rows."""
        return [_user(row) for row in await list_users(self.database, msgspec.structs.asdict(message))]

    @on(EditUser)
    async def edit(self, message: EditUser) -> User:
        """The row is locked while it is held against the tag; an address that differs in case only is the same one."""
        async with self.database.transaction() as connection:
            user = _held(await QUERIES.lock_user(connection, user_id=message.user_id), message.tag)
            if faults := addresses.account_faults(message.email, message.full_name):
                raise Problem(REQUEST_INVALID, details=tuple(faults))
            email: str | None = user.email if message.email is None else canonical_email(message.email)
            if email is not None and email.lower() != user.email.lower():
                await self._ask_for(connection, user.user_id, email)
                email = None
            name = addresses.checked_name(message.full_name)
            edited = await QUERIES.edit_user(connection, user_id=user.user_id, full_name=name, email=email)
            changed = tuple(each for each in ("full_name", "email") if edited[each] != getattr(user, each))
            if changed:
                await emit(connection, UserUpdated(user.user_id, changed), event_id=uuid4())
        if "email" in changed:
            await self.sessions.ask(ForgetUser(user.user_id))
        return _user(edited)

    async def _ask_for(self, connection: Any, user_id: UUID, email: str) -> None:
        # Concealed, a taken address is mailed to as well: whoever reads it may know, and cannot have it twice.
        if not self.enrolment.conceal and await QUERIES.user_by_email(connection, email=email) is not None:
            raise _taken()
        await addresses.send_change(connection, self.signer, user_id, email)
        await audit_log.record(connection, AuditAction.EMAIL_CHANGE_REQUESTED, of=user_id, new_email=masked(email))

    @on(ChangeUser)
    async def change(self, message: ChangeUser) -> User:
        """There is always an active admin left."""
        async with self.database.transaction() as connection:
            user = await self._change(connection, message)
        await self.sessions.ask(ForgetUser(message.user_id))
        return user

    async def _change(self, connection: Any, message: ChangeUser) -> User:
        demoted = message.role not in (None, Role.ADMIN) or message.is_active is False
        await self._keep_an_admin(connection, message.user_id, demoted=demoted)
        before = await QUERIES.lock_user(connection, user_id=message.user_id)
        _held(before, message.tag)
        row = await QUERIES.change_user(
            connection, user_id=before["user_id"], role=message.role, is_active=message.is_active
        )
        await audit_log.record_change(connection, before, row)
        if not row["is_active"]:
            await end_sessions(connection, message.user_id)
        changed = tuple(name for name in ("role", "is_active") if getattr(message, name) is not None)
        await emit(connection, UserUpdated(message.user_id, changed), event_id=uuid4())
        return _user(row)

    async def _keep_an_admin(self, connection: Any, user_id: UUID, *, demoted: bool) -> None:
        admins = [row["user_id"] async for row in QUERIES.lock_admins(connection)]
        if demoted and admins == [user_id]:
            raise Problem(USERS_LAST_ADMIN)

    @on(DeleteUser)
    async def delete(self, message: DeleteUser) -> None:
        """The row stays, for what the account has published."""
        async with self.database.transaction() as connection:
            await self._keep_an_admin(connection, message.user_id, demoted=True)
            _held(await QUERIES.lock_user(connection, user_id=message.user_id), message.tag)
            await QUERIES.delete_user(connection, user_id=message.user_id)
            await end_sessions(connection, message.user_id)
            await addresses.QUERIES.spend_tokens(connection, user_id=message.user_id)
            await emit(connection, UserDeleted(message.user_id), event_id=uuid4())
            await audit_log.record(connection, AuditAction.USER_DELETED, of=message.user_id)
        await self.sessions.ask(ForgetUser(message.user_id))


def _fresh(user_id: UUID, email: str, full_name: str, role: Role, *, is_verified: bool) -> User:
    return User(user_id, email, full_name, role, is_verified, is_active=True, created_at=datetime.now(UTC))


def _user(row: Any) -> User:
    return msgspec.convert({name: row[name] for name in User.__struct_fields__}, User)


def _held(row: Any, tag: str | None) -> User:
    """The account of a locked row. Raises Problem(USERS_NOT_FOUND, or USERS_STALE for one that was changed)."""
    if row is not None and tag in (None, _user(row).tag):
        return _user(row)
    raise Problem(USERS_NOT_FOUND if row is None else USERS_STALE)


def _taken() -> Problem:
    return Problem(USERS_EMAIL_TAKEN, details=(Detail("email", "is taken"),))
