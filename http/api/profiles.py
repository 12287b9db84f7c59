"""Profiles over HTTP: a user's public description, and the preferences of the user's clients."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from callboard.actors.errors import FieldError
from callboard.actors.identity.errors import USERS_NOT_FOUND, USERS_STALE
from callboard.actors.identity.profiles import MAX_URL_LENGTH, Bio, GetProfile, Profile, ReplaceProfile, profile_faults
from callboard.actors.identity.refs import IdentityRefs
from callboard.http.api.users import user_id_of
from callboard.http.server.request import Body, HttpRequest, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.streams.language_tags import MAX_LANGUAGES, Language

Url = Annotated[str, Meta(max_length=MAX_URL_LENGTH, examples=["https://example.org/ada.png"])]


class ProfileBody(Body, frozen=True, kw_only=True):
    """A whole profile: omitted fields are cleared. `avatar_url` begins with https:// or http://; `preferences` is any
    JSON object of at most 8192 bytes and 5 levels. Mails come in the first of the `languages` that there is, or in
    English; without `languages` the current ones stay.
    """

    avatar_url: Url | None = None
    bio: Bio | None = None
    preferences: dict[str, Any] = msgspec.field(default_factory=dict)
    languages: Annotated[list[Language], Meta(max_length=MAX_LANGUAGES)] | None = None


def validate_profile(_refs: IdentityRefs, sound: Mapping[str, Any]) -> list[FieldError]:
    """Validate the well-formed fields of a profile."""
    return profile_faults(sound.get("avatar_url"), sound.get("bio"), sound.get("preferences", {}))


async def current(request: HttpRequest[Any, Any, IdentityRefs]) -> str:
    """Return the current ETag of a profile."""
    return (await request.refs.profiles.ask(GetProfile(user_id_of(request)))).tag


async def read(request: HttpRequest[None, None, IdentityRefs]) -> Reply[Profile]:
    """Return a profile."""
    profile = await request.refs.profiles.ask(GetProfile(user_id_of(request)))
    return Reply(profile, etag=profile.tag)


async def put(request: HttpRequest[ProfileBody, None, IdentityRefs]) -> Reply[Profile]:
    """Replace a profile."""
    body = request.body
    profile = await request.refs.profiles.ask(
        ReplaceProfile(user_id_of(request), body.avatar_url, body.bio, body.preferences, request.tag, body.languages)
    )
    return Reply(profile, etag=profile.tag)


ROUTES = Routes(
    IdentityRefs,
    Route("GET", "/users/me/profile", read, "Read your profile", tag="accounts", access=Access.USER, has_etag=True),
    Route(
        "PUT",
        "/users/me/profile",
        put,
        summary="Replace your profile",
        tag="accounts",
        access=Access.USER,
        errors=(USERS_STALE,),
        has_etag=True,
        validate=validate_profile,
        current=current,
    ),
    Route(
        "GET",
        "/users/{user_id}/profile",
        read,
        summary="Read a profile",
        tag="accounts",
        access=Access.SELF_OR_ADMIN,
        errors=(USERS_NOT_FOUND,),
        has_etag=True,
    ),
    Route(
        "PUT",
        "/users/{user_id}/profile",
        put,
        summary="Replace a profile",
        tag="accounts",
        access=Access.SELF_OR_ADMIN,
        errors=(USERS_NOT_FOUND, USERS_STALE),
        has_etag=True,
        validate=validate_profile,
        current=current,
    ),
)
