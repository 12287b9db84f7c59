"""The search of published content, at a bounded cost."""

from uuid import UUID

import msgspec

from callboard.actors.editorial.html_sanitizer import sanitize_text
from callboard.actors.editorial.workflow_rules import Language
from callboard.actors.infrastructure.database import Database, retried
from callboard.runtime import Request
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

# These bound the cost of a search, however many articles match (tests/bench/test_lists.py).
RECENT = 500  # the newest articles, which are read without an index;
ENOUGH = 50  # if this many of them match, no others are searched;
MATCHES = 5_000  # otherwise so many matches of the index,
CANDIDATES = 500  # and the newest of all of these are ranked
MAX_QUESTION = 200  # characters
MAX_WORDS = 16  # searched words


class SearchResult(msgspec.Struct, frozen=True):
    """A published article that matches a search. In `snippet`, <mark> encloses the matches; there is no other
    markup.
    """

    content_id: UUID
    author_id: UUID
    category_id: UUID | None
    title: str
    language: Language
    published_at: UtcDatetime
    rank: float
    snippet: str


class SearchContent(Request[list[SearchResult]], frozen=True):
    """Search published articles in web search syntax, best match first, after (`rank`, `before_id`).

    The newest `CANDIDATES` matches are ranked; for common words, the matches among the newest articles. A query of
    exclusions alone finds nothing.
    """

    q: str
    limit: int
    category_id: UUID | None = None
    rank: float | None = None
    before_id: UUID | None = None


@retried
async def search_content(database: Database, message: SearchContent) -> list[SearchResult]:
    """Search. Authors' markup is removed from the snippets: only the marks remain."""
    async with database.transaction() as connection:
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


def bounded(q: str) -> str:
    """Return the beginning of a query without repeated words: ranking takes time for each word."""
    words = q[:MAX_QUESTION].split()
    return " ".join((words if '"' in q else list(dict.fromkeys(words)))[:MAX_WORDS])
