"""The form of the operator plane's routes, and the name in which they change something."""

from collections.abc import Callable
from typing import Any

import msgspec

from callboard.actors.errors import ErrorCode
from callboard.actors.infrastructure.audit_log import CommandLine
from callboard.http.server.request import HttpRequest
from callboard.http.server.routing import Access, Route
from callboard.runtime import Context, current_context, use_context


def operator_route(method: str, path: str, handler: Callable[..., Any], summary: str, *errors: ErrorCode) -> Route[Any]:
    """Return a route of the operator plane, whose listener checks the token."""
    return Route(method, path, handler, summary=summary, tag="operators", access=Access.PUBLIC, errors=errors)


def as_operator(request: HttpRequest[Any, Any, Any]) -> use_context:
    """Return a block whose security events are an operator's, from the address of the request."""
    origin = CommandLine("the operator plane", ip=request.ip)
    return use_context(msgspec.structs.replace(current_context() or Context(), baggage=origin))
