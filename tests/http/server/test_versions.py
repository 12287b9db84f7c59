"""Versions side by side, routes that are going, and maintenance: on tables of the tests' own."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from callboard.http.api.routes import ROUTES
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Deprecation, Route

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
SUNSET = datetime(2026, 7, 1, 2, tzinfo=timezone(timedelta(hours=2)))
GOING = Deprecation(SINCE, SUNSET, successor="/api/v2/thing", link="https://example.org/why")


async def first(call: HttpRequest[None, None, object]) -> Reply[str]:  # noqa: ARG001 - a handler's face
    return Reply("first")


async def second(call: HttpRequest[None, None, object]) -> Reply[str]:  # noqa: ARG001 - a handler's face
    return Reply("second")


async def fail(call: HttpRequest[None, None, object]) -> Reply[str]:  # noqa: ARG001 - a handler's face
    raise ZeroDivisionError


VERSIONS: tuple[Route[object], ...] = (
    Route("GET", "/thing", first, "Old", "things", Access.PUBLIC, deprecated=GOING),
    Route("GET", "/thing", second, "New", "things", Access.PUBLIC, version=2),
    Route("GET", "/other", first, "Going, no more is known", "things", Access.PUBLIC, deprecated=Deprecation(SINCE)),
    Route("GET", "/needy", first, "Going, for users", "things", Access.USER, deprecated=GOING),
    Route("GET", "/broken", fail, "Going and broken", "things", Access.PUBLIC, deprecated=GOING),
)
OPEN: tuple[Route[object], ...] = (
    Route("GET", "/public", first, "For anyone", "things", Access.PUBLIC),
    Route("GET", "/own", first, "For users", "things", Access.USER),
    Route("GET", "/login", first, "The way in", "things", Access.PUBLIC, open_in_maintenance=True),
    Route("GET", "/flags", first, "The switch", "things", Access.ADMIN, open_in_maintenance=True),
)


async def test_two_versions_stand_side_by_side(open_door: Any) -> None:
    async with open_door(routes=VERSIONS) as door:
        _, old, _ = await door.call("GET", "/api/v1/thing")
        _, new, response = await door.call("GET", "/api/v2/thing")
        assert (old["data"], new["data"]) == ("first", "second")
        assert not {"Deprecation", "Sunset", "Link"} & response.headers.keys()
        assert (await door.call("GET", "/api/v2/other"))[0] == 404


async def test_a_deprecated_route_says_since_when_until_when_and_what_instead(open_door: Any) -> None:
    async with open_door(routes=VERSIONS) as door:
        for path, status in (("thing", 200), ("needy", 401), ("broken", 500), ("thing?x=1", 400)):
            answered, _, response = await door.call("GET", f"/api/v1/{path}")
            assert answered == status
            assert response.headers["Deprecation"] == "@1767225600"
            assert response.headers["Sunset"] == "Wed, 01 Jul 2026 00:00:00 GMT"
            assert response.headers["Link"] == (
                '</api/v2/thing>; rel="successor-version", <https://example.org/why>; rel="deprecation"'
            )
        _, _, response = await door.call("GET", "/api/v1/other")
        assert response.headers["Deprecation"] == "@1767225600"
        assert not {"Sunset", "Link"} & response.headers.keys()


async def test_the_document_marks_what_is_deprecated_and_has_both_versions(open_door: Any) -> None:
    async with open_door(routes=VERSIONS) as door:
        _, document, _ = await door.call("GET", "/openapi.json")
    old, new = (document["paths"][f"/api/{version}/thing"]["get"] for version in ("v1", "v2"))
    assert old["deprecated"] is True
    assert "deprecated" not in new
    assert {"Deprecation", "Sunset", "Link"} <= old["responses"]["200"]["headers"].keys()
    assert old["operationId"] != new["operationId"]


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/api/v1/public", None, 503),
        ("/api/v1/public", "member", 503),
        ("/api/v1/public", "editor", 503),
        ("/api/v1/public", "admin", 200),
        ("/api/v1/own", None, 503),
        ("/api/v1/own", "old", 503),
        ("/api/v1/own", "editor", 503),
        ("/api/v1/own", "admin", 200),
        ("/api/v1/login", None, 200),
        ("/api/v1/login", "member", 200),
        ("/api/v1/flags", None, 401),
        ("/api/v1/flags", "member", 403),
        ("/api/v1/flags", "admin", 200),
        ("/api/v1/nothing", None, 404),
        ("/health", None, 200),
        ("/ready", None, 200),
        ("/docs", None, 200),
    ],
)
async def test_in_maintenance_only_admins_and_the_way_in_are_served(
    open_door: Any, path: str, token: str | None, status: int
) -> None:
    closed = True
    async with open_door(routes=OPEN, maintenance=lambda: closed) as door:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with door.client.get(path, headers=headers) as response:
            assert response.status == status
            if status == 503:
                assert (await response.json())["error"]["code"] == "SERVER_MAINTENANCE_007"
                assert response.headers["Retry-After"] == "60"
        closed = False
        assert (await door.call("GET", "/api/v1/public"))[0] == 200


def test_the_real_ways_in_stay_open() -> None:
    paths = {route.path for route in ROUTES if route.open_in_maintenance}
    assert {"/auth/login", "/auth/refresh", "/auth/logout"} <= paths
    other = {path for path in paths if not path.startswith(("/auth/", "/flags", "/audit"))}
    # Mail programs do not stop a mail twice; a document asks nothing of the database.
    assert other == {"/notifications/unsubscribe", "/asyncapi.json"}
