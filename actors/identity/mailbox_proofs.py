"""Proofs of a mailbox: the effects of the links in our mails, each in the caller's transaction.

An account belongs to the person who proves its mailbox. A password that another person typed does not stay: a link that
another person may have requested asks for a new password, and the undo of a change of address ends the password.
"""

from typing import Any
from uuid import UUID, uuid4

from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.identity import email_verification
from callboard.actors.identity.accounts import QUERIES, User, taken, user_of
from callboard.actors.identity.audit_actions import EMAIL_CHANGE_UNDONE, EMAIL_CHANGED, EMAIL_VERIFIED
from callboard.actors.identity.email_verification import RegistrationPolicy, add_token, request_email
from callboard.actors.identity.errors import AUTH_MAIL_TOKEN_INVALID, AUTH_PASSWORD_NEEDED
from callboard.actors.identity.events import UserDeleted, UserUpdated, UserVerified
from callboard.actors.identity.password_hasher import HashPassword, VerifyPassword, hash_or_overloaded
from callboard.actors.identity.password_policy import password_faults
from callboard.actors.identity.registration import lock_addresses, remove_unproven
from callboard.actors.identity.sessions import InvalidateUser, end_sessions
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.token_signer import Signer, fingerprint
from callboard.runtime import Ref, Request
from callboard.streams.email_address import redact_email
from callboard.streams.outbox import emit

RESET_TTL_S = 3600


class VerifyEmail(Request[User], frozen=True):
    """Use a verification link, once: it proves the account's own address, or its new one.

    `password` is for the account's own address, and replaces the first. Raises Problem(AUTH_MAIL_TOKEN_INVALID),
    AUTH_PASSWORD_NEEDED if another person may have typed the first one, REQUEST_INVALID for a bad password, and
    USERS_EMAIL_TAKEN if another account has proved the new address meanwhile; the link stays valid.
    """

    token: str
    password: str | None = None

    def __repr__(self) -> str:
        """Without the secrets."""
        return "VerifyEmail(...)"


class RefuseEmail(Request[None], frozen=True):
    """Reject by the same link a request of another person: the registration is removed, the change never happens.

    Raises Problem(AUTH_MAIL_TOKEN_INVALID).
    """

    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return "RefuseEmail(...)"


class UndoEmailChange(Request[User], frozen=True):
    """Use the link in the mail to the old address: the account gets it back, and its sessions and password end.

    Raises Problem(AUTH_MAIL_TOKEN_INVALID), and USERS_EMAIL_TAKEN if another account has proved the old address.
    """

    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return "UndoEmailChange(...)"


def invalid_link() -> Problem:
    """Return the refusal of a link that is unknown, used, expired, or of another purpose."""
    return Problem(AUTH_MAIL_TOKEN_INVALID, details=(FieldError("token", "is not valid"),))


async def use_link(connection: Any, token_hash: bytes, email: str, *purposes: str) -> Any:
    """Use a link that proves `email`, with locks on the address and the account. Raises Problem."""
    await lock_addresses(connection, email)
    used = await email_verification.QUERIES.use_token(connection, token_hash=token_hash)
    if used is None or used["purpose"] not in purposes:
        raise invalid_link()
    return used


async def confirm_registration(connection: Any, used: Any, password_hash: str | None) -> Any:
    """Prove the account's own address. Raises Problem(AUTH_PASSWORD_NEEDED)."""
    user_id = used["user_id"]
    if used["password_needed"] and password_hash is None:
        raise Problem(AUTH_PASSWORD_NEEDED, details=(FieldError("password", "is needed"),))
    row = await QUERIES.mark_verified(connection, user_id=user_id, password_hash=password_hash)
    await email_verification.QUERIES.spend_tokens(connection, user_id=user_id)
    await emit(connection, UserVerified(user_id), event_id=uuid4())
    await audit.record(connection, EMAIL_VERIFIED, of=user_id, by=user_id)
    return row


async def change_address(connection: Any, signer: Signer, used: Any, undo_ttl_s: float) -> Any:
    """Prove a new address. The old one gets an undo link. All sessions end but the requesting one.

    Raises Problem(USERS_EMAIL_TAKEN).
    """
    user_id, old = used["user_id"], used["old_email"]
    row = await _move(connection, user_id, used["email"])
    await email_verification.QUERIES.spend_tokens(connection, user_id=user_id)
    await end_sessions(connection, user_id, keep=used["session_id"])
    token_id = await add_token(connection, signer, user_id, "undo_email", ttl_s=undo_ttl_s, email=old)
    if token_id is not None:
        await request_email(connection, "undo_email", user_id, token_id=str(token_id))
    await emit(connection, UserUpdated(user_id, ("email",)), event_id=uuid4())
    await audit.record(
        connection,
        EMAIL_CHANGED,
        of=user_id,
        by=user_id,
        old_email=redact_email(old),
        new_email=redact_email(used["email"]),
    )
    return row


async def undo_change(connection: Any, signer: Signer, used: Any) -> Any:
    """Give the account its earlier address, and end everything of the person who took it: sessions, password, links.

    A link to choose a new password is mailed to the address. Raises Problem(USERS_EMAIL_TAKEN).
    """
    user_id = used["user_id"]
    row = await _move(connection, user_id, used["email"])
    await QUERIES.forget_password(connection, user_id=user_id)
    await QUERIES.forget_networks(connection, user_id=user_id)
    await email_verification.QUERIES.spend_tokens(connection, user_id=user_id)
    await email_verification.QUERIES.spend_later_undos(connection, user_id=user_id, created_at=used["created_at"])
    await end_sessions(connection, user_id)
    token_id = await add_token(connection, signer, user_id, "reset_password", ttl_s=RESET_TTL_S)
    if token_id is not None:
        await request_email(connection, "reset_password", user_id, token_id=str(token_id))
    await emit(connection, UserUpdated(user_id, ("email", "password")), event_id=uuid4())
    await audit.record(connection, EMAIL_CHANGE_UNDONE, of=user_id, by=user_id)
    return row


async def discard_request(connection: Any, used: Any) -> None:
    """Discard a request that the mailbox's owner refused: remove the registration, or drop the change of address."""
    user_id: UUID = used["user_id"]
    if used["purpose"] == "verify_email" and await QUERIES.remove_refused(connection, user_id=user_id):
        await emit(connection, UserDeleted(user_id), event_id=uuid4())


async def _move(connection: Any, user_id: UUID, email: str) -> Any:
    """Give an account an address that it has proved; an unproven account of that address is removed."""
    owner = await QUERIES.user_by_email(connection, email=email)
    if owner is not None and owner["user_id"] != user_id:
        if owner["is_verified"]:
            raise taken()
        await remove_unproven(connection, [email])
    return await QUERIES.move_to_address(connection, user_id=user_id, email=email)


class MailboxProofs:
    """Handles the links of mails for the users actor."""

    def __init__(
        self,
        database: Database,
        passwords: Ref[HashPassword | VerifyPassword],
        signer: Signer,
        sessions: Ref[InvalidateUser],
        registration_policy: RegistrationPolicy,
    ) -> None:
        self.database = database
        self.passwords = passwords
        self.signer = signer
        self.sessions = sessions
        self.policy = registration_policy.policy
        self.undo_ttl_s = registration_policy.undo_ttl_s

    async def verify(self, message: VerifyEmail) -> User:
        """Use the link, verify the address and write the event, in one transaction; the password is hashed
        before it.
        """
        token_hash = fingerprint(message.token)
        link = await self._link(token_hash)
        password_hash = await self._new_hash(link, message.password)
        user = await self._prove(token_hash, link["email"], password_hash)
        await self.sessions.ask(InvalidateUser(user.user_id))
        return user

    @retried
    async def _prove(self, token_hash: bytes, email: str, password_hash: str | None) -> User:
        async with self.database.transaction() as connection:
            used = await use_link(connection, token_hash, email, "verify_email", "change_email")
            if used["purpose"] == "verify_email":
                row = await confirm_registration(connection, used, password_hash)
            else:
                row = await change_address(connection, self.signer, used, self.undo_ttl_s)
        return user_of(row)

    async def _link(self, token_hash: bytes) -> Any:
        async with self.database.acquire() as connection:
            link = await email_verification.QUERIES.link(connection, token_hash=token_hash)
        if link is None:
            raise invalid_link()
        return link

    async def _new_hash(self, link: Any, password: str | None) -> str | None:
        """Return the hash of the password that comes with a link. Raises Problem for a bad password."""
        if password is None:
            return None
        if link["purpose"] != "verify_email":
            raise Problem(REQUEST_INVALID, details=(FieldError("password", "is not for this link"),))
        own = (link["email"].partition("@")[0], link["full_name"])
        if faults := password_faults(password, own, self.policy):
            raise Problem(REQUEST_INVALID, details=tuple(FieldError("password", fault) for fault in faults))
        return await hash_or_overloaded(self.passwords, HashPassword(password))

    @retried
    async def refuse(self, message: RefuseEmail) -> None:
        """Only the owner of the mailbox learns of it."""
        token_hash = fingerprint(message.token)
        link = await self._link(token_hash)
        async with self.database.transaction() as connection:
            used = await use_link(connection, token_hash, link["email"], "verify_email", "change_email")
            await discard_request(connection, used)

    @retried
    async def undo(self, message: UndoEmailChange) -> User:
        """Change the address, end sessions and password, and write the event, in one transaction."""
        token_hash = fingerprint(message.token)
        link = await self._link(token_hash)
        async with self.database.transaction() as connection:
            used = await use_link(connection, token_hash, link["email"], "undo_email")
            row = await undo_change(connection, self.signer, used)
        await self.sessions.ask(InvalidateUser(row["user_id"]))
        return user_of(row)
