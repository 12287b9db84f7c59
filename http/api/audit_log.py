"""The audit log over HTTP, for admins."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.actors.infrastructure.audit_log import ACTION, AuditEntry, ListAuditEntries
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.http.server.pagination import BY_TIME_AND_NUMBER
from callboard.http.server.request import HttpRequest, Page, PageReply
from callboard.http.server.routing import Access, Route, Routes
from callboard.http.server.validation import check_period
from callboard.streams.event_types import UtcDatetime


class AuditQuery(Page, frozen=True, kw_only=True):
    """Lists entries from `since` to before `until`; `user_id` selects entries about a user or by that user. An
    action that nobody declares selects nothing.
    """

    cursor: Annotated[str, BY_TIME_AND_NUMBER.meta] | None = None
    action: Annotated[str, Meta(pattern=rf"^{ACTION.pattern}\Z", examples=["login.failed"])] | None = None
    user_id: UUID | None = None
    since: UtcDatetime | None = None
    until: UtcDatetime | None = None


async def list_entries(request: HttpRequest[None, AuditQuery, Infrastructure]) -> PageReply[AuditEntry]:
    """List security events, newest first."""
    query = request.query
    check_period(query.since, query.until, ("since", "until"))
    before, before_id = BY_TIME_AND_NUMBER.decode(query.cursor) if query.cursor else (None, None)
    found = await request.refs.audit_log.ask(
        ListAuditEntries(
            query.limit + 1, query.action, query.user_id, query.since, query.until, before=before, before_id=before_id
        )
    )
    return BY_TIME_AND_NUMBER.page(found, query.limit, lambda last: (last.occurred_at, last.audit_id))


ROUTES = Routes(
    Infrastructure,
    Route(
        "GET",
        "/audit",
        list_entries,
        summary="List security events",
        tag="audit",
        access=Access.ADMIN,
        errors=(REQUEST_CURSOR_INVALID,),
        open_in_maintenance=True,
    ),
)
