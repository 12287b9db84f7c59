"""Notices over HTTP: preferences, and the links that end mails."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from callboard.actors.delivery.errors import NOTIFICATIONS_LINK_INVALID, NOTIFICATIONS_STALE
from callboard.actors.delivery.notification_preferences import (
    UNSUBSCRIBE_PATH,
    Digest,
    GetPreferences,
    Preferences,
    ReplacePreferences,
    Unsubscribe,
)
from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.infrastructure.notice_kinds import Channel
from callboard.http.pages.mail_pages import HTML, POLICY, LinkQuery, render_page
from callboard.http.server.request import Body, HttpRequest, Query, RawReply, Reply
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


class UnsubscribeQuery(Query, frozen=True, kw_only=True):
    """The query of an unsubscribe link."""

    token: LinkToken


async def current_tag(request: HttpRequest[Any, Any, DeliveryRefs]) -> str:
    """Return the current ETag of the caller's preferences."""
    return (await request.refs.preferences.ask(GetPreferences(request.identity.user_id))).tag


async def read_preferences(request: HttpRequest[None, None, DeliveryRefs]) -> Reply[Preferences]:
    """Return your preferences, and the kinds of notices that there are."""
    preferences = await request.refs.preferences.ask(GetPreferences(request.identity.user_id))
    return Reply(preferences, etag=preferences.tag)


async def put_preferences(request: HttpRequest[PreferencesBody, None, DeliveryRefs]) -> Reply[Preferences]:
    """Replace your preferences. Security notices keep their channel."""
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


ROUTES = Routes(
    DeliveryRefs,
    Route(
        "GET",
        "/notifications/preferences",
        read_preferences,
        summary="Read your preferences about notices",
        tag="notifications",
        access=Access.USER,
        has_etag=True,
    ),
    Route(
        "PUT",
        "/notifications/preferences",
        put_preferences,
        summary="Replace your preferences about notices",
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
