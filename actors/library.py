"""The library: reading content. Readers share nothing, so the workers of its pool take turns."""

from datetime import datetime
from uuid import UUID

import msgspec

from callboard.actors.access import Identity
from callboard.actors.content import QUERIES, Content, as_content
from callboard.actors.database import Database
from callboard.actors.editorial import Status, is_editor, may_see
from callboard.actors.errors import CONTENT_FORBIDDEN, CONTENT_NOT_FOUND, Problem
from callboard.actors.html_sanitizer import sanitize_text
from callboard.runtime import Actor, Request, on
from callboard.streams.events import Moment


class Entry(msgspec.Struct, frozen=True):
    """An article in a list, without its text."""

    content_id: UUID
    author_id: UUID
    category_id: UUID | None
    title: str
    status: Status
    version: int
    published_at: Moment | None
    created_at: Moment
    updated_at: Moment


class Hit(msgspec.Struct, frozen=True):
    """A published article that was found; in `snippet` the words stand in <mark>, and nothing else is markup."""

    content_id: UUID
    author_id: UUID
    category_id: UUID | None
    title: str
    published_at: Moment
    rank: float
    snippet: str


class Transition(msgspec.Struct, frozen=True):
    """One step of an article's history."""

    transition_id: int
    action: str
    from_status: Status
    to_status: Status
    note: str | None
    actor_id: UUID
    actor_name: str
    created_at: Moment


class ReadContent(Request[Content], frozen=True):
    """One article, if `who` may see it. Raises Problem(CONTENT_NOT_FOUND)."""

    content_id: UUID
    who: Identity | None


class ListContent(Request[list[Entry]], frozen=True):
    """Articles that `who` may see, newest first, from before (`before`, `before_id`) on."""

    who: Identity | None
    limit: int
    status: Status | None = None
    author_id: UUID | None = None
    category_id: UUID | None = None
    before: datetime | None = None
    before_id: UUID | None = None


class SearchContent(Request[list[Hit]], frozen=True):
    """Published articles that match, best first, from below (`rank`, `before_id`) on; web search syntax."""

    q: str
    limit: int
    category_id: UUID | None = None
    rank: float | None = None
    before_id: UUID | None = None


class ListTransitions(Request[list[Transition]], frozen=True):
    """An article's history, oldest first, for its author and editors. Raises Problem(NOT_FOUND, FORBIDDEN)."""

    content_id: UUID
    who: Identity
    limit: int
    after: int = 0


class Library(Actor[ReadContent | ListContent | SearchContent | ListTransitions]):
    """Reads."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(ReadContent)
    async def read(self, message: ReadContent) -> Content:
        """What they may not see is not there."""
        async with self.database.acquire() as connection:
            row = await QUERIES.content_by_id(connection, content_id=message.content_id)
        if row is None or not may_see(message.who, row["author_id"], Status(row["status"])):
            raise Problem(CONTENT_NOT_FOUND)
        return as_content(row)

    @on(ListContent)
    async def entries(self, message: ListContent) -> list[Entry]:
        """The viewer's rights are part of the query, so that pages are full."""
        async with self.database.acquire() as connection:
            rows = QUERIES.list_content(
                connection,
                viewer_id=message.who and message.who.user_id,
                sees_all=is_editor(message.who),
                status=message.status,
                author_id=message.author_id,
                category_id=message.category_id,
                before=message.before,
                before_id=message.before_id,
                limit=message.limit,
            )
            return [msgspec.convert(dict(row), Entry) async for row in rows]

    @on(SearchContent)
    async def search(self, message: SearchContent) -> list[Hit]:
        """The stored text may hold markup of its author's: of it nothing is left in the snippet but the marks."""
        async with self.database.acquire() as connection:
            rows = QUERIES.search_content(
                connection,
                q=message.q,
                category_id=message.category_id,
                rank=message.rank,
                before_id=message.before_id,
                limit=message.limit,
            )
            hits = [dict(row) async for row in rows]
        return [msgspec.convert({**hit, "snippet": sanitize_text(hit["snippet"])}, Hit) for hit in hits]

    @on(ListTransitions)
    async def transitions(self, message: ListTransitions) -> list[Transition]:
        """Notes are between author and editors."""
        async with self.database.acquire() as connection:
            content = await QUERIES.content_by_id(connection, content_id=message.content_id)
            if content is None or not may_see(message.who, content["author_id"], Status(content["status"])):
                raise Problem(CONTENT_NOT_FOUND)
            if not (is_editor(message.who) or message.who.user_id == content["author_id"]):
                raise Problem(CONTENT_FORBIDDEN)
            rows = QUERIES.transitions_of(
                connection, content_id=message.content_id, after=message.after, limit=message.limit
            )
            return [msgspec.convert(dict(row), Transition) async for row in rows]
