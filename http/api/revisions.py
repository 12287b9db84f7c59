"""The revisions of an article over HTTP."""

from typing import Annotated, Any

from msgspec import Meta

from callboard.actors.editorial.errors import (
    CONTENT_FORBIDDEN,
    CONTENT_NOT_FOUND,
    CONTENT_PUBLISHED,
    CONTENT_REVISION_NOT_FOUND,
    CONTENT_STALE,
)
from callboard.actors.editorial.refs import EditorialRefs
from callboard.actors.editorial.revisions import (
    DiffRevisions,
    ListRevisions,
    ReadRevision,
    Revision,
    RevisionDiff,
    RevisionSummary,
)
from callboard.actors.editorial.workflow import Content, RestoreRevision
from callboard.actors.errors import REQUEST_CURSOR_INVALID, Problem
from callboard.actors.infrastructure.errors import QUOTA_CONTENT
from callboard.http.api.content import content_reply, current_for_transition, version_of
from callboard.http.server.pagination import BY_NUMBER
from callboard.http.server.request import HttpRequest, Page, PageReply, Query, Reply
from callboard.http.server.routing import Access, Route, Routes

MAX_DIGITS = 9

Number = Annotated[int, Meta(ge=1, le=10**MAX_DIGITS - 1, examples=[1])]


class RevisionPage(Page, frozen=True, kw_only=True):
    """The page of an article's revisions."""

    cursor: Annotated[str, BY_NUMBER.meta] | None = None


class Pair(Query, frozen=True, kw_only=True):
    """Two revisions of an article."""

    old: Number
    new: Number


def _number(request: HttpRequest[Any, Any, EditorialRefs]) -> int:
    text = request.text("revision")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise Problem(CONTENT_REVISION_NOT_FOUND)
    return int(text)


async def list_revisions(request: HttpRequest[None, RevisionPage, EditorialRefs]) -> PageReply[RevisionSummary]:
    """List the revisions of an article, newest first."""
    query = request.query
    (before,) = BY_NUMBER.decode(query.cursor) if query.cursor else (None,)
    found = await request.refs.revisions.ask(
        ListRevisions(request.uuid("content_id"), request.identity, query.limit + 1, before)
    )
    return BY_NUMBER.page(found, query.limit, lambda last: (last.revision,))


async def read(request: HttpRequest[None, None, EditorialRefs]) -> Reply[Revision]:
    """Read a revision of an article."""
    return Reply(
        await request.refs.revisions.ask(ReadRevision(request.uuid("content_id"), _number(request), request.identity))
    )


async def diff(request: HttpRequest[None, Pair, EditorialRefs]) -> Reply[RevisionDiff]:
    """Compare two revisions of an article."""
    pair = request.query
    return Reply(
        await request.refs.revisions.ask(
            DiffRevisions(request.uuid("content_id"), pair.old, pair.new, request.identity)
        )
    )


async def restore(request: HttpRequest[None, None, EditorialRefs]) -> Reply[Content]:
    """Edit an article to the text of a revision."""
    message = RestoreRevision(request.uuid("content_id"), _number(request), version_of(request), request.identity)
    return content_reply(await request.refs.content.ask(message))


ROUTES = Routes(
    EditorialRefs,
    Route(
        "GET",
        "/content/{content_id}/revisions",
        list_revisions,
        summary="List the revisions of content",
        tag="content",
        access=Access.USER,
        errors=(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN, REQUEST_CURSOR_INVALID),
    ),
    Route(
        "GET",
        "/content/{content_id}/revisions/{revision}",
        read,
        summary="Read a revision of content",
        tag="content",
        access=Access.USER,
        errors=(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN, CONTENT_REVISION_NOT_FOUND),
    ),
    Route(
        "GET",
        "/content/{content_id}/diff",
        diff,
        summary="Compare two revisions of content",
        tag="content",
        access=Access.USER,
        errors=(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN, CONTENT_REVISION_NOT_FOUND),
    ),
    Route(
        "POST",
        "/content/{content_id}/revisions/{revision}/restore",
        restore,
        summary="Restore a revision of content",
        tag="content",
        has_etag=True,
        access=Access.USER,
        errors=(
            CONTENT_NOT_FOUND,
            CONTENT_FORBIDDEN,
            CONTENT_REVISION_NOT_FOUND,
            CONTENT_PUBLISHED,
            CONTENT_STALE,
            QUOTA_CONTENT,
        ),
        current=current_for_transition,
    ),
)
