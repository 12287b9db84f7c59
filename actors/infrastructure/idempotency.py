"""Idempotency keys: a request that makes something, sent again, gets the answer that the first one got.

A key is claimed before the work and keeps the answer after it, for 24 hours. A claim whose process died lapses, and the
work is done again under the id that was made with the claim: what exists by that id already is not made twice.
"""

import hashlib
from uuid import UUID, uuid4

import msgspec

from callboard.actors.errors import REQUEST_KEY_REUSED, Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.token_signer import Signer
from callboard.runtime import Actor, Message, Request, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

KEY_TTL_S = 24 * 3600


class StoredResponse(msgspec.Struct, frozen=True):
    """The stored response to a request."""

    status: int
    headers: dict[str, str]
    body: bytes


class Claim(msgspec.Struct, frozen=True):
    """The right to do a key's work, and the id of what it makes: the same in every try."""

    name: bytes
    claim_id: UUID
    new_id: UUID


class ClaimKey(Request[Claim | StoredResponse | None], frozen=True):
    """Ask for a key: a claim that lapses after `lease_s`, the answer that is kept, or None while another has the claim.

    Raises Problem(REQUEST_KEY_REUSED) when the key came with another body, Problem(SERVER_UNAVAILABLE).
    """

    name: bytes
    body: bytes
    lease_s: float

    def __repr__(self) -> str:
        """Without the body: it may hold a password."""
        return "ClaimKey(...)"


class KeepAnswer(Request[None], frozen=True):
    """Keep the answer of a claim's work. A claim that has lapsed and been taken by another keeps nothing."""

    claim: Claim
    answer: StoredResponse

    def __repr__(self) -> str:
        """Without the answer, which is its client's."""
        return f"KeepAnswer({self.claim.claim_id})"


class ReleaseKey(Message, frozen=True):
    """Give a claim up: its work has no answer to keep. The key's next request does the work again."""

    claim: Claim


class Idempotency(Actor[ClaimKey | KeepAnswer | ReleaseKey]):
    """Claims of keys. Which of several at once gets one is decided by SQL; the workers of a pool share nothing."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self.database = database
        self.signer = signer

    @on(ClaimKey)
    async def claim(self, message: ClaimKey) -> Claim | StoredResponse | None:
        """Take what is free, has expired or has lapsed; else look at what is there."""
        name, claim_id = message.name, uuid4()
        # Salted with the name, under a key that is not in the database: what a body says cannot be guessed from it.
        salted = name + message.body
        async with self.database.acquire() as connection:
            row = await QUERIES.claim_key(
                connection,
                name=name,
                fingerprint=self.signer.keyed_fingerprint(salted),
                new_id=uuid4(),
                claim_id=claim_id,
                lease_s=message.lease_s,
                kept_s=KEY_TTL_S,
            )
            if row is None:
                row = await QUERIES.key_by_name(connection, name=name)
                if row is None:  # swept away in between
                    return None
                if not self.signer.is_fingerprint_of(salted, row["fingerprint"]):
                    raise Problem(REQUEST_KEY_REUSED)
                if row["status"] is not None:
                    return StoredResponse(row["status"], msgspec.json.decode(row["headers"]), row["body"])
                if not row["has_lapsed"]:
                    return None
                row = await QUERIES.retake_key(connection, name=name, claim_id=claim_id, lease_s=message.lease_s)
        return None if row is None else Claim(name, claim_id, row["new_id"])

    @on(KeepAnswer)
    async def keep(self, message: KeepAnswer) -> None:
        """One guarded update."""
        claim, answer = message.claim, message.answer
        async with self.database.acquire() as connection:
            await QUERIES.keep_answer(
                connection,
                name=claim.name,
                claim_id=claim.claim_id,
                status=answer.status,
                headers=msgspec.json.encode(answer.headers).decode(),
                body=answer.body,
            )

    @on(ReleaseKey)
    async def free(self, message: ReleaseKey) -> None:
        """While the database is away the claim lapses by itself."""
        async with self.database.acquire() as connection:
            await QUERIES.free_key(connection, name=message.claim.name, claim_id=message.claim.claim_id)


def key_name(caller: UUID | None, method: str, path: str, key: str) -> bytes:
    """Return the storage key. Keys of different callers, methods or paths never collide. All anonymous clients share
    one key space.
    """
    return hashlib.sha256("\n".join((str(caller), method, path, key)).encode()).digest()
