"""The search of published content, at a bounded cost, in the search's own pool of connections.

The articles that have the words of a query come first; if they are few, then those that have its last word only
begun, and then those with words that are spelt alike.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.editorial.content_queries import QUERIES as LISTS
from callboard.actors.editorial.content_queries import CategoryLabel
from callboard.actors.editorial.errors import SEARCH_FACETS_OFF
from callboard.actors.editorial.search_question import MAX_QUESTION, Question, is_similar, parse
from callboard.actors.editorial.search_snippets import BEGINNING, marked, snippet, text_to_highlight, title_to_highlight
from callboard.actors.editorial.workflow_rules import Language
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.feature_flags import FlagName, FlagSnapshot
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)
PLANNING: str = QUERIES.plan_search.sql

# These bound the cost of a search, however many articles match (tests/bench/content).
RECENT = 300  # the newest articles, which are read without an index;
ENOUGH = 30  # if this many of them match, no others are searched;
LATEST = 20_000  # the newest articles, for the months of some of which the index is asked,
MAX_MONTHS = 24  # if these are so few
EXAMINED = 5_000  # matches that are read by the index
CANDIDATES = 300  # the newest of all of these are ranked
BEGINNINGS = 2_000  # words that begin as the last one does, of which
COMPLETIONS = 50  # the shortest are searched
MIN_BEGINNING = 2  # letters
ALIKE = 50  # words with the most trigrams of one that is asked for
SIMILAR = 10  # words that each of these may stand for
FACET_VALUES = 20  # of one facet, those with the most articles


class SearchResult(msgspec.Struct, frozen=True):
    """A published article that matches a search.

    `title_html` is its title, and `snippet` a part of its text: both are safe as HTML, <mark> encloses the matches, and
    there is no other markup. `rank` is above 2 if all words were found as they are, from 1 to 2 if the last one is
    the beginning of a word, and below 1 if words are spelt alike.
    """

    content_id: UUID
    author_id: UUID
    author_name: str
    category_id: UUID | None
    category: CategoryLabel | None
    title: str
    title_html: str
    language: Language
    tags: tuple[str, ...]
    comment_count: int
    published_at: UtcDatetime
    rank: float
    snippet: str


class FacetValue(msgspec.Struct, frozen=True):
    """A value of a filter (the slug of a category, the id of an author, a tag, a language), its name, and the number of
    matches.
    """

    value: str
    name: str
    count: int


class SearchFacets(msgspec.Struct, frozen=True):
    """The values of the filters among the matches of a search, at most 20 of each filter. `counted` matches were
    counted; if there are more than 300, only the newest.
    """

    counted: int
    categories: list[FacetValue] = []
    authors: list[FacetValue] = []
    tags: list[FacetValue] = []
    languages: list[FacetValue] = []


class SearchContent(Request[list[SearchResult]], frozen=True):
    """Search published articles in web search syntax, best match first, after (`rank`, `before_id`).

    The newest `CANDIDATES` matches are ranked; of common words, those among the newest `RECENT` articles. A query of
    exclusions alone finds nothing. Articles published at `since` or later and before `until` are searched. `user_id` is
    the caller, if known: flags may differ by user.
    """

    q: str
    limit: int
    category_id: UUID | None = None
    rank: float | None = None
    before_id: UUID | None = None
    category_slug: str | None = None
    author_id: UUID | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    user_id: UUID | None = None


class CountFacets(Request[SearchFacets], frozen=True):
    """Count the values of the filters among the matches of a search. Raises Problem(SEARCH_FACETS_OFF)."""

    q: str
    category_id: UUID | None = None
    category_slug: str | None = None
    author_id: UUID | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    user_id: UUID | None = None


class ContentSearch(Actor[SearchContent | CountFacets]):
    """Searches. The workers of the pool share no state and take turns."""

    def __init__(self, database: Database, flags: FlagSnapshot) -> None:
        self.database = database
        self.flags = flags

    def is_advanced(self, user_id: UUID | None) -> bool:
        """Whether typing errors are tolerated and facets are counted."""
        return self.flags.is_enabled(FlagName.ADVANCED_SEARCH, user_id)

    @on(SearchContent)
    @retried
    async def search(self, message: SearchContent) -> list[SearchResult]:
        """All matches are ranked for each page, so that its place among them is the same as before."""
        async with self.database.transaction(PLANNING) as connection:
            search = Search(connection, parse(message.q), message)
            ranks = await search.ranks(tolerant=self.is_advanced(message.user_id))
            found = sorted(((rank, content_id) for content_id, rank in ranks.items()), reverse=True)
            if message.rank is not None:
                found = [each for each in found if each < (message.rank, message.before_id)]
            return await search.results(found[: message.limit])

    @on(CountFacets)
    @retried
    async def count_facets(self, message: CountFacets) -> SearchFacets:
        """Count them among the candidates of a search."""
        if not self.is_advanced(message.user_id):
            raise Problem(SEARCH_FACETS_OFF)
        async with self.database.transaction(PLANNING) as connection:
            ranks = await Search(connection, parse(message.q), message).ranks(tolerant=True)
            rows = [row async for row in QUERIES.facets(connection, content_ids=list(ranks))]
        facets = {
            name: [FacetValue(row["value"], row["name"], row["count"]) for row in values][:FACET_VALUES]
            for name, values in groupby(rows, key=lambda row: str(row["facet"]))
        }
        return SearchFacets(len(ranks), **facets)


class Search:
    """One search, in its transaction."""

    def __init__(self, connection: Any, question: Question, message: SearchContent | CountFacets) -> None:
        self.connection = connection
        self.question = question
        self.message = message
        self.category_id = message.category_id
        self.wider: dict[str, set[str]] = {}  # the lexemes for which a word of the query stands, beside its own

    async def ranks(self, *, tolerant: bool) -> dict[UUID, float]:
        """Return the matches with their ranks."""
        if self.message.since is not None or self.message.until is not None:
            await QUERIES.plan_within_times(self.connection)
        slug = self.message.category_slug
        if slug is not None:
            self.category_id = await LISTS.category_of_slug(self.connection, slug=slug)
            if self.category_id is None:
                return {}
        ranks = await self._matches(2)
        if len(ranks) < ENOUGH and await self._complete():
            ranks = await self._matches(1) | ranks
        if len(ranks) < ENOUGH and tolerant and await self._correct():
            ranks = await self._matches(0) | ranks
        return ranks

    async def results(self, found: Sequence[tuple[float, UUID]]) -> list[SearchResult]:
        """Return the results of a page, in this order. An article that has gone meanwhile is left out."""
        ids = [content_id for _, content_id in found]
        page = QUERIES.content_of_page(self.connection, content_ids=ids, beginning=BEGINNING)
        rows = {row["content_id"]: dict(row) async for row in page}
        ranked = [(rank, rows[content_id]) for rank, content_id in found if content_id in rows]
        highlighted = QUERIES.highlighted(
            self.connection,
            languages=[row["language"] for _, row in ranked],
            titles=[title_to_highlight(row["title"]) for _, row in ranked],
            texts=[text_to_highlight(row.pop("body")) for _, row in ranked],
            **self._query(),
        )
        shown = [(row["title"], row["text"]) async for row in highlighted]
        return [
            _result(row, rank, title, text, self.question.runs)
            for (rank, row), (title, text) in zip(ranked, shown, strict=True)
        ]

    def _query(self) -> dict[str, Any]:
        pairs = [(word, lexeme) for word, lexemes in self.wider.items() for lexeme in sorted(lexemes)]
        return {"q": self.question.text, "words": [word for word, _ in pairs], "lexemes": [each for _, each in pairs]}

    async def _matches(self, least: int) -> dict[UUID, float]:
        """Return the matches of the words as they are now; ranks of other words are below those of `least`."""
        row = await QUERIES.matching_content(
            self.connection,
            **self._query(),
            runs=list(self.question.runs),
            author_id=self.message.author_id,
            category_id=self.category_id,
            tag=self.message.tag,
            since=self.message.since,
            until=self.message.until,
            months=months_of(self.message.since, self.message.until),
            recent=RECENT,
            enough=ENOUGH,
            latest=LATEST,
            max_months=MAX_MONTHS,
            examined=EXAMINED,
            candidates=CANDIDATES,
        )
        return {id_: least + rank for id_, rank in zip(row["content_ids"] or (), row["ranks"] or (), strict=True)}

    async def _complete(self) -> bool:
        """Let the last word stand for the words that begin with it; False if there are none."""
        word = self.question.unfinished
        if word is None or len(word) < MIN_BEGINNING:
            return False
        rows = QUERIES.completions(self.connection, word=word, read=BEGINNINGS, most=COMPLETIONS)
        self.wider[word] = {row["lexeme"] async for row in rows}
        return bool(self.wider[word])

    async def _correct(self) -> bool:
        """Let each word stand for the words that are spelt alike; False if there are none."""
        similar: dict[str, list[str]] = {}
        async for row in QUERIES.similar_words(self.connection, words=list(self.question.words), most=ALIKE):
            if is_similar(row["word"], row["similar"]):
                similar.setdefault(row["asked"], []).append(row["lexeme"])
        for word, lexemes in similar.items():
            self.wider[word] = self.wider.get(word, set()) | set(lexemes[:SIMILAR])
        return bool(similar)


def months_of(since: datetime | None, until: datetime | None) -> list[int] | None:
    """Return the months between two times, as PostgreSQL counts them for the index; None if they are many."""
    if since is None:
        return None
    first, last = (each.astimezone(UTC) for each in (since, until or datetime.now(UTC) + timedelta(days=1)))
    is_exact = (last.day, last.time()) == (1, time())  # the end is no part of the times
    months = range(first.year * 12 + first.month, last.year * 12 + last.month + (0 if is_exact else 1))
    return list(months) if len(months) <= MAX_MONTHS else None


def _result(row: dict[str, Any], rank: float, title: str, text: str, runs: Sequence[str]) -> SearchResult:
    slug, name = row["category_slug"], row["category_name"]
    more = {
        "category": None if slug is None else CategoryLabel(slug, name),
        "rank": rank,
        "title_html": marked(title, runs),
        "snippet": snippet(text, runs),
    }
    return msgspec.convert(row | more, SearchResult)


__all__ = ["MAX_QUESTION", "ContentSearch", "CountFacets", "SearchContent", "SearchFacets", "SearchResult"]
