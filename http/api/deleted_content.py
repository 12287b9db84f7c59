"""Deleted content over HTTP: for editors."""

from typing import Annotated

from callboard.actors.editorial.deleted_content import DeletedSummary, ListDeleted
from callboard.actors.editorial.errors import CONTENT_NOT_FOUND
from callboard.actors.editorial.refs import EditorialRefs
from callboard.actors.editorial.workflow import Content, UndeleteContent
from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.http.server.pagination import BY_TIME
from callboard.http.server.request import HttpRequest, Page, PageReply, Reply
from callboard.http.server.routing import Access, Route, Routes


class DeletedPage(Page, frozen=True, kw_only=True):
    """The page of the list of deleted content."""

    cursor: Annotated[str, BY_TIME.meta] | None = None


async def list_deleted(request: HttpRequest[None, DeletedPage, EditorialRefs]) -> PageReply[DeletedSummary]:
    """List deleted articles, the newest deletion first."""
    query = request.query
    before, before_id = BY_TIME.decode(query.cursor) if query.cursor else (None, None)
    found = await request.refs.deleted_content.ask(ListDeleted(query.limit + 1, before, before_id))
    return BY_TIME.page(found, query.limit, lambda last: (last.deleted_at, last.content_id))


async def undelete(request: HttpRequest[None, None, EditorialRefs]) -> Reply[Content]:
    """Take the deletion of an article back."""
    return Reply(await request.refs.content.ask(UndeleteContent(request.uuid("content_id"), request.identity)))


ROUTES = Routes(
    EditorialRefs,
    Route(
        "GET",
        "/content/deleted",
        list_deleted,
        summary="List deleted content",
        tag="content",
        access=Access.EDITOR,
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route(
        "POST",
        "/content/{content_id}/undelete",
        undelete,
        summary="Undelete content",
        tag="content",
        access=Access.EDITOR,
        errors=(CONTENT_NOT_FOUND,),
    ),
)
