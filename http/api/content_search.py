"""The search of published content over HTTP."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta

from callboard.actors.editorial.category_rules import CategoryKey, id_in
from callboard.actors.editorial.content_search import (
    MAX_QUESTION,
    CountFacets,
    SearchContent,
    SearchFacets,
    SearchResult,
)
from callboard.actors.editorial.errors import SEARCH_FACETS_OFF
from callboard.actors.editorial.refs import SEARCH, EditorialRefs
from callboard.actors.editorial.tags import Tag
from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.actors.infrastructure.principals import Principal
from callboard.http.server.pagination import BY_RANK
from callboard.http.server.request import HttpRequest, Page, PageReply, Query, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.http.server.validation import check_period
from callboard.streams.event_types import UtcDatetime

Words = Annotated[str, Meta(min_length=1, max_length=MAX_QUESTION)]
RENAMED = {"since": "from", "until": "to"}


class SearchQuery(Page, frozen=True, kw_only=True, rename=RENAMED):
    """A search query (words, "phrases", -exclusions, or), and its filters: a category by its id or slug, an author, a
    tag, and the times of publication from `from` to before `to`.
    """

    cursor: Annotated[str, BY_RANK.meta] | None = None
    q: Words
    category: CategoryKey | None = None
    author: UUID | None = None
    tag: Tag | None = None
    since: UtcDatetime | None = None
    until: UtcDatetime | None = None


class FacetsQuery(Query, frozen=True, kw_only=True, rename=RENAMED):
    """The same without a page."""

    q: Words
    category: CategoryKey | None = None
    author: UUID | None = None
    tag: Tag | None = None
    since: UtcDatetime | None = None
    until: UtcDatetime | None = None


def _filters(query: SearchQuery | FacetsQuery, caller: Principal | None) -> dict[str, Any]:
    check_period(query.since, query.until)
    category_id = None if query.category is None else id_in(query.category)
    return {
        "category_id": category_id,
        "category_slug": None if category_id else query.category,
        "author_id": query.author,
        "tag": query.tag,
        "since": query.since,
        "until": query.until,
        "user_id": caller.user_id if caller else None,
    }


async def search(request: HttpRequest[None, SearchQuery, EditorialRefs]) -> PageReply[SearchResult]:
    """Search published articles, best match first. Titles and snippets are safe as HTML, with <mark> around matches.

    The newest 300 matches are ranked. If 30 of the newest 300 articles match, only these articles are searched.
    """
    query = request.query
    rank, before_id = BY_RANK.decode(query.cursor) if query.cursor else (None, None)
    filters = _filters(query, request.caller)
    message = SearchContent(query.q, query.limit + 1, rank=rank, before_id=before_id, **filters)
    found = await request.refs.content_search.ask(message)
    is_public = request.caller is None  # a flag of the caller's may change what is found
    return BY_RANK.page(found, query.limit, lambda last: (last.rank, last.content_id), is_public=is_public)


async def count_facets(request: HttpRequest[None, FacetsQuery, EditorialRefs]) -> Reply[SearchFacets]:
    """Count the matches of a search by category, author, tag and language."""
    message = CountFacets(request.query.q, **_filters(request.query, request.caller))
    return Reply(await request.refs.content_search.ask(message))


ROUTES = Routes(
    EditorialRefs,
    Route(
        "GET",
        "/content/search",
        search,
        summary="Search published content",
        tag="content",
        has_etag=True,
        access=Access.OPTIONAL,
        limit=SEARCH,
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route(
        "GET",
        "/content/search/facets",
        count_facets,
        summary="Count the matches of a search",
        tag="content",
        access=Access.OPTIONAL,
        limit=SEARCH,
        errors=(SEARCH_FACETS_OFF,),
    ),
)
