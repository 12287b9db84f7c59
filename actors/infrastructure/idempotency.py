"""Idempotency keys: a repeated request that creates something gets the response of the first.

A key is claimed before the work and stores the response after it, for 24 hours. The claim of a dead process expires,
and the work runs again under the id that came with the claim: a resource that already exists is not created twice.
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
    """The right to do the work of a key, and the id of its resource: the same in every attempt."""

    name: bytes
    claim_id: UUID
    new_id: UUID


class ClaimKey(Request[Claim | StoredResponse | None], frozen=True):
    """Ask for a key: a claim that expires after `lease_s`, the stored response, or None while another holds the claim.

    Raises Problem(REQUEST_KEY_REUSED) if the key came with another body, Problem(SERVER_UNAVAILABLE).
    """

    name: bytes
    body: bytes
    lease_s: float

    def __repr__(self) -> str:
        """Without the body: it may hold a password."""
        return "ClaimKey(...)"


class StoreResponse(Request[None], frozen=True):
    """Store the response of a claim's work. A claim that has expired and passed to another stores nothing."""

    claim: Claim
    answer: StoredResponse

    def __repr__(self) -> str:
        """Without the response, which is its client's."""
        return f"StoreResponse({self.claim.claim_id})"


class ReleaseKey(Message, frozen=True):
    """Release a claim: its work has no response to store. The key's next request does the work again."""

    claim: Claim


class Idempotency(Actor[ClaimKey | StoreResponse | ReleaseKey]):
    """Claims of keys. SQL decides which of several simultaneous requests gets one; the workers of a pool share no
    state.
    """

    def __init__(self, database: Database, signer: Signer) -> None:
        self.database = database
        self.signer = signer

    @on(ClaimKey)
    async def claim(self, message: ClaimKey) -> Claim | StoredResponse | None:
        """Claim a free or expired key; else read its state."""
        name, claim_id = message.name, uuid4()
        # Salted with the name, under a key that is not in the database: the body cannot be guessed from the hash.
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
                if row is None:  # purged in between
                    return None
                if not self.signer.is_fingerprint_of(salted, row["fingerprint"]):
                    raise Problem(REQUEST_KEY_REUSED)
                if row["status"] is not None:
                    return StoredResponse(row["status"], msgspec.json.decode(row["headers"]), row["body"])
                if not row["has_lapsed"]:
                    return None
                row = await QUERIES.retake_key(connection, name=name, claim_id=claim_id, lease_s=message.lease_s)
        return None if row is None else Claim(name, claim_id, row["new_id"])

    @on(StoreResponse)
    async def store(self, message: StoreResponse) -> None:
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
    async def release(self, message: ReleaseKey) -> None:
        """If the database is unavailable the claim expires by itself."""
        async with self.database.acquire() as connection:
            await QUERIES.free_key(connection, name=message.claim.name, claim_id=message.claim.claim_id)


def key_name(caller: UUID | None, method: str, path: str, key: str) -> bytes:
    """Return the storage key. Keys of different callers, methods or paths never collide. All anonymous clients share
    one key space.
    """
    return hashlib.sha256("\n".join((str(caller), method, path, key)).encode()).digest()
