"""Every outcome that a route can have, derived from its declaration: statuses, error codes and response headers."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from callboard.actors.errors import (
    AUTH_FORBIDDEN,
    AUTH_TOKEN_EXPIRED,
    AUTH_TOKEN_INVALID,
    AUTH_TOKEN_MISSING,
    REQUEST_CURSOR_INVALID,
    REQUEST_INVALID,
    REQUEST_KEY_BUSY,
    REQUEST_KEY_REUSED,
    REQUEST_LIMITED,
    REQUEST_MALFORMED,
    REQUEST_RANGE,
    REQUEST_SLOW,
    REQUEST_TOO_LARGE,
    REQUEST_UNSUPPORTED,
    SERVER_BUG,
    SERVER_DRAINING,
    SERVER_MAINTENANCE,
    SERVER_OVERLOADED,
    SERVER_TIMEOUT,
    SERVER_UNAVAILABLE,
    ErrorCode,
)
from callboard.actors.identity.errors import AUTH_SESSION_ENDED
from callboard.http.server.errors import status_of
from callboard.http.server.preconditions import stale_code
from callboard.http.server.request import Page
from callboard.http.server.routing import Access, HandlerSignature, Route

EVERYWHERE = (REQUEST_INVALID, SERVER_BUG, SERVER_DRAINING, SERVER_OVERLOADED, SERVER_TIMEOUT, SERVER_UNAVAILABLE)
BODY_ERRORS = (REQUEST_MALFORMED, REQUEST_SLOW, REQUEST_TOO_LARGE, REQUEST_UNSUPPORTED)
OF_KEYS = (REQUEST_KEY_BUSY, REQUEST_KEY_REUSED)
OF_TOKENS = (AUTH_TOKEN_INVALID, AUTH_TOKEN_EXPIRED, AUTH_SESSION_ENDED)


def _header(description: str, example: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}, "example": example}


HEADERS: Mapping[str, dict[str, Any]] = {
    "X-Request-ID": _header("The request's id if it sent a valid one, else a new id.", "4bf92f3577b34da6"),
    "RateLimit": _header("The remaining requests, and the seconds until all are available.", '"default";r=50;t=30'),
    "RateLimit-Policy": _header("The number of requests, and the seconds of the window.", '"default";q=300;w=60'),
    "Retry-After": _header("Seconds to wait before trying again.", "1", pattern="^[0-9]+$"),
    "WWW-Authenticate": _header("How to authenticate (RFC 6750).", 'Bearer realm="callboard"'),
    "Accept": _header("The media type that the call accepts.", "application/json"),
    "Accept-Encoding": _header("The content coding that the call accepts.", "identity"),
    "ETag": _header("The version in this response, for If-Match.", '"3"'),
    "Last-Modified": _header("The time of the last change, for If-Modified-Since.", "Thu, 01 Jan 2026 00:00:00 GMT"),
    "Location": _header("The URL of the new resource.", "/api/v1/content/3fa85f64-5717-4562-b3fc-2c963f66afa6"),
    "Accept-Ranges": _header("A part can be asked for with Range.", "bytes", const="bytes"),
    "Content-Range": _header("The part in this response, and the size of the whole.", "bytes 0-1023/146515"),
    "Idempotency-Replayed": _header(
        "The response repeats that of an earlier request with this key.", "true", const="true"
    ),
    "Deprecation": _header("The time of deprecation (RFC 9745).", "@1767225600", pattern="^@[0-9]+$"),
    "Sunset": _header("The time of removal (RFC 8594).", "Wed, 01 Jul 2026 00:00:00 GMT"),
    "Link": _header("The replacement, and the reason.", '</api/v2/content>; rel="successor-version"'),
}


OF_STATUS: Mapping[int, Sequence[str]] = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("Accept", "Accept-Encoding"),
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: ("Content-Range",),
}


def codes_of(route: Route[Any], shape: HandlerSignature) -> tuple[ErrorCode, ...]:
    """Return every code of a route, each once: those it declares, and those that follow from its declaration."""
    codes = [*route.errors, *EVERYWHERE]
    if issubclass(shape.query, Page):
        codes.append(REQUEST_CURSOR_INVALID)
    if shape.body is not type(None):
        codes += BODY_ERRORS
    if route.accepts_idempotency_key:
        codes += OF_KEYS
    if not route.skips_limits_and_auth:
        codes.append(REQUEST_LIMITED)
        if not route.open_in_maintenance:
            codes.append(SERVER_MAINTENANCE)
    if route.access not in (Access.PUBLIC, Access.KEY):
        codes += OF_TOKENS
    if route.access not in (Access.PUBLIC, Access.OPTIONAL, Access.KEY):
        codes.append(AUTH_TOKEN_MISSING)
    if route.access in (Access.EDITOR, Access.ADMIN):
        codes.append(AUTH_FORBIDDEN)
    codes += [route.not_found] if route.parameters else []
    codes += [stale_code(route.errors)] if route.is_conditional else []
    codes += [REQUEST_RANGE] if route.serves_ranges else []
    return tuple({code.name: code for code in codes}.values())


def by_status(codes: tuple[ErrorCode, ...]) -> dict[int, list[ErrorCode]]:
    """Return the codes by status, statuses in ascending order."""
    grouped: dict[int, list[ErrorCode]] = {}
    for code in codes:
        grouped.setdefault(status_of(code), []).append(code)
    return dict(sorted(grouped.items()))


def headers_given(route: Route[Any], status: int) -> list[str]:
    """Return the headers that a response of this status may have, beyond those of HTTP itself."""
    if route.serves_ranges and status == HTTPStatus.PARTIAL_CONTENT:
        return [*headers_given(route, route.status), "Content-Range"]
    given = ["X-Request-ID"]
    if not route.skips_limits_and_auth:
        given += ["RateLimit", "RateLimit-Policy"]
    if status in (route.status, HTTPStatus.NOT_MODIFIED):
        given += ["ETag"] if route.has_etag else []
        given += ["Last-Modified"] if route.has_date else []
    if status == route.status:
        given += ["Accept-Ranges"] if route.serves_ranges else []
        given += ["Location"] if route.accepts_idempotency_key else []
    if route.accepts_idempotency_key and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        given.append("Idempotency-Replayed")
    given += OF_STATUS.get(status, ())
    busy = status == HTTPStatus.CONFLICT and route.accepts_idempotency_key
    if busy or status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.LOCKED):
        given.append("Retry-After")
    if route.shows_progress and status == route.status:
        given.append("Retry-After")
    if route.deprecates_values and status == route.status:
        given.append("Deprecation")
    return given + list(route.deprecated.headers() if route.deprecated else ())
