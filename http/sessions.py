"""Sessions over HTTP: logging in."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from callboard.actors.errors import AUTH_INACTIVE, AUTH_INVALID_CREDENTIALS, AUTH_UNVERIFIED
from callboard.actors.logins import LogIn
from callboard.http.call import Body, Call, Reply
from callboard.http.routing import Access, Route
from callboard.http.services import Services
from callboard.http.users import Email, Secret


class Credentials(Body, frozen=True, kw_only=True):
    """Who logs in."""

    email: Email
    password: Secret


class LoggedInUser(msgspec.Struct, frozen=True):
    """Whose session it is."""

    user_id: UUID
    email: str
    full_name: str


class TokenPair(msgspec.Struct, frozen=True):
    """A new session's tokens. `expires_in` is the access token's life in seconds."""

    access_token: str
    refresh_token: str
    expires_in: Annotated[int, Meta(ge=1)]
    user: LoggedInUser
    token_type: str = "Bearer"  # noqa: S105 - the type, not a token


async def log_in(call: Call[Credentials, None, Services]) -> Reply[TokenPair]:
    """Check credentials and open a session."""
    login = await call.services.logins.ask(
        LogIn(call.body.email, call.body.password, device=call.user_agent, ip=call.ip)
    )
    user = LoggedInUser(login.user_id, login.email, login.full_name)
    pair = TokenPair(login.access_token, login.refresh_token, login.expires_in, user)
    return Reply(pair, headers={"Cache-Control": "no-store"})


ROUTES: tuple[Route[Services], ...] = (
    Route(
        "POST",
        "/auth/login",
        log_in,
        summary="Log in",
        tag="sessions",
        access=Access.PUBLIC,
        limit="login",
        errors=(AUTH_INVALID_CREDENTIALS, AUTH_UNVERIFIED, AUTH_INACTIVE),
    ),
)
