"""Sessions over HTTP: log in, refresh, log out, and list your own sessions."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from callboard.actors.errors import Problem
from callboard.actors.identity.authentication import LogIn, StepUp
from callboard.actors.identity.errors import (
    AUTH_ACCOUNT_LIMITED,
    AUTH_INACTIVE,
    AUTH_INVALID_CREDENTIALS,
    AUTH_REFRESH_INVALID,
    AUTH_UNVERIFIED,
    SESSIONS_NOT_FOUND,
)
from callboard.actors.identity.refs import LOGIN, IdentityRefs
from callboard.actors.identity.sessions import (
    MAX_SESSIONS,
    EndSessions,
    ListSessions,
    LoginResult,
    RefreshSession,
    RevokeSession,
)
from callboard.http.api.users import Password
from callboard.http.server.request import Body, HttpRequest, PageReply, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.streams.email_address import KnownEmail
from callboard.streams.event_types import UtcDatetime


class Credentials(Body, frozen=True, kw_only=True):
    """The credentials of a login. `device_token` comes from an earlier login on this device: this device can then log
    in while failed logins from elsewhere lock the account.
    """

    email: KnownEmail
    password: Password
    device_token: Annotated[str, Meta(max_length=128)] | None = None


class StepUpBody(Body, frozen=True, kw_only=True):
    """The password of the current user."""

    password: Password


class Refresh(Body, frozen=True, kw_only=True):
    """The refresh token of the latest pair. Any other value, even an access token, is refused like an unknown token."""

    refresh_token: Annotated[str, Meta(max_length=8192)]


class LoggedInUser(msgspec.Struct, frozen=True):
    """The user of the session."""

    user_id: UUID
    email: str
    full_name: str


class TokenPair(msgspec.Struct, frozen=True):
    """The tokens of a session. `expires_in` is the lifetime of the access token in seconds; a refresh token can be used
    once.

    Only a login returns a `device_token`. Keep it after the session ends, and send it with the next login.
    """

    access_token: str
    refresh_token: str
    expires_in: Annotated[int, Meta(ge=1)]
    user: LoggedInUser
    token_type: str = "Bearer"  # noqa: S105 - the type, not a token
    device_token: str | None = None


class SessionView(msgspec.Struct, frozen=True):
    """One of the caller's sessions. `used_at` is exact to about a minute; `current` marks this request's session."""

    session_id: UUID
    device: str
    ip: str | None
    created_at: UtcDatetime
    used_at: UtcDatetime
    expires_at: UtcDatetime
    current: bool


def _pair(login: LoginResult) -> Reply[TokenPair]:
    user = LoggedInUser(login.user_id, login.email, login.full_name)
    pair = TokenPair(login.access_token, login.refresh_token, login.expires_in, user, device_token=login.device_token)
    return Reply(pair, headers={"Cache-Control": "no-store"})  # RFC 6749, 5.1


async def log_in(request: HttpRequest[Credentials, None, IdentityRefs]) -> Reply[TokenPair]:
    """Verify credentials and open a session."""
    order = LogIn(
        request.body.email,
        request.body.password,
        device=request.user_agent,
        ip=request.ip,
        device_token=request.body.device_token,
    )
    return _pair(await request.refs.logins.ask(order))


async def step_up(request: HttpRequest[StepUpBody, None, IdentityRefs]) -> Reply[None]:
    """Confirm your password. For some minutes the session may then change the address, delete the account and request
    an export. A login counts as a confirmation.
    """
    who = request.identity
    await request.refs.logins.ask(StepUp(who.user_id, who.session_id, request.body.password))
    return Reply(None, message="The session may now make changes that need a confirmed password.")


async def refresh(request: HttpRequest[Refresh, None, IdentityRefs]) -> Reply[TokenPair]:
    """Replace a refresh token by a new pair of tokens.

    The same token again within 10 seconds gives the same refresh token; later it ends the session.
    """
    return _pair(await request.refs.sessions.ask(RefreshSession(request.body.refresh_token, request.ip)))


async def log_out(request: HttpRequest[None, None, IdentityRefs]) -> Reply[None]:
    """End the current session. Its access token is refused from the next request on."""
    await request.refs.sessions.ask(RevokeSession(request.identity.user_id, request.identity.session_id))
    return Reply(None)


async def log_out_all(request: HttpRequest[None, None, IdentityRefs]) -> Reply[None]:
    """End all your sessions."""
    await request.refs.sessions.ask(EndSessions(request.identity.user_id))
    return Reply(None)


async def sessions(request: HttpRequest[None, None, IdentityRefs]) -> PageReply[SessionView]:
    """List your active sessions, most recently used first, on one page."""
    found = await request.refs.sessions.ask(ListSessions(request.identity.user_id))
    views = [
        SessionView(**msgspec.structs.asdict(each), current=each.session_id == request.identity.session_id)
        for each in found
    ]
    return PageReply(views, limit=MAX_SESSIONS, next_cursor=None)


async def end(request: HttpRequest[None, None, IdentityRefs]) -> Reply[None]:
    """End one of your sessions."""
    if not await request.refs.sessions.ask(RevokeSession(request.identity.user_id, request.uuid("session_id"))):
        raise Problem(SESSIONS_NOT_FOUND)
    return Reply(None)


ROUTES = Routes(
    IdentityRefs,
    Route(
        "POST",
        "/auth/login",
        log_in,
        summary="Log in",
        tag="sessions",
        access=Access.PUBLIC,
        limit=LOGIN,
        open_in_maintenance=True,
        errors=(AUTH_INVALID_CREDENTIALS, AUTH_UNVERIFIED, AUTH_INACTIVE, AUTH_ACCOUNT_LIMITED),
    ),
    Route(
        "POST",
        "/auth/step-up",
        step_up,
        summary="Confirm your password",
        tag="sessions",
        access=Access.USER,
        limit=LOGIN,
        errors=(AUTH_INVALID_CREDENTIALS, AUTH_ACCOUNT_LIMITED),
    ),
    Route(
        "POST",
        "/auth/refresh",
        refresh,
        summary="Refresh the tokens of a session",
        tag="sessions",
        access=Access.PUBLIC,
        errors=(AUTH_REFRESH_INVALID,),
        open_in_maintenance=True,
    ),
    Route("POST", "/auth/logout", log_out, "Log out", "sessions", Access.USER, status=204, open_in_maintenance=True),
    Route(
        "POST",
        "/auth/logout-all",
        log_out_all,
        summary="Log out everywhere",
        tag="sessions",
        access=Access.USER,
        status=204,
        open_in_maintenance=True,
    ),
    Route("GET", "/auth/sessions", sessions, summary="List your sessions", tag="sessions", access=Access.USER),
    Route(
        "DELETE",
        "/auth/sessions/{session_id}",
        end,
        summary="End one of your sessions",
        tag="sessions",
        access=Access.USER,
        status=204,
        errors=(SESSIONS_NOT_FOUND,),
    ),
)
