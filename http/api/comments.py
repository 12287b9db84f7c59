"""Comments over HTTP: threads, edits and deletions."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from callboard.actors.editorial.comment_queries import ListComments, ListedComment, ListReplies, ReadComment
from callboard.actors.editorial.comment_rules import Comment, check_author
from callboard.actors.editorial.comments import MAX_BODY, CreateComment, DeleteComment, EditComment
from callboard.actors.editorial.content_queries import LAST_ID, LATEST
from callboard.actors.editorial.errors import (
    COMMENT_CONTENT_UNPUBLISHED,
    COMMENT_EDIT_CLOSED,
    COMMENT_FORBIDDEN,
    COMMENT_IF_MATCH_MISSING,
    COMMENT_NOT_FOUND,
    COMMENT_PARENT_UNKNOWN,
    COMMENT_QUOTA,
    COMMENT_STALE,
    COMMENT_TOO_DEEP,
    CONTENT_NOT_FOUND,
)
from callboard.actors.editorial.refs import COMMENTS, EditorialRefs
from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.actors.infrastructure.errors import QUOTA_RATE
from callboard.actors.infrastructure.principals import Principal
from callboard.http.server.pagination import BY_TIME, FIRST
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.streams.visible_text import visible

FIRST_ID = UUID(int=0)
Text = Annotated[str, visible(1, MAX_BODY, lines=True, as_sent=True, examples=("Well said.",))]


class CommentBody(Body, frozen=True, kw_only=True):
    """The text of a comment. Markup is kept as sent, and made safe in `body_html`."""

    body: Text


class NewCommentBody(CommentBody, frozen=True, kw_only=True):
    """A new comment, on the content or on the comment `parent_id`."""

    parent_id: UUID | None = None


class Order(StrEnum):
    """The order of comments, by their time."""

    OLDEST = "oldest"
    NEWEST = "newest"


class TimeQuery(Page, frozen=True, kw_only=True):
    """The page of a list in the order of time, oldest first."""

    cursor: Annotated[str, BY_TIME.meta] | None = None

    @property
    def position(self) -> tuple[datetime, UUID]:
        """Return the position of the last comment of the page before."""
        return BY_TIME.decode(self.cursor) if self.cursor else (FIRST, FIRST_ID)


class CommentsQuery(TimeQuery, frozen=True, kw_only=True):
    """The page and the order of the comments of an article."""

    order: Order = Order.OLDEST

    @property
    def position(self) -> tuple[datetime, UUID]:
        """Return the position of the last comment of the page before."""
        is_first = self.order is Order.NEWEST and not self.cursor
        return (LATEST, LAST_ID) if is_first else super().position


def comment_reply(comment: Comment, location: str | None = None) -> Reply[Comment]:
    """Return a comment with its ETag."""
    return Reply(comment, etag=str(comment.version), location=location)


def _page(found: list[ListedComment], limit: int, caller: Principal | None) -> PageReply[ListedComment]:
    return BY_TIME.page(found, limit, lambda last: (last.created_at, last.comment_id), is_public=caller is None)


def version_of(request: HttpRequest[Any, Any, EditorialRefs]) -> int | None:
    """Return the version that satisfied the request's precondition; None if the request has none."""
    return None if request.tag is None else int(request.tag)


async def create(request: HttpRequest[NewCommentBody, None, EditorialRefs]) -> Reply[Comment]:
    """Comment on published content, or answer a comment on it."""
    body = request.body
    message = CreateComment(request.new_id, request.uuid("content_id"), body.parent_id, body.body, request.identity)
    comment = await request.refs.comments.ask(message)
    return comment_reply(comment, f"/api/v1/comments/{comment.comment_id}")


async def list_comments(request: HttpRequest[None, CommentsQuery, EditorialRefs]) -> PageReply[ListedComment]:
    """List the comments of content that answer no other. A comment without its text has replies."""
    query = request.query
    newest_first = query.order is Order.NEWEST
    found = await request.refs.comment_queries.ask(
        ListComments(request.uuid("content_id"), request.caller, query.limit + 1, *query.position, newest_first)
    )
    return _page(found, query.limit, request.caller)


async def list_replies(request: HttpRequest[None, TimeQuery, EditorialRefs]) -> PageReply[ListedComment]:
    """List the direct replies of a comment, oldest first."""
    query = request.query
    found = await request.refs.comment_queries.ask(
        ListReplies(request.uuid("comment_id"), request.caller, query.limit + 1, *query.position)
    )
    return _page(found, query.limit, request.caller)


async def read(request: HttpRequest[None, None, EditorialRefs]) -> Reply[Comment]:
    """Read a comment."""
    return comment_reply(
        await request.refs.comment_queries.ask(ReadComment(request.uuid("comment_id"), request.caller))
    )


async def current(request: HttpRequest[Any, Any, EditorialRefs]) -> str:
    """Return the ETag of a comment before a change."""
    comment = await request.refs.comment_queries.ask(ReadComment(request.uuid("comment_id"), request.caller))
    return str(comment.version)


async def current_for_change(request: HttpRequest[Any, Any, EditorialRefs]) -> str:
    """Return the ETag of a comment before an edit or a deletion. Raises Problem(COMMENT_FORBIDDEN)."""
    comment = await request.refs.comment_queries.ask(ReadComment(request.uuid("comment_id"), request.caller))
    check_author(request.identity, comment.author_id)
    return str(comment.version)


async def edit(request: HttpRequest[CommentBody, None, EditorialRefs]) -> Reply[Comment]:
    """Replace a comment's text if its version is still the one in If-Match. Its author may for some minutes."""
    message = EditComment(request.uuid("comment_id"), request.body.body, version_of(request), request.identity)
    return comment_reply(await request.refs.comments.ask(message))


async def delete(request: HttpRequest[None, None, EditorialRefs]) -> Reply[None]:
    """Delete a comment. Without its text it stays in its thread as long as it has replies."""
    await request.refs.comments.ask(DeleteComment(request.uuid("comment_id"), request.identity, version_of(request)))
    return Reply(None)


ROUTES = Routes(
    EditorialRefs,
    Route(
        "GET",
        "/content/{content_id}/comments",
        list_comments,
        summary="List the comments of content",
        tag="comments",
        has_etag=True,
        access=Access.OPTIONAL,
        errors=(CONTENT_NOT_FOUND, REQUEST_CURSOR_INVALID),
    ),
    Route(
        "POST",
        "/content/{content_id}/comments",
        create,
        summary="Comment on published content",
        tag="comments",
        has_etag=True,
        access=Access.USER,
        status=201,
        caller_limit=COMMENTS,
        errors=(
            CONTENT_NOT_FOUND,
            COMMENT_CONTENT_UNPUBLISHED,
            COMMENT_PARENT_UNKNOWN,
            COMMENT_TOO_DEEP,
            COMMENT_QUOTA,
            QUOTA_RATE,
        ),
    ),
    Route(
        "GET",
        "/comments/{comment_id}",
        read,
        summary="Read a comment",
        tag="comments",
        has_etag=True,
        access=Access.OPTIONAL,
        errors=(COMMENT_NOT_FOUND,),
    ),
    Route(
        "PUT",
        "/comments/{comment_id}",
        edit,
        summary="Edit a comment",
        tag="comments",
        has_etag=True,
        access=Access.USER,
        errors=(
            COMMENT_NOT_FOUND,
            COMMENT_FORBIDDEN,
            COMMENT_EDIT_CLOSED,
            COMMENT_STALE,
            COMMENT_IF_MATCH_MISSING,
        ),
        current=current_for_change,
    ),
    Route(
        "DELETE",
        "/comments/{comment_id}",
        delete,
        summary="Delete a comment",
        tag="comments",
        access=Access.USER,
        status=204,
        errors=(COMMENT_NOT_FOUND, COMMENT_FORBIDDEN, COMMENT_STALE),
        current=current_for_change,
    ),
    Route(
        "GET",
        "/comments/{comment_id}/replies",
        list_replies,
        summary="List the replies of a comment",
        tag="comments",
        has_etag=True,
        access=Access.OPTIONAL,
        errors=(COMMENT_NOT_FOUND, REQUEST_CURSOR_INVALID),
    ),
)
