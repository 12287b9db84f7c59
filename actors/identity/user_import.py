"""Imports: accounts from another system, with the hashes of their passwords, many in one transaction.

An address that has an account is left unchanged. So an interrupted import is completed by running it again, from its
beginning.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta

from callboard.actors.delivery.events import MAIL, TemplatedEmailRequested
from callboard.actors.errors import FieldError
from callboard.actors.identity.audit_actions import USERS_IMPORTED
from callboard.actors.identity.email_verification import PROOF_TTL_S, FullName
from callboard.actors.identity.events import UserDeleted, UserRegistered
from callboard.actors.identity.password_hasher import NO_PASSWORD, hash_fault
from callboard.actors.identity.registration import lock_addresses
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.database import Database, retried, storable
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.token_signer import Signer, fingerprint
from callboard.streams.email_address import Email
from callboard.streams.outbox import emit_all
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

AHEAD = timedelta(days=1)  # by which another system's clock may be ahead of ours


class ImportedUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of an import. Without a hash nobody can log in until the password is reset by mail."""

    email: Email
    full_name: FullName
    password_hash: str | None = None
    role: Role = Role.MEMBER
    is_verified: bool = False
    created_at: Annotated[datetime, Meta(tz=True)] | None = None

    def __repr__(self) -> str:
        """Without the hash."""
        return f"Candidate({self.email})"


def candidate_faults(candidate: ImportedUser) -> list[FieldError]:
    """Validate a line beyond its form and the rules of its fields."""
    faults: list[FieldError] = []
    if candidate.created_at is not None and not storable(candidate.created_at):
        faults.append(FieldError("created_at", "must be in the years 1 to 9999 in UTC"))
    elif candidate.created_at is not None and candidate.created_at > datetime.now(UTC) + AHEAD:
        faults.append(FieldError("created_at", "must not be in the future"))
    if candidate.password_hash and (fault := hash_fault(candidate.password_hash)):
        faults.append(FieldError("password_hash", fault))
    return faults


@retried
async def import_users(database: Database, candidates: Sequence[ImportedUser], signer: Signer | None) -> list[str]:
    """Do `import_users_within` in a transaction of its own. Raises Problem(SERVER_UNAVAILABLE)."""
    async with database.transaction() as connection:
        return await import_users_within(connection, candidates, signer)


async def import_users_within(
    connection: Any, candidates: Sequence[ImportedUser], signer: Signer | None, *, by: UUID | None = None
) -> list[str]:
    """Create the accounts without faults whose addresses have none, with their events, in the caller's transaction.

    With a `signer` the unverified ones get a link, which is valid for the longest time. Return the addresses of the new
    accounts.
    """
    emails = [each.email for each in candidates]
    made = {
        "emails": emails,
        "password_hashes": [each.password_hash or NO_PASSWORD for each in candidates],
        "full_names": [each.full_name for each in candidates],
        "verified": [each.is_verified for each in candidates],
    }
    await lock_addresses(connection, *emails)
    removed = [row async for row in QUERIES.remove_unproven(connection, **made)]
    await emit_all(connection, [UserDeleted(row["user_id"]) for row in removed])
    rows = [
        row
        async for row in QUERIES.import_users(
            connection,
            user_ids=[uuid4() for _ in candidates],
            roles=[each.role.value for each in candidates],
            created=[each.created_at for each in candidates],
            replaced=[row["address"] for row in removed],
            **made,
        )
    ]
    await QUERIES.import_profiles(connection, user_ids=[row["user_id"] for row in rows])
    await emit_all(connection, [UserRegistered(row["user_id"], row["email"]) for row in rows])
    there = len(candidates) - len(rows)
    await audit.record(connection, USERS_IMPORTED, by=by, made=len(rows), there_already=there)
    if signer is not None:
        await _send_verifications(connection, signer, [row["user_id"] for row in rows if not row["is_verified"]])
    return [row["email"] for row in rows]


async def _send_verifications(connection: Any, signer: Signer, user_ids: Sequence[Any]) -> None:
    tokens = [uuid4() for _ in user_ids]
    await QUERIES.import_tokens(
        connection,
        token_ids=tokens,
        user_ids=user_ids,
        token_hashes=[fingerprint(signer.mail_token(token_id)) for token_id in tokens],
        ttl_s=PROOF_TTL_S,
    )
    letters = [
        TemplatedEmailRequested("verify_email", user_id, {"token_id": str(token_id)})
        for user_id, token_id in zip(user_ids, tokens, strict=True)
    ]
    # Not at the priority of security mail, which has 5 minutes: these are many.
    await emit_all(connection, letters, topic=MAIL)
