"""Moderation of comments over HTTP: reports by members, decisions of editors, and the lists of both."""

from typing import Annotated

from callboard.actors.editorial.comment_moderation import (
    Decision,
    ListDecisions,
    ListReported,
    ListReports,
    ModerateComment,
    Moderation,
    Report,
    ReportComment,
    ReportedComment,
    ReportReason,
)
from callboard.actors.editorial.comment_rules import Comment
from callboard.actors.editorial.errors import (
    COMMENT_ILLEGAL_MODERATION,
    COMMENT_NOT_FOUND,
    COMMENT_OWN_REPORT,
    COMMENT_STALE,
)
from callboard.actors.editorial.refs import COMMENTS, EditorialRefs
from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.actors.infrastructure.errors import QUOTA_RATE
from callboard.http.api.comments import TimeQuery, comment_reply, current, version_of
from callboard.http.server.pagination import BY_NUMBER, BY_TIME
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.streams.visible_text import visible

Reason = Annotated[str, visible(1, 500, lines=True)]


class ModerationBody(Body, frozen=True, kw_only=True):
    """A decision about a comment, and its reason for other editors."""

    action: Moderation
    reason: Reason | None = None


class ReportBody(Body, frozen=True, kw_only=True):
    """A report to the editors."""

    reason: ReportReason
    note: Reason | None = None


class HistoryQuery(Page, frozen=True, kw_only=True):
    """The page of the reports or decisions about a comment."""

    cursor: Annotated[str, BY_NUMBER.meta] | None = None

    @property
    def after(self) -> int:
        """Return the number of the last row of the page before."""
        return BY_NUMBER.decode(self.cursor)[0] if self.cursor else 0


async def moderate(request: HttpRequest[ModerationBody, None, EditorialRefs]) -> Reply[Comment]:
    """Hide a comment from readers, or show it; both close its reports."""
    body = request.body
    message = ModerateComment(
        request.uuid("comment_id"), body.action, body.reason, request.identity, version_of(request)
    )
    return comment_reply(await request.refs.comment_moderation.ask(message))


async def list_decisions(request: HttpRequest[None, HistoryQuery, EditorialRefs]) -> PageReply[Decision]:
    """List the decisions of editors about a comment, oldest first."""
    query = request.query
    found = await request.refs.comment_moderation.ask(
        ListDecisions(request.uuid("comment_id"), query.limit + 1, query.after)
    )
    return BY_NUMBER.page(found, query.limit, lambda last: (last.moderation_id,))


async def report(request: HttpRequest[ReportBody, None, EditorialRefs]) -> Reply[Report]:
    """Report a comment to the editors; again, it is the same report."""
    body = request.body
    message = ReportComment(request.uuid("comment_id"), body.reason, body.note, request.identity)
    return Reply(await request.refs.comment_moderation.ask(message))


async def list_reports(request: HttpRequest[None, HistoryQuery, EditorialRefs]) -> PageReply[Report]:
    """List the reports of a comment, oldest first."""
    query = request.query
    found = await request.refs.comment_moderation.ask(
        ListReports(request.uuid("comment_id"), query.limit + 1, query.after)
    )
    return BY_NUMBER.page(found, query.limit, lambda last: (last.report_id,))


async def list_reported(request: HttpRequest[None, TimeQuery, EditorialRefs]) -> PageReply[ReportedComment]:
    """List the comments with open reports, the longest waiting first."""
    query = request.query
    found = await request.refs.comment_moderation.ask(ListReported(request.identity, query.limit + 1, *query.position))
    return BY_TIME.page(found, query.limit, lambda last: (last.reported_at, last.comment.comment_id))


ROUTES = Routes(
    EditorialRefs,
    Route(
        "GET",
        "/comments/reported",
        list_reported,
        summary="List reported comments",
        tag="comments",
        access=Access.EDITOR,
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route(
        "POST",
        "/comments/{comment_id}/moderations",
        moderate,
        summary="Hide or show a comment",
        tag="comments",
        has_etag=True,
        access=Access.EDITOR,
        errors=(COMMENT_NOT_FOUND, COMMENT_ILLEGAL_MODERATION, COMMENT_STALE),
        current=current,
    ),
    Route(
        "GET",
        "/comments/{comment_id}/moderations",
        list_decisions,
        summary="Read the decisions about a comment",
        tag="comments",
        access=Access.EDITOR,
        errors=(COMMENT_NOT_FOUND, REQUEST_CURSOR_INVALID),
    ),
    Route(
        "POST",
        "/comments/{comment_id}/reports",
        report,
        summary="Report a comment",
        tag="comments",
        access=Access.USER,
        status=201,
        caller_limit=COMMENTS,
        errors=(COMMENT_NOT_FOUND, COMMENT_OWN_REPORT, QUOTA_RATE),
    ),
    Route(
        "GET",
        "/comments/{comment_id}/reports",
        list_reports,
        summary="List the reports of a comment",
        tag="comments",
        access=Access.EDITOR,
        errors=(COMMENT_NOT_FOUND, REQUEST_CURSOR_INVALID),
    ),
)
