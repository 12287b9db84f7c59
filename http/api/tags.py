"""The tags of published articles over HTTP. An article's own tags are a field of it."""

from typing import Annotated

from callboard.actors.editorial.refs import EditorialRefs
from callboard.actors.editorial.tags import ListTags, TagCount
from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.http.server.pagination import BY_NUMBER_AND_TEXT
from callboard.http.server.request import HttpRequest, Page, PageReply
from callboard.http.server.routing import Access, Route, Routes


class TagsQuery(Page, frozen=True, kw_only=True):
    """A page of tags."""

    cursor: Annotated[str, BY_NUMBER_AND_TEXT.meta] | None = None


async def list_tags(request: HttpRequest[None, TagsQuery, EditorialRefs]) -> PageReply[TagCount]:
    """List the tags of published articles with the number of these: the most frequent first, then alphabetically."""
    query = request.query
    after = BY_NUMBER_AND_TEXT.decode(query.cursor) if query.cursor else None
    found = await request.refs.tags.ask(ListTags(query.limit + 1, after))
    return BY_NUMBER_AND_TEXT.page(found, query.limit, lambda last: (last.published, last.tag), is_public=True)


ROUTES = Routes(
    EditorialRefs,
    Route(
        "GET",
        "/tags",
        list_tags,
        summary="List tags",
        tag="content",
        has_etag=True,
        access=Access.PUBLIC,
        errors=(REQUEST_CURSOR_INVALID,),
    ),
)
