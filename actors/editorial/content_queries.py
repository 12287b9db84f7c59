"""The library: reading content. Readers share nothing, so the workers of its pool take turns."""

import heapq
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.editorial.html_sanitizer import sanitize_text
from callboard.actors.editorial.workflow import QUERIES as WORKFLOW
from callboard.actors.editorial.workflow import Content, as_content
from callboard.actors.editorial.workflow_rules import Language, Status, is_editor, may_see
from callboard.actors.errors import CONTENT_FORBIDDEN, CONTENT_NOT_FOUND, Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.principals import Principal
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

UNPUBLISHED = [status for status in Status if status is not Status.PUBLISHED]
LATEST = datetime(9999, 12, 31, tzinfo=UTC)  # before these a list begins
LAST_ID = UUID(int=2**128 - 1)

# A search costs what these say, however many articles match (tests/bench/search.py).
RECENT = 500  # the newest articles are looked at without an index,
ENOUGH = 50  # and if so many of them match, no others;
MATCHES = 5_000  # otherwise so many that the index gives,
CANDIDATES = 500  # and the newest of all these are ranked
MAX_QUESTION = 200  # characters
MAX_WORDS = 16  # that are looked for


class ContentSummary(msgspec.Struct, frozen=True):
    """An article in a list, without its text."""

    content_id: UUID
    author_id: UUID
    category_id: UUID | None
    title: str
    language: Language
    status: Status
    version: int
    published_at: UtcDatetime | None
    created_at: UtcDatetime
    updated_at: UtcDatetime

    @property
    def position(self) -> tuple[datetime, UUID]:
        """Its place in lists: published content stands by its publication, all other by its creation."""
        published = self.published_at if self.status is Status.PUBLISHED else None
        return published or self.created_at, self.content_id


class SearchResult(msgspec.Struct, frozen=True):
    """A published article that matches a search; in `snippet` the matches stand in <mark>, which is the only markup."""

    content_id: UUID
    author_id: UUID
    category_id: UUID | None
    title: str
    language: Language
    published_at: UtcDatetime
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
    created_at: UtcDatetime


class ReadContent(Request[Content], frozen=True):
    """One article, if `who` may see it. Raises Problem(CONTENT_NOT_FOUND)."""

    content_id: UUID
    who: Principal | None


class ListContent(Request[list[ContentSummary]], frozen=True):
    """Articles that `who` may see, newest first, from before the `position` (`before`, `before_id`) on."""

    who: Principal | None
    limit: int
    status: Status | None = None
    author_id: UUID | None = None
    category_id: UUID | None = None
    before: datetime | None = None
    before_id: UUID | None = None


class SearchContent(Request[list[SearchResult]], frozen=True):
    """Published articles that match, best first, from below (`rank`, `before_id`) on; web search syntax.

    The newest `CANDIDATES` matches are ranked; of words that many of the newest articles have, the matches among these.
    A question that only excludes words finds nothing.
    """

    q: str
    limit: int
    category_id: UUID | None = None
    rank: float | None = None
    before_id: UUID | None = None


class ListTransitions(Request[list[Transition]], frozen=True):
    """An article's history, oldest first, for its author and editors. Raises Problem(NOT_FOUND, FORBIDDEN)."""

    content_id: UUID
    who: Principal
    limit: int
    after: int = 0


class ContentQueries(Actor[ReadContent | ListContent | SearchContent | ListTransitions]):
    """Reads. Searches have a pool of connections of their own: they cost more than all other reads."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.search_database = database.pool("search")

    @on(ReadContent)
    async def read(self, message: ReadContent) -> Content:
        """Content that they may not see is not there."""
        async with self.database.acquire() as connection:
            row = await WORKFLOW.content_by_id(connection, content_id=message.content_id)
        if row is None or not may_see(message.who, row["author_id"], Status(row["status"])):
            raise Problem(CONTENT_NOT_FOUND)
        return as_content(row)

    @on(ListContent)
    async def entries(self, message: ListContent) -> list[ContentSummary]:
        """Merge published and unpublished content; each comes in the order of its own index."""
        queries = [query for query in (_published(message), _unpublished(message)) if query is not None]
        before, before_id = message.before or LATEST, message.before_id or LAST_ID
        lists: list[list[ContentSummary]] = []
        async with self.database.acquire() as connection:
            for query in queries:
                rows = query(connection, before=before, before_id=before_id, limit=message.limit)
                lists.append([msgspec.convert(dict(row), ContentSummary) async for row in rows])
        merged = heapq.merge(*lists, key=lambda entry: entry.position, reverse=True)
        return list(islice(merged, message.limit))

    @on(SearchContent)
    @retried
    async def search(self, message: SearchContent) -> list[SearchResult]:
        """The stored text may hold markup of its author's: of it nothing is left in the snippet but the marks."""
        async with self.search_database.transaction() as connection:
            await QUERIES.plan_search(connection)
            rows = QUERIES.search_content(
                connection,
                q=bounded(message.q),
                languages=list(Language),
                category_id=message.category_id,
                recent=RECENT,
                enough=ENOUGH,
                matches=MATCHES,
                candidates=CANDIDATES,
                rank=message.rank,
                before_id=message.before_id,
                limit=message.limit,
            )
            hits = [dict(row) async for row in rows]
        return [msgspec.convert({**hit, "snippet": sanitize_text(hit["snippet"])}, SearchResult) for hit in hits]

    @on(ListTransitions)
    async def transitions(self, message: ListTransitions) -> list[Transition]:
        """Notes are between author and editors."""
        async with self.database.acquire() as connection:
            content = await WORKFLOW.content_by_id(connection, content_id=message.content_id)
            if content is None or not may_see(message.who, content["author_id"], Status(content["status"])):
                raise Problem(CONTENT_NOT_FOUND)
            if not (is_editor(message.who) or message.who.user_id == content["author_id"]):
                raise Problem(CONTENT_FORBIDDEN)
            rows = QUERIES.transitions_of(
                connection, content_id=message.content_id, after=message.after, limit=message.limit
            )
            return [msgspec.convert(dict(row), Transition) async for row in rows]


def bounded(q: str) -> str:
    """The beginning of a question: ranking takes time for each of its words, so none counts twice."""
    words = q[:MAX_QUESTION].split()
    return " ".join((words if '"' in q else list(dict.fromkeys(words)))[:MAX_WORDS])


def _published(message: ListContent) -> Callable[..., Any] | None:
    """The query for the published content that is asked for, or None if none is."""
    if message.status not in (None, Status.PUBLISHED):
        return None
    if message.author_id is not None:
        return partial(QUERIES.list_published_by, author_id=message.author_id, category_id=message.category_id)
    if message.category_id is not None:
        return partial(QUERIES.list_published_in, category_id=message.category_id)
    return partial(QUERIES.list_published)


def _unpublished(message: ListContent) -> Callable[..., Any] | None:
    """The query for all other content that is asked for, if they may see any: their own, or as an editor all."""
    if message.status is Status.PUBLISHED or message.who is None:
        return None
    author_id = message.author_id
    if not is_editor(message.who):
        if author_id not in (None, message.who.user_id):
            return None
        author_id = message.who.user_id
    statuses = UNPUBLISHED if message.status is None else [message.status]
    if author_id is not None:
        return partial(
            QUERIES.list_unpublished_by, author_id=author_id, category_id=message.category_id, statuses=statuses
        )
    if message.category_id is not None:
        return partial(QUERIES.list_unpublished_in, category_id=message.category_id, statuses=statuses)
    return partial(QUERIES.list_unpublished, statuses=statuses)
