"""The operator plane's routes of the settings: show them with their origins, change them, and read them again."""

from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.http.server.request import Body, HttpRequest, Reply
from callboard.http.server.routing import Route
from callboard.ops.config.configuration import Setting
from callboard.ops.config.reload import Reloaded, Reloader
from callboard.ops.config.sources import ConfigError
from callboard.ops.operator_routes import as_operator, operator_route

MAX_SETTINGS = 100
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class SettingServices(Protocol):
    """The dependencies of these routes."""

    @property
    def reloader(self) -> Reloader:
        """The settings in force."""


class SettingView(msgspec.Struct, frozen=True):
    """A setting in force, and its origin; `is_live` says that it changes without a restart."""

    name: str
    value: Any
    origin: str
    is_live: bool


class ConfigChange(Body, frozen=True):
    """New values, until the process ends, by the names of settings, or like `pools.mail.size` and `limits.login.limit`;
    null takes a value back.
    """

    settings: Annotated[dict[Name, Any], Meta(min_length=1, max_length=MAX_SETTINGS)]


async def list_settings(request: HttpRequest[None, None, SettingServices]) -> Reply[list[SettingView]]:
    """List every setting in force, without secrets, with its origin."""
    reloader = request.refs.reloader
    live = reloader.live_names()
    return Reply([_view(each, live) for each in reloader.configuration.described()])


def _view(setting: Setting, live: set[str]) -> SettingView:
    return SettingView(setting.name, setting.value, setting.origin, setting.name in live)


async def change_config(request: HttpRequest[ConfigChange, None, SettingServices]) -> Reply[Reloaded]:
    """Change settings of the running process and of the others behind its port. A setting that needs a restart is named
    and stays as it is.
    """
    with as_operator(request):
        return Reply(await _reload(request.refs.reloader, request.body.settings))


async def reload_config(request: HttpRequest[None, None, SettingServices]) -> Reply[Reloaded]:
    """Read the file, and the files of secrets, again."""
    with as_operator(request):
        return Reply(await _reload(request.refs.reloader, {}))


async def _reload(reloader: Reloader, overrides: dict[str, Any]) -> Reloaded:
    """Reload. Raises Problem with every fault, and then nothing has changed."""
    try:
        return await reloader.change(overrides)
    except ConfigError as error:
        faults = [fault.partition(" ") for fault in error.faults]
        details = tuple(FieldError(name.rstrip(":"), said) for name, _, said in faults)
        raise Problem(REQUEST_INVALID, details=details) from error


ROUTES: tuple[Route[Any], ...] = (
    operator_route("GET", "/settings", list_settings, "List the settings with their origins"),
    operator_route("PATCH", "/config", change_config, "Change settings of the running process", REQUEST_INVALID),
    operator_route("POST", "/config/reload", reload_config, "Read the settings again", REQUEST_INVALID),
)
