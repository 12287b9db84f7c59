"""Lists of accounts for admins: each filter has its index, and a search reads as few rows as possible.

No list is cached. A page reads its own rows by an index, whatever the number of accounts, and an admin must see a
change at once.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from callboard.actors.infrastructure.database import Database, retried
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
LAST_ID = UUID(int=2**128 - 1)

WINDOW = 10_000  # the newest accounts, which a search reads without an index of their text
RARE = 10_000  # matches that are sorted after they are found
TRIGRAM = 3  # the shortest part that the index can find


@retried
async def list_users(database: Database, filters: Mapping[str, Any]) -> list[Any]:
    """Read rows of accounts, newest first. `filters` are the fields of ListUsers; None means no filter."""
    given = dict(filters)
    q = given.pop("q")
    given["created_after"] = given["created_after"] or EARLIEST
    given["before"] = given["before"] or LATEST
    given["before_id"] = given["before_id"] or LAST_ID
    if q is None:
        async with database.acquire() as connection:
            return [row async for row in _query(given)(connection)]
    pattern = "%" + re.sub(r"([\\%_])", r"\\\1", q) + "%"
    async with database.pool("search").transaction() as connection:
        await QUERIES.plan_search(connection)
        rows = QUERIES.search_users(
            connection, pattern=pattern, has_trigram=len(q) >= TRIGRAM, window=WINDOW, rare=RARE, **given
        )
        return [row async for row in rows]


def _query(given: dict[str, Any]) -> Callable[[Any], Any]:
    """Return the query whose index leaves the fewest rows to read."""
    without = dict(given)
    if given["email"] is not None:
        return partial(QUERIES.list_by_email, **given)
    if without.pop("is_active") is False:
        return partial(QUERIES.list_inactive, **without)
    if given["is_verified"] is False:
        return partial(QUERIES.list_unverified, **{k: v for k, v in given.items() if k != "is_verified"})
    if given["role"] is not None:
        return partial(QUERIES.list_by_role, **given)
    return partial(QUERIES.list_active, **without) if given["is_active"] else partial(QUERIES.list_all, **given)
