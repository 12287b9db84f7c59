"""The schedule of an article over HTTP."""

from typing import Annotated

from callboard.actors.editorial.errors import (
    CONTENT_FORBIDDEN,
    CONTENT_ILLEGAL_TRANSITION,
    CONTENT_NOT_FOUND,
    CONTENT_STALE,
)
from callboard.actors.editorial.refs import EditorialRefs
from callboard.actors.editorial.workflow import Content, ScheduleContent
from callboard.actors.infrastructure.errors import QUOTA_RATE
from callboard.http.api.content import content_reply, current_for_transition, version_of
from callboard.http.server.request import Body, HttpRequest, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.streams.event_types import UtcDatetime
from callboard.streams.visible_text import visible


class ScheduleBody(Body, frozen=True, kw_only=True):
    """The times at which approved content is published, and published content is archived; null: never."""

    publish_at: UtcDatetime | None = None
    expire_at: UtcDatetime | None = None
    note: Annotated[str, visible(0, 2000, lines=True)] | None = None


async def put(request: HttpRequest[ScheduleBody, None, EditorialRefs]) -> Reply[Content]:
    """Replace the schedule of an article."""
    body, content_id = request.body, request.uuid("content_id")
    message = ScheduleContent(
        content_id, body.publish_at, body.expire_at, body.note, request.identity, version_of(request)
    )
    return content_reply(await request.refs.content.ask(message))


ROUTES = Routes(
    EditorialRefs,
    Route(
        "PUT",
        "/content/{content_id}/schedule",
        put,
        summary="Schedule the publication and the expiry of content, or cancel them",
        tag="content",
        has_etag=True,
        access=Access.EDITOR,
        errors=(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN, CONTENT_ILLEGAL_TRANSITION, CONTENT_STALE, QUOTA_RATE),
        current=current_for_transition,
    ),
)
