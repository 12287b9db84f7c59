"""Removal of uploads: incomplete ones that have expired, and the objects that no upload names any more.

A trigger notes each such object, whoever has removed or replaced it: a client, the expiry, the erasure of an account.
"""

from typing import Any

from callboard.actors.editorial.uploads import QUERIES
from callboard.actors.infrastructure.object_store import ObjectStore
from callboard.actors.infrastructure.retention import RetentionRule, query_rule

AGE_S = 3600.0  # by then no request can still read or copy the object
EXPIRED = query_rule("uploads", QUERIES.purge_expired)


def discarded_rule(store: ObjectStore) -> RetentionRule:
    """Return the rule that deletes discarded objects: first the bytes, and then the note of them."""

    async def purge(connection: Any, limit: int) -> int:
        found = [row["object_id"] async for row in QUERIES.discarded_objects(connection, age_s=AGE_S, limit=limit)]
        for object_id in found:
            await store.delete(object_id)
            await QUERIES.forget_object(connection, object_id=object_id)
        return len(found)

    async def oldest(connection: Any) -> float | None:
        seconds: float | None = await QUERIES.oldest_discarded(connection, age_s=AGE_S)
        return seconds

    return RetentionRule("discarded_objects", purge, oldest)
