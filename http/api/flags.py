"""Feature flags over HTTP: each user's own view, and the flags themselves for admins.

All routes are open during maintenance, so that an admin can end it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar
from uuid import UUID

from msgspec import Meta

from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.identity.errors import USERS_NOT_FOUND
from callboard.actors.infrastructure.errors import FLAGS_FULL, FLAGS_NOT_FOUND
from callboard.actors.infrastructure.feature_flags import Flag, GetFlag, SetFlag
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.http.server.request import Body, HttpRequest, Query, Reply
from callboard.http.server.routing import Access, Route, Routes


class UserQuery(Query, frozen=True, kw_only=True):
    """A flag, with the override of one user."""

    user_id: UUID | None = None


class FlagBody(Body, frozen=True, kw_only=True):
    """The new value for all users, or with `user_id` for one user; null then removes the user's override."""

    SCHEMA: ClassVar[Mapping[str, Any]] = {
        "allOf": [
            {
                "anyOf": [
                    {"properties": {"is_on": {"type": "boolean"}}},
                    {"properties": {"user_id": {"type": "string", "format": "uuid"}}, "required": ["user_id"]},
                ]
            }
        ]
    }

    is_on: Annotated[bool | None, Meta(examples=[True])]
    user_id: UUID | None = None


async def view(request: HttpRequest[None, None, Infrastructure]) -> Reply[dict[str, bool]]:
    """Return the feature flags as they apply to the caller."""
    return Reply(request.refs.flags.view(None if request.caller is None else request.caller.user_id))


async def read(request: HttpRequest[None, UserQuery, Infrastructure]) -> Reply[Flag]:
    """Return a feature flag."""
    return Reply(await request.refs.flag_keeper.ask(GetFlag(request.text("name"), request.query.user_id)))


async def put(request: HttpRequest[FlagBody, None, Infrastructure]) -> Reply[Flag]:
    """Set a feature flag."""
    body = request.body
    if body.is_on is None and body.user_id is None:
        raise Problem(REQUEST_INVALID, details=(FieldError("is_on", "must be true or false, unless user_id is given"),))
    return Reply(await request.refs.flag_keeper.ask(SetFlag(request.text("name"), body.is_on, body.user_id)))


ROUTES = Routes(
    Infrastructure,
    Route(
        "GET",
        "/flags",
        view,
        summary="Read the feature flags of the caller",
        tag="flags",
        access=Access.OPTIONAL,
        open_in_maintenance=True,
    ),
    Route(
        "GET",
        "/flags/{name}",
        read,
        summary="Read a feature flag",
        tag="flags",
        access=Access.ADMIN,
        errors=(FLAGS_NOT_FOUND,),
        open_in_maintenance=True,
    ),
    Route(
        "PUT",
        "/flags/{name}",
        put,
        summary="Set a feature flag, for all users or for one",
        tag="flags",
        access=Access.ADMIN,
        errors=(FLAGS_NOT_FOUND, USERS_NOT_FOUND, FLAGS_FULL),
        open_in_maintenance=True,
    ),
)
