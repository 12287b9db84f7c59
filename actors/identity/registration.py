"""Registration: an address belongs to nobody until its mailbox is proved.

An unverified account gives way: to the next registration of its address, to a change of address that is proved, and to
an import. So each address has at most one account, and no stranger can block an address.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any
from uuid import UUID, uuid4

import msgspec

from callboard.actors.identity.accounts import QUERIES as USER_QUERIES
from callboard.actors.identity.accounts import User, new_user, taken, user_of
from callboard.actors.identity.email_verification import (
    RegistrationPolicy,
    add_token,
    request_email,
    request_no_email,
    send_verification,
    validate_registration,
)
from callboard.actors.identity.events import UserDeleted, UserRegistered
from callboard.actors.identity.known_devices import address_of
from callboard.actors.identity.password_hasher import HashPassword, VerifyPassword, hash_or_overloaded
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.token_signer import Signer
from callboard.runtime import Ref, Request
from callboard.streams.outbox import emit, emit_all
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

UNPROVEN_DAYS = 7  # by default


class RegisterUser(Request[User], frozen=True):
    """Create an account and request the verification mail. Raises Problem(REQUEST_INVALID, USERS_EMAIL_TAKEN).

    It replaces an unproven account of this address. `user_id` is the new account's id; a repeated request with the same
    id returns the existing account. The mail names `ip`, and comes in one of the `languages`, the best first.
    """

    email: str
    password: str
    full_name: str
    terms_accepted: bool
    user_id: UUID | None = None
    ip: str | None = None
    languages: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the password."""
        return "RegisterUser(...)"


class Origin(msgspec.Struct, frozen=True):
    """The address of a registration, and the languages of its person."""

    ip: str | None = None
    languages: tuple[str, ...] = ()


class Registrar:
    """Creates accounts for the users actor."""

    def __init__(
        self,
        database: Database,
        passwords: Ref[HashPassword | VerifyPassword],
        signer: Signer,
        registration_policy: RegistrationPolicy,
    ) -> None:
        self.database = database
        self.passwords = passwords
        self.signer = signer
        self.registration_policy = registration_policy

    async def register(self, message: RegisterUser) -> User:
        """Add the account, its token and its event, and request the mail, in one transaction."""
        email, full_name = validate_registration(
            message.email,
            message.password,
            message.full_name,
            self.registration_policy.policy,
            terms_accepted=message.terms_accepted,
        )
        password_hash = await hash_or_overloaded(self.passwords, HashPassword(message.password))
        user = new_user(message.user_id or uuid4(), email, full_name, Role.MEMBER, is_verified=False)
        origin = Origin(address_of(message.ip), message.languages)
        return await self._register_or_conceal(user, password_hash, origin)

    @retried
    async def _register_or_conceal(self, user: User, password_hash: str, origin: Origin) -> User:
        async with self.database.transaction() as connection:
            await lock_addresses(connection, user.email)
            owner = await USER_QUERIES.user_by_email(connection, email=user.email)
            if owner is not None and owner["user_id"] == user.user_id:
                return user_of(owner)  # the same request again
            if owner is not None and owner["is_verified"]:
                if not self.registration_policy.conceal:
                    raise taken()
                return await self._conceal(connection, user, password_hash, owner["user_id"])
            # The savepoint takes as many statements as one that is rolled back.
            async with connection.transaction() if self.registration_policy.conceal else nullcontext():
                made = await self._register(connection, user, password_hash, origin)
            await send_verification(connection, self.signer, made.user_id, made.created_at, origin.ip)
            return made

    async def _register(self, connection: Any, user: User, password_hash: str, origin: Origin) -> User:
        """Add the account; it replaces an unproven one of its address."""
        old_id = await retire_unproven(connection, user.email)
        made = await self.add(connection, user, password_hash, password_needed=old_id is not None, origin=origin)
        if made is None:
            raise taken()  # by its id: an account that the owner of this key made before, and has moved since
        if old_id is not None or self.registration_policy.conceal:
            await replace(connection, old_id, made.user_id)
        return made

    async def _conceal(self, connection: Any, user: User, password_hash: str, owner_id: UUID) -> User:
        """Mail the owner of the address, and create an account that is rolled back.

        Neither the response nor its time reveals the conflict: the statements are those of a new account.
        """
        attempt = connection.transaction()  # within the transaction: a savepoint
        await attempt.start()
        nobody = msgspec.structs.replace(user, user_id=uuid4(), email=f"{uuid4().hex}@example.invalid")
        await retire_unproven(connection, nobody.email)
        await self.add(connection, nobody, password_hash, password_needed=False, origin=Origin())
        await replace(connection, None, nobody.user_id)
        await attempt.rollback()
        if await add_token(connection, self.signer, owner_id, "address_taken") is not None:
            await request_email(connection, "address_taken", owner_id)
        else:
            await request_no_email(connection)
        return user

    async def add(
        self, connection: Any, user: User, password_hash: str, *, password_needed: bool, origin: Origin
    ) -> User | None:
        """Add an account whose address is free and locked; return None if the address or the id is taken."""
        row = await USER_QUERIES.add_user(
            connection,
            password_hash=password_hash,
            password_needed=password_needed,
            registered_from=origin.ip,
            **msgspec.structs.asdict(user),
        )
        if row is None:
            return None
        await USER_QUERIES.add_profile(connection, user_id=user.user_id, languages=list(origin.languages))
        await emit(connection, UserRegistered(user.user_id, user.email), event_id=uuid4())
        return user_of(row)


async def lock_addresses(connection: Any, *emails: str) -> None:
    """Lock these addresses until the end of the transaction, with or without accounts. Call it before any row is
    locked.
    """
    await QUERIES.lock_addresses(connection, emails=emails)


async def retire_unproven(connection: Any, email: str) -> UUID | None:
    """Free an address of its unproven account, which `replace` then removes; return its id, or None if there
    is none.
    """
    user_id: UUID | None = await QUERIES.retire_unproven(connection, email=email)
    return user_id


async def replace(connection: Any, old_id: UUID | None, new_id: UUID) -> None:
    """Remove a retired account. Its replacement inherits the counts of mails against the limit. Without one the same
    statements change nothing.
    """
    await QUERIES.move_tokens(connection, new_id=new_id, old_id=old_id)
    await QUERIES.remove_retired(connection, user_id=old_id)
    await emit_all(connection, [] if old_id is None else [UserDeleted(old_id)], of=UserDeleted)


async def remove_unproven(connection: Any, emails: Sequence[str]) -> None:
    """Remove the unproven accounts of these addresses."""
    removed = [row["user_id"] async for row in QUERIES.remove_unproven(connection, emails=emails)]
    await emit_all(connection, [UserDeleted(user_id) for user_id in removed])


async def purge_unproven(connection: Any, limit: int, days: int = UNPROVEN_DAYS) -> int:
    """Remove accounts that are unproven for `days`, `limit` at most; return their number."""
    async with connection.transaction():
        rows = QUERIES.purge_unproven(connection, days=days, limit=limit)
        removed = [row["user_id"] async for row in rows]
        await emit_all(connection, [UserDeleted(user_id) for user_id in removed])
    return len(removed)


async def oldest_unproven(connection: Any, days: int = UNPROVEN_DAYS) -> float | None:
    """Return for how many seconds the oldest unproven account has been due."""
    seconds: float | None = await QUERIES.oldest_unproven(connection, days=days)
    return seconds
