"""Notifications over HTTP: the list, reading, preferences, and the links that end mails."""

import hashlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from callboard.actors.delivery.errors import (
    NOTIFICATIONS_LINK_INVALID,
    NOTIFICATIONS_NOT_FOUND,
    NOTIFICATIONS_STALE,
)
from callboard.actors.delivery.notification_preferences import (
    UNSUBSCRIBE_PATH,
    Digest,
    GetPreferences,
    Preferences,
    ReplacePreferences,
    Unsubscribe,
)
from callboard.actors.delivery.notifications import (
    CountUnread,
    ListNotifications,
    MarkAllRead,
    MarkRead,
    Notification,
    UnreadCount,
)
from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.actors.infrastructure.notification_kinds import Channel
from callboard.http.pages.mail_pages import HTML, POLICY, LinkQuery, render_page
from callboard.http.server.pagination import BY_NUMBER
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, Query, RawReply, Reply
from callboard.http.server.routing import Access, Route, Routes

UNSUBSCRIBE_PAGE = render_page("unsubscribe", "Stop these mails", "/api/v1")
LinkToken = Annotated[
    str,
    Meta(
        max_length=256,
        examples=[f"{'A' * 24}.{'A' * 43}"],
        extra_json_schema={"pattern": r"^[A-Za-z0-9_-]{22,212}\.[A-Za-z0-9_-]{43}$"},
    ),
]


class PreferencesBody(Body, frozen=True, kw_only=True):
    """All preferences: a kind without a channel gets its default. `mail` is in the app and by mail; with a digest the
    mails of a day or a week are one mail.
    """

    digest: Digest = Digest.OFF
    channels: dict[str, Channel] = msgspec.field(default_factory=dict)


class NotificationsQuery(Page, frozen=True, kw_only=True):
    """Lists your notifications; `unread` selects those that you have not read."""

    cursor: Annotated[str, BY_NUMBER.meta] | None = None
    unread: bool = False


class UnsubscribeQuery(Query, frozen=True, kw_only=True):
    """The query of an unsubscribe link."""

    token: LinkToken


async def list_notifications(
    request: HttpRequest[None, NotificationsQuery, DeliveryRefs],
) -> PageReply[Notification]:
    """List your notifications, newest first."""
    query = request.query
    (before,) = BY_NUMBER.decode(query.cursor) if query.cursor else (None,)
    user_id = request.identity.user_id
    found = await request.refs.notifications.ask(
        ListNotifications(user_id, query.limit + 1, only_unread=query.unread, before=before)
    )
    page = BY_NUMBER.page(found, query.limit, lambda last: (last.seq,))
    items = [each.notification for each in page.items]
    return PageReply(items, limit=page.limit, next_cursor=page.next_cursor, etag=tag_of(found))


async def count_unread(request: HttpRequest[None, None, DeliveryRefs]) -> Reply[UnreadCount]:
    """Count your unread notifications."""
    count = await request.refs.notifications.ask(CountUnread(request.identity.user_id))
    return Reply(count, etag=str(count.unread))


async def mark_read(request: HttpRequest[None, None, DeliveryRefs]) -> Reply[Notification]:
    """Mark a notification read; again changes nothing."""
    message = MarkRead(request.identity.user_id, request.uuid("notification_id"))
    return Reply(await request.refs.notifications.ask(message))


async def mark_all_read(request: HttpRequest[None, None, DeliveryRefs]) -> Reply[UnreadCount]:
    """Mark all your notifications read; the number is of those that have come meanwhile."""
    return Reply(await request.refs.notifications.ask(MarkAllRead(request.identity.user_id)))


async def current_tag(request: HttpRequest[Any, Any, DeliveryRefs]) -> str:
    """Return the current ETag of the caller's preferences."""
    return (await request.refs.preferences.ask(GetPreferences(request.identity.user_id))).tag


async def read_preferences(request: HttpRequest[None, None, DeliveryRefs]) -> Reply[Preferences]:
    """Return your preferences, and the kinds of notifications that there are."""
    preferences = await request.refs.preferences.ask(GetPreferences(request.identity.user_id))
    return Reply(preferences, etag=preferences.tag)


async def put_preferences(request: HttpRequest[PreferencesBody, None, DeliveryRefs]) -> Reply[Preferences]:
    """Replace your preferences. Security notifications keep their channel."""
    body = request.body
    preferences = await request.refs.preferences.ask(
        ReplacePreferences(request.identity.user_id, body.digest, body.channels, request.tag)
    )
    return Reply(preferences, etag=preferences.tag)


async def show_unsubscribe(request: HttpRequest[None, LinkQuery, DeliveryRefs]) -> RawReply:  # noqa: ARG001 - a handler's face
    """Show the page of an unsubscribe link; its button stops the mails. To open it changes nothing."""
    return RawReply(UNSUBSCRIBE_PAGE, HTML, policy=POLICY)


async def unsubscribe(request: HttpRequest[bytes, UnsubscribeQuery, DeliveryRefs]) -> Reply[None]:
    """Stop the mails of the link, in one click and without a login (RFC 8058). The body may be anything."""
    await request.refs.preferences.ask(Unsubscribe(request.query.token))
    return Reply(None, message="You will not get these mails any more.")


def tag_of(value: Any) -> str:
    """Return the ETag of what a list shows."""
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]


ROUTES = Routes(
    DeliveryRefs,
    Route(
        "GET",
        "/notifications",
        list_notifications,
        summary="List your notifications",
        tag="notifications",
        access=Access.USER,
        errors=(REQUEST_CURSOR_INVALID,),
        has_etag=True,
    ),
    Route(
        "GET",
        "/notifications/unread-count",
        count_unread,
        summary="Count your unread notifications",
        tag="notifications",
        access=Access.USER,
        has_etag=True,
    ),
    Route(
        "POST",
        "/notifications/{notification_id}/read",
        mark_read,
        summary="Mark a notification read",
        tag="notifications",
        access=Access.USER,
        errors=(NOTIFICATIONS_NOT_FOUND,),
    ),
    Route(
        "POST",
        "/notifications/read-all",
        mark_all_read,
        summary="Mark all your notifications read",
        tag="notifications",
        access=Access.USER,
    ),
    Route(
        "GET",
        "/notifications/preferences",
        read_preferences,
        summary="Read your preferences about notifications",
        tag="notifications",
        access=Access.USER,
        has_etag=True,
    ),
    Route(
        "PUT",
        "/notifications/preferences",
        put_preferences,
        summary="Replace your preferences about notifications",
        tag="notifications",
        access=Access.USER,
        errors=(NOTIFICATIONS_STALE,),
        has_etag=True,
        current=current_tag,
    ),
    Route(
        "GET",
        UNSUBSCRIBE_PATH,
        show_unsubscribe,
        summary="Show the page of an unsubscribe link",
        tag="notifications",
        access=Access.PUBLIC,
        content_type=HTML,
        open_in_maintenance=True,
    ),
    Route(
        "POST",
        UNSUBSCRIBE_PATH,
        unsubscribe,
        summary="Stop mails by the link in one of them",
        tag="notifications",
        access=Access.PUBLIC,
        errors=(NOTIFICATIONS_LINK_INVALID,),
        open_in_maintenance=True,
    ),
)
