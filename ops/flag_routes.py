"""The operator plane's routes of feature flags: list them, and set one for all users or for one."""

from typing import Annotated, Any, Protocol
from uuid import UUID

from msgspec import Meta

from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.identity.errors import USERS_NOT_FOUND
from callboard.actors.identity.users import ListUsers, UserMessage
from callboard.actors.infrastructure.errors import FLAGS_FULL, FLAGS_NOT_FOUND
from callboard.actors.infrastructure.feature_flags import Flag, FlagMessage, FlagSnapshot, GetFlag, SetFlag
from callboard.http.server.request import Body, HttpRequest, Query, Reply
from callboard.http.server.routing import Route
from callboard.ops.operator_routes import as_operator, operator_route
from callboard.runtime import Ref

Account = Annotated[str, Meta(max_length=320, description="The id or address of an account.")]


class FlagServices(Protocol):
    """The dependencies of these routes."""

    @property
    def flags(self) -> FlagSnapshot:
        """The flags that are declared."""

    @property
    def flag_keeper(self) -> Ref[FlagMessage]:
        """The actor that reads and writes them."""

    @property
    def users(self) -> Ref[UserMessage]:
        """The accounts."""


class FlagQuery(Query, frozen=True, kw_only=True):
    """All flags, with the overrides of one user."""

    user: Account | None = None


class FlagChange(Body, frozen=True, kw_only=True):
    """The new value for all users, or with `user` for one user; null then removes the user's override."""

    is_on: bool | None
    user: Account | None = None


async def list_flags(request: HttpRequest[None, FlagQuery, FlagServices]) -> Reply[list[Flag]]:
    """List the feature flags."""
    refs = request.refs
    user_id = await _user_id(refs.users, request.query.user)
    return Reply([await refs.flag_keeper.ask(GetFlag(name, user_id)) for name in refs.flags.defaults])


async def set_flag(request: HttpRequest[FlagChange, None, FlagServices]) -> Reply[Flag]:
    """Set a feature flag. It is in force in this process by the reply, and in every other within a second."""
    body, refs = request.body, request.refs
    if body.is_on is None and body.user is None:
        raise Problem(REQUEST_INVALID, details=(FieldError("is_on", "must be true or false, unless user is given"),))
    user_id = await _user_id(refs.users, body.user)
    with as_operator(request):
        return Reply(await refs.flag_keeper.ask(SetFlag(request.text("name"), body.is_on, user_id)))


async def _user_id(users: Ref[UserMessage], account: str | None) -> UUID | None:
    """Return the id of an account. Raises Problem(USERS_NOT_FOUND)."""
    if account is None:
        return None
    try:
        return UUID(account)
    except ValueError:
        found = await users.ask(ListUsers(1, email=account))
        if not found:
            raise Problem(USERS_NOT_FOUND) from None
        return found[0].user_id


ROUTES: tuple[Route[Any], ...] = (
    operator_route("GET", "/flags", list_flags, "List feature flags", USERS_NOT_FOUND),
    operator_route("PUT", "/flags/{name}", set_flag, "Set a flag", FLAGS_NOT_FOUND, USERS_NOT_FOUND, FLAGS_FULL),
)
