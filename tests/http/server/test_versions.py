"""Versions side by side, routes that are going, and maintenance: on tables of the tests' own."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from callboard.http.api.routes import ROUTES
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Deprecation, Route
from callboard.http.server.versions import in_versions

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
        _, inherited, response = await door.call("GET", "/api/v2/other")
        assert inherited["data"] == "first"
        assert response.headers["Deprecation"] == "@1767225600"
        assert (await door.call("GET", "/api/v2/errors"))[0] == 200  # and what every server has
        assert (await door.call("GET", "/api/v3/other"))[0] == 404


def going(path: str = "/thing", *, version: int = 1, **said: Any) -> Route[object]:
    notice = Deprecation(said.pop("since", SINCE), said.pop("sunset", SUNSET), successor=said.pop("successor", None))
    return Route("GET", path, first, "Going", "things", Access.PUBLIC, version=version, deprecated=notice, **said)


def stays(path: str = "/thing", version: int = 1, **options: Any) -> Route[object]:
    return Route("GET", path, second, "Stays", "things", Access.PUBLIC, version=version, **options)


def paths_of(*routes: Route[object]) -> list[str]:
    return [route.full_path("/api/v1") for route in in_versions(routes, "/api/v1")]


def test_a_version_has_what_the_one_before_it_has_except_what_changed() -> None:
    assert paths_of(stays()) == ["/api/v1/thing"]
    assert paths_of(stays("/kept"), going(), stays(version=2)) == [
        *("/api/v1/kept", "/api/v1/thing"),
        *("/api/v2/kept", "/api/v2/thing"),
    ]
    removed = paths_of(going("/gone", removed_in=2), stays(version=2), stays("/health", absolute=True))
    assert removed == ["/api/v1/gone", "/health", "/api/v2/thing"]
    by_other_names = in_versions((going("/things/{thing_id}"), stays("/things/{other_id}", 2)), "/api/v1")
    assert [(route.version, route.handler) for route in by_other_names] == [(1, first), (2, second)]


def test_two_versions_are_served_and_a_third_ends_the_first() -> None:
    assert paths_of(stays("/kept"), going(version=2), stays(version=3)) == [
        *("/api/v2/kept", "/api/v2/thing"),
        *("/api/v3/kept", "/api/v3/thing"),
    ]
    with pytest.raises(ValueError, match="GET /api/v1/thing is served in no version: remove it"):
        in_versions((going(), stays(version=2), stays("/other", 3)), "/api/v1")


@pytest.mark.parametrize(
    ("routes", "fault"),
    [
        ((stays(), stays(version=2)), "GET /api/v1/thing ends in version 2 and is not deprecated"),
        ((stays(removed_in=2), stays("/x", 2)), "GET /api/v1/thing ends in version 2 and is not deprecated"),
        ((going(sunset=None), stays(version=2)), "its deprecation needs the date of its sunset"),
        ((going(sunset=SUNSET - timedelta(seconds=1)),), "the sunset must be 6 months after the deprecation"),
        (
            (going(since=datetime(2026, 8, 31, tzinfo=UTC), sunset=datetime(2027, 2, 27, tzinfo=UTC)),),
            "at 2027-02-28 00:00:00",
        ),
        ((going(successor="/thing/new"),), "its successor /thing/new is no route of this table"),
        ((going(successor="/api/v2/thing"),), "its successor /api/v2/thing is no route of this table"),
        ((going(removed_in=2),), "is removed in version 2, which is not after its own or not there yet"),
        ((stays(), stays()), "GET /thing is routed twice in version 1"),
    ],
)
def test_a_table_that_gives_no_notice_is_refused(routes: tuple[Route[object], ...], fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        in_versions(routes, "/api/v1")


def test_every_route_of_ours_that_ends_is_in_the_log_of_changes() -> None:
    log = (Path(__file__).parents[3] / "http" / "VERSIONS.md").read_text(encoding="utf-8")
    ending = [route for route in ROUTES if route.deprecated is not None]
    assert ending
    for route in ending:
        assert route.deprecated is not None
        until = f"{route.deprecated.sunset:%Y-%m-%d}" if route.deprecated.sunset else "open"
        assert f"| `{route.method} {route.full_path('/api/v1')}` | {route.deprecated.since:%Y-%m-%d} | {until} |" in log


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
