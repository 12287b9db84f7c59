"""Users: registration, verification of addresses, lookups, and changes by owners and admins."""

from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from callboard.actors.errors import REQUEST_INVALID, Problem
from callboard.actors.identity import email_verification
from callboard.actors.identity.accounts import QUERIES, User, new_user, taken, user_of
from callboard.actors.identity.audit_actions import (
    EMAIL_CHANGE_REQUESTED,
    USER_ACTIVATED,
    USER_CHANGED,
    USER_CREATED,
    USER_DEACTIVATED,
    USER_DELETED,
    USER_DEMOTED,
    USER_PROMOTED,
)
from callboard.actors.identity.email_verification import OPEN, RegistrationPolicy, validate_registration
from callboard.actors.identity.errors import USERS_EMAIL_TAKEN, USERS_LAST_ADMIN, USERS_NOT_FOUND, USERS_STALE
from callboard.actors.identity.events import UserDeleted, UserUpdated
from callboard.actors.identity.mailbox_proofs import MailboxProofs, RefuseEmail, UndoEmailChange, VerifyEmail
from callboard.actors.identity.password_hasher import HashPassword, VerifyPassword, hash_or_overloaded
from callboard.actors.identity.registration import Origin, RegisterUser, Registrar, lock_addresses
from callboard.actors.identity.sessions import STEP_UP_S, InvalidateUser, end_sessions, require_step_up
from callboard.actors.identity.user_lists import list_users
from callboard.actors.infrastructure import audit_log
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.row_loader import Reads
from callboard.actors.infrastructure.token_signer import Signer
from callboard.runtime import Actor, Ref, Request, on
from callboard.streams.email_address import known_email, redact_email
from callboard.streams.outbox import emit

__all__ = [  # the protocol of the actor
    "ChangeUser",
    "CreateUser",
    "DeleteUser",
    "GetUser",
    "ListUsers",
    "RefuseEmail",
    "RegisterUser",
    "UndoEmailChange",
    "UpdateUser",
    "User",
    "UserMessage",
    "Users",
    "VerifyEmail",
]

READ_USERS: str = QUERIES.users_by_id.sql

CONCURRENCY = 32  # in one worker: most of them wait for PostgreSQL together


class CreateUser(Request[User], frozen=True):
    """Create a verified account with a role, or give the existing account of this address that role. For operators.

    Raises Problem(REQUEST_INVALID).
    """

    email: str
    password: str
    full_name: str
    role: Role

    def __repr__(self) -> str:
        """Without the password."""
        return "AddUser(...)"


class GetUser(Request[User], frozen=True):
    """Look an account up. Raises Problem(USERS_NOT_FOUND)."""

    user_id: UUID


class ListUsers(Request[list[User]], frozen=True):
    """List accounts, newest first, after (`before`, `before_id`); None means no filter.

    `email` is a whole address in any case, `q` part of the name or address.
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


class UpdateUser(Request[User], frozen=True):
    """Change an account's name, and start the proof of a new address, which then takes effect; None leaves the address.

    `tag` is the tag of the account that the caller read. For another address the requesting session must have confirmed
    its password lately; an operator has no session. Raises Problem(REQUEST_INVALID, USERS_NOT_FOUND, USERS_STALE,
    USERS_EMAIL_TAKEN, AUTH_STEP_UP_REQUIRED, and REQUEST_LIMITED for too many addresses in an hour).
    """

    user_id: UUID
    full_name: str
    email: str | None = None
    tag: str | None = None
    session_id: UUID | None = None


class ChangeUser(Request[User], frozen=True):
    """Change an account's role or whether it is active; None leaves it. An inactive account has no session. `tag` is
    the tag of the account that the caller read.

    The requesting session must have confirmed its password lately; an operator has no session. Raises
    Problem(USERS_NOT_FOUND, USERS_LAST_ADMIN, USERS_STALE, AUTH_STEP_UP_REQUIRED).
    """

    user_id: UUID
    role: Role | None = None
    is_active: bool | None = None
    tag: str | None = None
    session_id: UUID | None = None


class DeleteUser(Request[None], frozen=True):
    """Delete an account and its sessions. Its address is free; its published content stays.

    The requesting session must have confirmed its password lately, else it is Problem(AUTH_STEP_UP_REQUIRED); an
    operator has no session. Raises the errors of ChangeUser.
    """

    user_id: UUID
    tag: str | None = None
    session_id: UUID | None = None


UserMessage = (
    RegisterUser
    | CreateUser
    | VerifyEmail
    | RefuseEmail
    | UndoEmailChange
    | GetUser
    | ListUsers
    | UpdateUser
    | ChangeUser
    | DeleteUser
)


class Users(Actor[UserMessage]):
    """Accounts. SQL guarantees uniqueness and single use; handlers and workers share nothing but row loaders.

    A change of a user's sessions, role or state is reported to the session manager after its commit, and before the
    reply: the next request sees it.
    """

    concurrency = CONCURRENCY

    def __init__(
        self,
        database: Database,
        passwords: Ref[HashPassword | VerifyPassword],
        signer: Signer,
        sessions: Ref[InvalidateUser],
        registration_policy: RegistrationPolicy = OPEN,
        *,
        reads: Reads[UUID] | None = None,
        step_up_s: float = STEP_UP_S,
    ) -> None:
        self.step_up_s = step_up_s
        self.registrar = Registrar(database, passwords, signer, registration_policy)
        self.proofs = MailboxProofs(database, passwords, signer, sessions, registration_policy)
        self.database = database
        self.reads = reads or Reads(database, READ_USERS, "user_id")
        self.passwords = passwords
        self.signer = signer
        self.sessions = sessions
        self.registration_policy = registration_policy

    @on(RegisterUser)
    async def register(self, message: RegisterUser) -> User:
        """See Registrar.register."""
        return await self.registrar.register(message)

    @on(CreateUser)
    @retried
    async def add(self, message: CreateUser) -> User:
        """A verified account keeps its password: an operator's typo must not lock its owner out."""
        email, full_name = validate_registration(
            message.email, message.password, message.full_name, self.registration_policy.policy, terms_accepted=True
        )
        password_hash = await hash_or_overloaded(self.passwords, HashPassword(message.password))
        fresh = new_user(uuid4(), email, full_name, message.role, is_verified=True)
        async with self.database.transaction() as connection:
            await lock_addresses(connection, email)
            made = await self.registrar.add(connection, fresh, password_hash, password_needed=False, origin=Origin())
            if made is not None:
                await audit_log.record(connection, USER_CREATED, of=made.user_id, role=made.role)
                return made
            row = await QUERIES.user_by_email(connection, email=email)
            if row is None:  # deleted at this moment
                raise Problem(USERS_EMAIL_TAKEN)
            user = user_of(row)
            if user.role is message.role and user.is_verified and user.is_active:
                return user
            await QUERIES.adopt(connection, user_id=user.user_id, password_hash=password_hash)
            if not user.is_verified:
                await email_verification.QUERIES.spend_tokens(connection, user_id=user.user_id)
            user = await self._change(connection, ChangeUser(user.user_id, message.role, is_active=True))
        await self.sessions.ask(InvalidateUser(user.user_id))
        return user

    @on(VerifyEmail)
    async def verify(self, message: VerifyEmail) -> User:
        """See MailboxProofs.verify."""
        return await self.proofs.verify(message)

    @on(RefuseEmail)
    async def refuse(self, message: RefuseEmail) -> None:
        """See MailboxProofs.refuse."""
        await self.proofs.refuse(message)

    @on(UndoEmailChange)
    async def undo(self, message: UndoEmailChange) -> User:
        """See MailboxProofs.undo."""
        return await self.proofs.undo(message)

    @on(GetUser)
    async def get(self, message: GetUser) -> User:
        """Read one row; simultaneous reads share a query."""
        row = await self.reads.read(message.user_id)
        if row is None:
            raise Problem(USERS_NOT_FOUND)
        return user_of(row)

    @on(ListUsers)
    async def users(self, message: ListUsers) -> list[User]:
        """Read one page."""
        filters = msgspec.structs.asdict(message)
        if message.email is not None:
            with suppress(ValueError):  # an address stored before today's rules is found in its stored form
                filters["email"] = known_email(message.email)
        return [user_of(row) for row in await list_users(self.database, filters)]

    @on(UpdateUser)
    @retried
    async def edit(self, message: UpdateUser) -> User:
        """The row is locked while the tag is compared. An address that differs only in case is the same address and is
        not verified again, but some mail servers deliver it to another mailbox.
        """
        async with self.database.transaction() as connection:
            user = _locked_user(await QUERIES.lock_user(connection, user_id=message.user_id), message.tag)
            email = _canonical(message.email, user.email)
            is_new = email.lower() != user.email.lower()
            if faults := email_verification.account_faults(email if is_new else None, message.full_name):
                raise Problem(REQUEST_INVALID, details=tuple(faults))
            if email != user.email:
                await require_step_up(connection, message.session_id, self.step_up_s)
            if is_new:
                await self._request_address(connection, user.user_id, email, message.session_id)
                email = user.email
            name = email_verification.validate_name(message.full_name)
            edited = await QUERIES.edit_user(connection, user_id=user.user_id, full_name=name, email=email)
            changed = tuple(each for each in ("full_name", "email") if edited[each] != getattr(user, each))
            if changed:
                await emit(connection, UserUpdated(user.user_id, changed), event_id=uuid4())
                await audit_log.record(connection, USER_CHANGED, of=user.user_id, fields=changed)
        if "email" in changed:
            await self.sessions.ask(InvalidateUser(user.user_id))
        return user_of(edited)

    async def _request_address(self, connection: Any, user_id: UUID, email: str, session_id: UUID | None) -> None:
        # If conflicts are concealed, a taken address gets a mail as well: only its owner may know, and cannot have it
        # twice.
        owner = await QUERIES.user_by_email(connection, email=email)
        if owner is not None and owner["is_verified"] and not self.registration_policy.conceal:
            raise taken()
        await email_verification.send_change(connection, self.signer, user_id, email, session_id)
        await audit_log.record(connection, EMAIL_CHANGE_REQUESTED, of=user_id, new_email=redact_email(email))

    @on(ChangeUser)
    @retried
    async def change(self, message: ChangeUser) -> User:
        """There is always an active admin left."""
        async with self.database.transaction() as connection:
            await require_step_up(connection, message.session_id, self.step_up_s)
            user = await self._change(connection, message)
        await self.sessions.ask(InvalidateUser(message.user_id))
        return user

    async def _change(self, connection: Any, message: ChangeUser) -> User:
        demoted = message.role not in (None, Role.ADMIN) or message.is_active is False
        await self._keep_an_admin(connection, message.user_id, demoted=demoted)
        before = await QUERIES.lock_user(connection, user_id=message.user_id)
        _locked_user(before, message.tag)
        row = await QUERIES.change_user(
            connection, user_id=before["user_id"], role=message.role, is_active=message.is_active
        )
        await _audit_change(connection, before, row)
        if not row["is_active"]:
            await end_sessions(connection, message.user_id)
        changed = tuple(name for name in ("role", "is_active") if getattr(message, name) is not None)
        await emit(connection, UserUpdated(message.user_id, changed), event_id=uuid4())
        return user_of(row)

    async def _keep_an_admin(self, connection: Any, user_id: UUID, *, demoted: bool) -> None:
        admins = [row["user_id"] async for row in QUERIES.lock_admins(connection)]
        if demoted and admins == [user_id]:
            raise Problem(USERS_LAST_ADMIN)

    @on(DeleteUser)
    @retried
    async def delete(self, message: DeleteUser) -> None:
        """The row stays, as the author of published content."""
        async with self.database.transaction() as connection:
            await self._keep_an_admin(connection, message.user_id, demoted=True)
            _locked_user(await QUERIES.lock_user(connection, user_id=message.user_id), message.tag)
            await require_step_up(connection, message.session_id, self.step_up_s)
            await QUERIES.delete_user(connection, user_id=message.user_id)
            await end_sessions(connection, message.user_id)
            await email_verification.QUERIES.spend_tokens(connection, user_id=message.user_id)
            await emit(connection, UserDeleted(message.user_id), event_id=uuid4())
            await audit_log.record(connection, USER_DELETED, of=message.user_id)
        await self.sessions.ask(InvalidateUser(message.user_id))


def _canonical(email: str | None, current: str) -> str:
    """Return the canonical form of an account's new address. One without such a form is returned unchanged; a rule
    refuses it.
    """
    if email is None:
        return current
    try:
        return known_email(email)
    except ValueError:
        return email


def _locked_user(row: Any, tag: str | None) -> User:
    """Return the account of a locked row. Raises Problem(USERS_NOT_FOUND, or USERS_STALE if it has changed)."""
    if row is not None and tag in (None, user_of(row).tag):
        return user_of(row)
    raise Problem(USERS_NOT_FOUND if row is None else USERS_STALE)


async def _audit_change(connection: Any, before: Any, after: Any) -> None:
    """Record an admin's change of an account, from its row before and after."""
    user_id, was, role = after["user_id"], Role(before["role"]), Role(after["role"])
    if role is not was:
        action = USER_PROMOTED if role.includes(was) else USER_DEMOTED
        await audit_log.record(connection, action, of=user_id, old_role=was, new_role=role)
    if after["is_active"] is not before["is_active"]:
        action = USER_ACTIVATED if after["is_active"] else USER_DEACTIVATED
        await audit_log.record(connection, action, of=user_id)
