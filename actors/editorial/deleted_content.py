"""Deleted content: editors list it and can undelete it, until a retention rule removes it."""

from datetime import datetime
from uuid import UUID

import msgspec

from callboard.actors.editorial.workflow_rules import Language, Status
from callboard.actors.infrastructure.database import Database
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)


class DeletedSummary(msgspec.Struct, frozen=True):
    """A deleted article. `status` is its state before and after; after `kept_until` it is gone for good."""

    content_id: UUID
    author_id: UUID
    title: str
    language: Language
    status: Status
    created_at: UtcDatetime
    deleted_at: UtcDatetime
    deleted_by: UUID | None
    kept_until: UtcDatetime


class ListDeleted(Request[list[DeletedSummary]], frozen=True):
    """List deleted articles, the newest deletion first, after the position (`before`, `before_id`)."""

    limit: int
    before: datetime | None = None
    before_id: UUID | None = None


class DeletedContent(Actor[ListDeleted]):
    """Lists deleted articles that are still kept for `days`."""

    def __init__(self, database: Database, days: int) -> None:
        self.database = database
        self.days = days

    @on(ListDeleted)
    async def list_deleted(self, message: ListDeleted) -> list[DeletedSummary]:
        """The route admits editors only."""
        async with self.database.acquire() as connection:
            rows = QUERIES.list_deleted(
                connection, days=self.days, before=message.before, before_id=message.before_id, limit=message.limit
            )
            return [msgspec.convert(dict(row), DeletedSummary) async for row in rows]
