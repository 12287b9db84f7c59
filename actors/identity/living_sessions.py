"""Which sessions have ended: for connections that stay open longer than a request."""

from collections.abc import Collection
from uuid import UUID

from callboard.actors.identity.sessions import QUERIES
from callboard.actors.infrastructure.database import Database


class LivingSessions:
    """Asks PostgreSQL: a session ends by a logout, a ban, a deletion, an expiry or a new password."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ended_among(self, session_ids: Collection[UUID]) -> frozenset[UUID]:
        """Return those that have ended. Raises Problem(SERVER_UNAVAILABLE, SERVER_TIMEOUT)."""
        async with self._database.acquire() as connection:
            rows = QUERIES.ended_among(connection, session_ids=list(session_ids))
            return frozenset([row["session_id"] async for row in rows])
