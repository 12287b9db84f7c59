"""Addresses: their validation, and the mails that prove their owner."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec

from callboard.actors.delivery.email_templates import read_template
from callboard.actors.delivery.events import PRIORITY, TemplatedEmailRequested
from callboard.actors.errors import REQUEST_INVALID, REQUEST_LIMITED, FieldError, Problem
from callboard.actors.identity.password_policy import PasswordPolicy, password_faults
from callboard.actors.infrastructure.token_signer import Signer, fingerprint
from callboard.streams.email_address import Email, canonical_email
from callboard.streams.field_rules import apply_rules
from callboard.streams.outbox import emit, emit_all
from callboard.streams.queries import queries_beside
from callboard.streams.visible_text import visible, visible_rule

QUERIES = queries_beside(__file__)

PROOF_TTL_S = 24 * 3600
MAX_MAILS = 5  # mails of one purpose to one account in an hour
NAME_LENGTH = 2, 255
FullName = Annotated[str, visible(*NAME_LENGTH, examples=("Ada Lovelace",))]
validate_name = visible_rule(*NAME_LENGTH)


class RegistrationPolicy(msgspec.Struct, frozen=True):
    """The policy for accounts and addresses: the rules of passwords, whether the registration of a taken address gets
    the response of a new one, and how long a change of address can be undone.
    """

    policy: PasswordPolicy = PasswordPolicy.COMPOSITION
    conceal: bool = False
    undo_ttl_s: float = 72 * 3600


OPEN = RegistrationPolicy()


class _AccountFields(msgspec.Struct):
    email: Email | None
    full_name: FullName | None


def account_faults(email: str | None, full_name: str | None) -> list[FieldError]:
    """Validate an account's address and name; a value of None is not validated."""
    _, faults = apply_rules(_AccountFields, _AccountFields(email, full_name))
    return [FieldError(fault.path, fault.message) for fault in faults]


def validate_registration(
    email: str, password: str, full_name: str, policy: PasswordPolicy, *, terms_accepted: bool
) -> tuple[str, str]:
    """Return a new account's address and name in their stored form. Raises Problem(REQUEST_INVALID) with
    every fault.
    """
    faults = registration_faults(policy, email, password, full_name, terms_accepted=terms_accepted)
    if faults:
        raise Problem(REQUEST_INVALID, details=tuple(faults))
    return canonical_email(email), validate_name(full_name)


def registration_faults(
    policy: PasswordPolicy,
    email: str | None,
    password: str | None,
    full_name: str | None,
    *,
    terms_accepted: bool | None,
) -> list[FieldError]:
    """Validate the fields of a registration; a value of None is not validated."""
    faults = account_faults(email, full_name)
    if terms_accepted is False:
        faults.append(FieldError("terms_accepted", "must be true"))
    if password is not None:
        own = ((email or "").split("@", maxsplit=1)[0], full_name or "")
        faults += [FieldError("password", fault) for fault in password_faults(password, own, policy)]
    return faults


async def request_email(connection: Any, letter: str, user_id: UUID, **data: str) -> None:
    """Request one of our mails; it is sent if the caller's transaction commits. Raises UnknownEmailError for an unknown
    template or unsuitable data.
    """
    read_template(letter, data)
    await emit(connection, TemplatedEmailRequested(letter, user_id, data), event_id=uuid4(), topic=PRIORITY)


async def request_no_email(connection: Any) -> None:
    """Take the time of a request: whether an address has had too many mails is not to be measured."""
    await emit_all(connection, [], topic=PRIORITY, of=TemplatedEmailRequested)


async def send_verification(
    connection: Any, signer: Signer, user_id: UUID, registered_at: datetime, ip: str | None
) -> None:
    """Mail a secret that proves the account's own address, unless too many were mailed to it. The mail says when and
    from where the account was registered.
    """
    token_id = await add_token(connection, signer, user_id, "verify_email")
    if token_id is not None:
        at = registered_at.astimezone(UTC).isoformat(timespec="seconds")
        where = {} if ip is None else {"ip": ip}
        await request_email(connection, "verify_email", user_id, token_id=str(token_id), requested_at=at, **where)
    else:
        await request_no_email(connection)


async def resend_verification(connection: Any, signer: Signer, email: str) -> None:
    """Send another verification mail, if the address has an unverified account and the caller's transaction commits.
    Earlier links stay valid until they expire: the mails may cross. From now on all of them need a password.
    """
    user = await QUERIES.need_password(connection, email=email)
    if user is not None:
        await send_verification(connection, signer, user["user_id"], user["created_at"], user["ip"])


async def send_change(connection: Any, signer: Signer, user_id: UUID, email: str, session_id: UUID | None) -> None:
    """Mail a secret to a new address to prove it, and tell the old address. The events of one user stay in order, so
    the notice gets its recipient before the change. The caller holds a lock on the account's row; the requesting
    session stays when the address changes.

    Raises Problem(REQUEST_LIMITED): the address may be a stranger's, and no account may flood a mailbox.
    """
    token_id = await add_token(connection, signer, user_id, "change_email", email=email, session_id=session_id)
    if token_id is None:
        raise Problem(REQUEST_LIMITED, retry_after_s=3600)
    await request_email(connection, "email_change_asked", user_id)
    await request_email(connection, "change_email", user_id, token_id=str(token_id))


async def add_token(
    connection: Any,
    signer: Signer,
    user_id: UUID,
    purpose: str,
    *,
    ttl_s: float = PROOF_TTL_S,
    email: str | None = None,
    session_id: UUID | None = None,
) -> UUID | None:
    """Return the id of a new secret to be mailed; None if the account had MAX_MAILS of this purpose in an hour."""
    token_id = uuid4()
    added = await QUERIES.add_token(
        connection,
        token_id=token_id,
        user_id=user_id,
        purpose=purpose,
        token_hash=fingerprint(signer.mail_token(token_id)),
        ttl_s=ttl_s,
        email=email,
        session_id=session_id,
        most=MAX_MAILS,
    )
    return token_id if added else None
