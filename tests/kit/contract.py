"""What the documents say may be answered; the tests' clients hold every answer they get against it."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from callboard.actors.errors import (
    REQUEST_CODING_UNKNOWN,
    REQUEST_EXPECTATION,
    REQUEST_HEADERS_TOO_LARGE,
    REQUEST_METHOD_UNKNOWN,
    REQUEST_NOT_HTTP,
    REQUEST_TARGET_TOO_LONG,
    REQUEST_VERSION,
    ROUTE_METHOD,
    ROUTE_NOT_FOUND,
    SERVER_DRAINING,
    ErrorCode,
)
from callboard.http.api.routes import ROUTES
from callboard.http.openapi.responses import HEADERS, codes_of, headers_given
from callboard.http.openapi.swagger import common_routes, document_routes
from callboard.http.server.routing import Route, Router, shape_of

# Before any route is known.
ANYWAY = (
    *(REQUEST_NOT_HTTP, REQUEST_TARGET_TOO_LONG, REQUEST_HEADERS_TOO_LARGE, REQUEST_CODING_UNKNOWN),
    *(REQUEST_METHOD_UNKNOWN, REQUEST_VERSION, REQUEST_EXPECTATION, SERVER_DRAINING),
)


class Contract:
    """The outcomes of a route table, and `also` of each route."""

    def __init__(self, routes: Sequence[Route[Any]], base: str = "/api/v1", also: tuple[ErrorCode, ...] = ()) -> None:
        self._router: Router[tuple[Route[Any], tuple[ErrorCode, ...]]] = Router()
        for route in routes:
            self._router.add(route.method, route.full_path(base), (route, codes_of(route, shape_of(route)) + also))

    def check(self, method: str, path: str, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Raise AssertionError for an answer that is documented nowhere."""
        what = f"{method} {path} was answered with {status} {body[:300]!r}, which is not documented"
        found = self._router.find(path.partition("?")[0])
        code = code_of(body) if status >= 400 and method != "HEAD" else None
        if code in {each.name for each in ANYWAY}:
            return
        if found is None:
            assert status == 404, what
            assert code in (ROUTE_NOT_FOUND.name, None), what
            return
        route, codes = found[0].by_method.get(method, (None, ()))
        if route is None:
            assert (status, code) == (405, ROUTE_METHOD.name) or (method, status) == ("OPTIONS", 204), what
            return
        if code is None and method != "HEAD":
            unchanged = status == 304 and route.has_etag and not route.makes_changes
            is_part = status == 206 and route.serves_ranges
            assert status == route.status or unchanged or is_part, what
        elif code is not None:
            assert code in {each.name for each in codes}, what
        undocumented = {name for name in HEADERS if name in headers} - set(headers_given(route, status))
        assert undocumented == set(), f"{what} with its headers {undocumented}"


def code_of(body: bytes) -> str | None:
    """The code of an error, in either form."""
    answer = msgspec.json.decode(body)
    return str(answer["error"]["code"] if "error" in answer else answer["code"])


@cache
def real() -> Contract:
    """That of the front door."""
    table = (*ROUTES, *common_routes({}))
    return Contract((*table, *document_routes(table, "/api/v1")))
