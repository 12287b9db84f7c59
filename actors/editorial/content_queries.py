"""Queries of content. The workers of the pool share no state and take turns."""

import heapq
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.editorial.content_cache import ContentCache
from callboard.actors.editorial.content_rows import QUERIES as WORKFLOW
from callboard.actors.editorial.content_rows import Content, as_content
from callboard.actors.editorial.errors import CONTENT_FORBIDDEN, CONTENT_NOT_FOUND
from callboard.actors.editorial.workflow_rules import Language, Status, is_editor, may_see
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.principals import Principal
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

UNPUBLISHED = [status for status in Status if status is not Status.PUBLISHED]
LATEST = datetime(9999, 12, 31, tzinfo=UTC)  # lists begin before these values, which sort after all others
LAST_ID = UUID(int=2**128 - 1)


class CategoryLabel(msgspec.Struct, frozen=True):
    """A category, as a list of articles shows it."""

    slug: str
    name: str


class ContentSummary(msgspec.Struct, frozen=True):
    """An article in a list, without its text, with the names that a page shows."""

    content_id: UUID
    author_id: UUID
    author_name: str
    category_id: UUID | None
    category: CategoryLabel | None
    title: str
    language: Language
    tags: tuple[str, ...]
    comment_count: int
    status: Status
    version: int
    published_at: UtcDatetime | None
    created_at: UtcDatetime
    updated_at: UtcDatetime

    @property
    def position(self) -> tuple[datetime, UUID]:
        """Return its place in lists: published content sorts by its publication, all other content by its creation."""
        published = self.published_at if self.status is Status.PUBLISHED else None
        return published or self.created_at, self.content_id


class Transition(msgspec.Struct, frozen=True):
    """One step of an article's history."""

    transition_id: int
    action: str
    from_status: Status
    to_status: Status
    note: str | None
    actor_id: UUID
    actor_name: str
    created_at: UtcDatetime


class ReadContent(Request[Content], frozen=True):
    """Read one article, if `caller` may see it. Raises Problem(CONTENT_NOT_FOUND)."""

    content_id: UUID
    caller: Principal | None


class ListContent(Request[list[ContentSummary]], frozen=True):
    """List the articles that `caller` may see, newest first, after the `position` (`before`, `before_id`). A category
    is given by its id or by its slug; an unknown one has no articles.
    """

    caller: Principal | None
    limit: int
    status: Status | None = None
    author_id: UUID | None = None
    category_id: UUID | None = None
    category_slug: str | None = None
    tag: str | None = None
    before: datetime | None = None
    before_id: UUID | None = None


class ListTransitions(Request[list[Transition]], frozen=True):
    """List an article's history, oldest first, for its author and editors. Raises Problem(NOT_FOUND, FORBIDDEN)."""

    content_id: UUID
    caller: Principal
    limit: int
    after: int = 0


class ContentQueries(Actor[ReadContent | ListContent | ListTransitions]):
    """Answers queries, other than searches."""

    def __init__(self, database: Database, cache: ContentCache) -> None:
        self.database = database
        self.cache = cache

    @on(ReadContent)
    async def read(self, message: ReadContent) -> Content:
        """Content that the caller may not see is reported as not found."""
        caller = message.caller
        if not is_editor(caller):  # authors and editors see their own changes, which they will build upon
            published = await self.cache.read(message.content_id)
            if published is not None and (caller is None or caller.user_id != published.author_id):
                return published
            if caller is None:
                raise Problem(CONTENT_NOT_FOUND)
        async with self.database.acquire() as connection:
            row = await WORKFLOW.content_by_id(connection, content_id=message.content_id)
        if row is None or not may_see(caller, row["author_id"], Status(row["status"])):
            raise Problem(CONTENT_NOT_FOUND)
        return as_content(row)

    @on(ListContent)
    async def list_content(self, message: ListContent) -> list[ContentSummary]:
        """Merge published and unpublished content; each comes in the order of its own index."""
        before, before_id = message.before or LATEST, message.before_id or LAST_ID
        lists: list[list[ContentSummary]] = []
        async with self.database.acquire() as connection:
            if message.category_slug is not None:
                category_id = await QUERIES.category_of_slug(connection, slug=message.category_slug)
                if category_id is None:
                    return []
                message = msgspec.structs.replace(message, category_id=category_id)
            for query in (_published(message), _unpublished(message)):
                if query is not None:
                    rows = query(connection, before=before, before_id=before_id, limit=message.limit)
                    lists.append([_summary(row) async for row in rows])
        merged = heapq.merge(*lists, key=lambda entry: entry.position, reverse=True)
        return list(islice(merged, message.limit))

    @on(ListTransitions)
    async def transitions(self, message: ListTransitions) -> list[Transition]:
        """Only the author and editors see notes."""
        async with self.database.acquire() as connection:
            content = await WORKFLOW.content_by_id(connection, content_id=message.content_id)
            if content is None or not may_see(message.caller, content["author_id"], Status(content["status"])):
                raise Problem(CONTENT_NOT_FOUND)
            if not (is_editor(message.caller) or message.caller.user_id == content["author_id"]):
                raise Problem(CONTENT_FORBIDDEN)
            rows = QUERIES.transitions_of(
                connection, content_id=message.content_id, after=message.after, limit=message.limit
            )
            return [msgspec.convert(dict(row), Transition) async for row in rows]


def _summary(row: Any) -> ContentSummary:
    """Build the Struct of a row of the view content_summaries."""
    fields = dict(row)
    slug, name = fields.pop("category_slug"), fields.pop("category_name")
    return msgspec.convert({**fields, "category": slug and {"slug": slug, "name": name}}, ContentSummary)


def _published(message: ListContent) -> Callable[..., Any] | None:
    """Return the query for the published content of a list, or None if the list has none."""
    if message.status not in (None, Status.PUBLISHED):
        return None
    if message.author_id is not None:
        return partial(
            QUERIES.list_published_by,
            author_id=message.author_id,
            category_id=message.category_id,
            tag=message.tag,
        )
    if message.tag is not None:
        return _tagged(message, [Status.PUBLISHED])
    if message.category_id is not None:
        return partial(QUERIES.list_published_in, category_id=message.category_id)
    return partial(QUERIES.list_published)


def _unpublished(message: ListContent) -> Callable[..., Any] | None:
    """Return the query for unpublished content that the caller may see: their own, or any for an editor; None if the
    list has none.
    """
    if message.status is Status.PUBLISHED or message.caller is None:
        return None
    author_id = message.author_id
    if not is_editor(message.caller):
        if author_id not in (None, message.caller.user_id):
            return None
        author_id = message.caller.user_id
    statuses = UNPUBLISHED if message.status is None else [message.status]
    if author_id is not None:
        return partial(
            QUERIES.list_unpublished_by,
            author_id=author_id,
            category_id=message.category_id,
            tag=message.tag,
            statuses=statuses,
        )
    if message.tag is not None:
        return _tagged(message, statuses)
    if message.category_id is not None:
        return partial(QUERIES.list_unpublished_in, category_id=message.category_id, statuses=statuses)
    return partial(QUERIES.list_unpublished, statuses=statuses)


def _tagged(message: ListContent, statuses: Sequence[Status]) -> Callable[..., Any]:
    """Return the query for the content of these states with a tag, by any author."""
    if message.category_id is None:
        return partial(QUERIES.list_tagged, tag=message.tag, statuses=statuses)
    return partial(QUERIES.list_tagged_in, tag=message.tag, category_id=message.category_id, statuses=statuses)
