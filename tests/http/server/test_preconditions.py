"""If-Match and If-None-Match: one evaluation for every tagged resource and every method (RFC 9110, 13)."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.memory_transport import Memory

from callboard.http.api.routes import ROUTES
from callboard.http.server.preconditions import Condition
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Route, check_tags

ZERO = "00000000-0000-0000-0000-000000000000"
POST = f"/api/v1/posts/{ZERO}"
ALSO_GONE = f"/api/v1/posts/{ZERO[:-1]}1"

# The condition, whether a change with it is made, and how a GET with it is answered. The post's tag is "7".
CONDITIONS: tuple[tuple[dict[str, str], bool, int], ...] = (
    ({"If-Match": '"7"'}, True, 200),
    ({"If-Match": "*"}, True, 200),
    ({"If-Match": ' "1" , "7",'}, True, 200),
    ({"If-Match": '"1","7"'}, True, 200),
    ({"If-Match": '"a,b", "7"'}, True, 200),
    ({"If-Match": '"6"'}, False, 412),
    ({"If-Match": '"1", "2"'}, False, 412),
    ({"If-Match": 'W/"7"'}, False, 412),
    ({"If-Match": '""'}, False, 412),
    ({"If-Match": '"7 "'}, False, 400),
    ({"If-None-Match": '"7"'}, False, 304),
    ({"If-None-Match": 'W/"7"'}, False, 304),
    ({"If-None-Match": '"1", W/"7"'}, False, 304),
    ({"If-None-Match": "*"}, False, 304),
    ({"If-None-Match": '"6"'}, True, 200),
    ({"If-None-Match": 'W/"6", "8"'}, True, 200),
    ({"If-Match": '"7"', "If-None-Match": '"7"'}, False, 304),
    ({"If-Match": '"6"', "If-None-Match": '"6"'}, False, 412),
)
NAMES = ("If-Match", "If-None-Match")
# The post was changed at 03:04:05.678901.
SINCE: tuple[tuple[dict[str, str], int], ...] = (
    ({"If-Modified-Since": "Fri, 02 Jan 2026 03:04:05 GMT"}, 304),
    ({"If-Modified-Since": "Fri, 02 Jan 2026 03:04:04 GMT"}, 200),
    ({"If-Modified-Since": "Sat, 03 Jan 2026 00:00:00 GMT"}, 304),
    ({"If-Modified-Since": "Friday, 02-Jan-26 03:04:05 GMT"}, 304),
    ({"If-Modified-Since": "Fri Jan  2 03:04:05 2026"}, 304),
    ({"If-Modified-Since": "Fri, 02 Jan 2026 03:04:05 +0100"}, 200),
    ({"If-Modified-Since": "Sat, 03 Jan 2026 00:00:00 GMT", "If-None-Match": '"6"'}, 200),
    ({"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT", "If-None-Match": '"7"'}, 304),
    ({"If-Modified-Since": "Sat, 03 Jan 2026 00:00:00 GMT", "If-Match": '"6"'}, 412),
    *(
        ({"If-Modified-Since": never}, 200)
        for never in ("", "0", "yesterday", "Fri, 99 Jan 2026 03:04:05 GMT", "Fri, 02 Jan 99999 03:04:05 GMT", '"7"')
    ),
    ({"If-Modified-Since": "Fri, 31 Dec 9999 23:59:59 -2359"}, 200),
    ({"If-Modified-Since": "Mon, 01 Jan 0001 00:00:00 +2359"}, 200),
)
UNCHANGED_SINCE: tuple[tuple[dict[str, str], bool], ...] = (
    ({"If-Unmodified-Since": "Fri, 02 Jan 2026 03:04:05 GMT"}, True),
    ({"If-Unmodified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, True),
    ({"If-Unmodified-Since": "Fri, 02 Jan 2026 03:04:04 GMT"}, False),
    ({"If-Unmodified-Since": "Thursday, 01-Jan-26 00:00:00 GMT"}, False),
    ({"If-Unmodified-Since": "Fri, 02 Jan 2026 03:04:05 +0100"}, False),
    ({"If-Unmodified-Since": "yesterday"}, True),
    ({"If-Unmodified-Since": ""}, True),
    ({"If-Unmodified-Since": "Thu, 01 Jan 2026 00:00:00 GMT", "If-Match": '"7"'}, True),
    ({"If-Unmodified-Since": "Fri, 01 Jan 2100 00:00:00 GMT", "If-Match": '"6"'}, False),
    ({"If-Unmodified-Since": "Thu, 01 Jan 2026 00:00:00 GMT", "If-None-Match": '"6"'}, False),
)
MALFORMED = ("7", "", '"7', '7"', 'w/"7"', '"7" "8"', '*, "7"', '"7", *', 'W/ "7"', "'7'", ",", "**")


@pytest.mark.parametrize(("headers", "made", "read"), CONDITIONS)
async def test_a_condition_is_held_against_the_tag_of_the_resource(
    door: Any, headers: dict[str, str], *, made: bool, read: int
) -> None:
    status, _, response = await door.call("GET", POST, headers=headers)
    assert status == read
    assert (response.headers.get("ETag") == '"7"') == (read in (200, 304))
    refused = 400 if read == 400 else 412
    for method, done in (("DELETE", 204), ("PATCH", 200)):
        assert (await door.call(method, POST, headers=headers))[0] == (done if made else refused)
    if "If-Match" in headers:
        status, body, _ = await door.call("PUT", POST, headers=headers)
        assert (status, status == 200 and body["data"]) == ((200, "7") if made else (refused, False))


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("name", NAMES)
async def test_what_is_no_list_of_tags_is_refused_by_name(door: Any, method: str, name: str) -> None:
    for value in MALFORMED:
        sent = {"If-Match": "*", name: value}
        status, body, _ = await door.call(method, POST, headers=sent)
        assert (status, body["error"]["field"]) == (400, name), value


@pytest.mark.parametrize(("headers", "status"), SINCE)
async def test_a_time_is_held_against_that_of_the_last_change(door: Any, headers: dict[str, str], status: int) -> None:
    for method in ("GET", "HEAD"):
        async with door.client.request(method, POST, headers=headers) as response:
            assert response.status == status
            if status != 412:
                assert response.headers["Last-Modified"] == "Fri, 02 Jan 2026 03:04:05 GMT"
                assert response.headers["ETag"] == '"7"'
    if "If-Match" not in headers:
        assert (await door.call("DELETE", POST, headers={"If-Match": '"7"', **headers}))[0] == (
            412 if headers.get("If-None-Match") == '"7"' else 204
        )


@pytest.mark.parametrize(("headers", "made"), UNCHANGED_SINCE)
async def test_a_change_is_held_against_the_time_that_the_client_has_read(
    door: Any, headers: dict[str, str], *, made: bool
) -> None:
    for method, done in (("GET", 200), ("HEAD", 200), ("PATCH", 200), ("DELETE", 204)):
        async with door.client.request(method, POST, headers=headers) as response:
            assert response.status == (done if made else 412), method


async def test_what_has_no_time_ignores_a_time(door: Any) -> None:
    late = {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
    for path in ("/api/v1/board", "/health"):
        assert (await door.call("GET", path, headers=late))[0] == 200


async def test_a_time_that_is_yet_to_come_is_not_sent_and_never_holds(door: Any) -> None:
    late = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    for headers, expected in (({}, 200), (late, 200), ({"If-None-Match": '"1"', **late}, 304)):
        status, _, response = await door.call("GET", "/api/v1/ahead", headers=headers)
        assert (status, "Last-Modified" in response.headers) == (expected, False)


async def test_what_is_public_is_kept_by_any_cache_which_asks_each_time_and_what_a_token_shows_by_none_but_ones_own(
    door: Any,
) -> None:
    member = {"Authorization": "Bearer member"}
    kept = [("Vary", "Authorization"), ("Cache-Control", "public, no-cache")]
    for path in (POST, "/api/v1/board"):
        _, _, stranger = await door.call("GET", path)
        assert [(name, stranger.headers[name]) for name, _ in kept] == kept
        again = {"If-None-Match": stranger.headers["ETag"]}
        status, _, unchanged = await door.call("GET", path, headers=again)
        assert (status, [(name, unchanged.headers[name]) for name, _ in kept]) == (304, kept)
    _, _, own = await door.call("GET", POST, headers=member)
    assert (own.headers["Cache-Control"], own.headers["Vary"]) == ("private, no-cache", "Authorization")
    for refused in ((ALSO_GONE, {}), (POST, {"If-Match": '"6"'}), (POST, {"Authorization": "Bearer old"})):
        _, _, response = await door.call("GET", refused[0], headers=refused[1])
        assert (response.status >= 400, response.headers["Cache-Control"]) == (True, "no-store")


async def test_a_page_that_is_public_has_a_tag_of_its_bytes_and_a_callers_own_has_none(door: Any) -> None:
    _, _, first = await door.call("GET", "/api/v1/board?limit=3")
    _, _, other = await door.call("GET", "/api/v1/board?limit=4")
    assert first.headers["ETag"] != other.headers["ETag"]
    for headers in ({}, {"If-None-Match": first.headers["ETag"]}, {"If-None-Match": "*"}):
        sent = {**headers, "Authorization": "Bearer member"}
        status, body, response = await door.call("GET", "/api/v1/board?limit=3", headers=sent)
        assert (status, "ETag" in response.headers, response.headers["Cache-Control"]) == (200, False, "no-store")
        assert body["data"] == ["public", "a draft of member@example.org"]
    malformed = {"If-Match": "rubbish", "Authorization": "Bearer member"}
    assert (await door.call("GET", "/api/v1/board?limit=3", headers=malformed))[0] == 400
    assert (await door.call("GET", "/api/v1/board", headers={"If-Match": '"6"'}))[0] == 412
    assert (await door.call("POST", "/api/v1/board", json={"title": "a"}))[0] == 201


async def test_a_list_on_several_lines_is_one_list(door: Any) -> None:
    for name, status in (("If-Match", 204), ("If-None-Match", 412)):
        lines = [(name, '"1"'), (name, '"7"')]
        assert (await door.call("DELETE", POST, headers=lines))[0] == status


async def test_an_edit_that_needs_a_condition_is_428_without_and_the_others_go_on(door: Any) -> None:
    assert (await door.call("PUT", POST))[0] == 428
    assert (await door.call("PUT", POST, headers={"If-None-Match": '"1"'}))[0] == 428
    assert (await door.call("PATCH", POST))[1]["data"] == "unconditional"
    assert (await door.call("DELETE", POST))[0] == 204


async def test_what_is_not_there_is_404_whatever_the_condition_says(door: Any) -> None:
    for headers in ({"If-Match": '"7"'}, {"If-Match": "*"}, {"If-Match": "*", "If-None-Match": "*"}):
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            assert (await door.call(method, ALSO_GONE, headers=headers))[0] == 404


async def test_head_is_answered_as_get_and_a_304_has_no_body_and_no_length(door: Any) -> None:
    sent = f'HEAD {POST} HTTP/1.1\r\nHost: a\r\nIf-None-Match: "7"\r\nConnection: close\r\n\r\n'
    for method in ("HEAD", "GET"):
        received = await door.raw(sent.replace("HEAD", method).encode())
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 304 ")
        assert body == b""
        assert b"Content-Length" not in head
        assert b"\r\nContent-Type" not in head
        assert b'ETag: "7"' in head
        assert b"X-Request-ID: " in head


async def test_what_has_no_tag_looks_at_no_condition(door: Any) -> None:
    for headers in ({"If-Match": '"1"'}, {"If-None-Match": "*"}, {"If-None-Match": "rubbish"}):
        assert (await door.call("GET", "/health", headers=headers))[0] == 200
        assert (await door.call("POST", "/api/v1/posts", json={"title": "a"}, headers=headers))[0] == 201


async def reads(request: HttpRequest[None, None, Any]) -> Reply[str]:  # noqa: ARG001 - a handler's face
    return Reply("read", etag="7")


async def changes(request: HttpRequest[None, None, Any]) -> Reply[str | None]:
    return Reply(request.tag, etag="8")


async def seven(request: HttpRequest[Any, Any, Any]) -> str:  # noqa: ARG001 - a handler's face
    return "7"


def stand_in(route: Route[Any]) -> Route[Any]:
    """The route as the table has it, open to all, with a handler that needs no database."""
    handler, current = (changes, seven) if route.makes_changes else (reads, None)
    return replace(route, handler=handler, current=current, access=Access.PUBLIC, limit=None, status=200, validate=None)


CONDITIONAL = {f"{route.method} {route.full_path('/api/v1')}": route for route in ROUTES if route.is_conditional}


@pytest.mark.parametrize("name", CONDITIONAL)
async def test_every_conditional_route_of_the_table_evaluates_every_condition(name: str) -> None:
    route = CONDITIONAL[name]
    memory = Memory((stand_in(route),))
    method, path = re.sub(r"\{[a-z_]+_id\}", ZERO, name).split(" ", 1)
    path = re.sub(r"\{[a-z_]+\}", "name", path)

    async def status(*lines: str, method: str = method) -> int:
        sent = "\r\n".join((f"{method} {path} HTTP/1.1", "Host: a", *lines, "", ""))
        heard = await memory.hear(sent.encode(), head=method == "HEAD")
        return heard.statuses[0]

    lines = [(tuple(f"{each}: {value}" for each, value in sent.items()), made, read) for sent, made, read in CONDITIONS]
    lines += [(("If-Match: *", f"{each}: {value}"), False, 400) for each in NAMES for value in MALFORMED]
    lines += [(('If-Match: "1"', 'If-Match: "7"'), True, 200), (('If-Match: "1"', 'If-Match: "2"'), False, 412)]
    lines += [(('If-None-Match: "1"', 'If-None-Match: W/"7"'), False, 304)]
    for sent, made, read in lines:
        expected = read
        if route.makes_changes:
            expected = 200 if made else 400 if read == 400 else 412
            if route.match_missing is not None and not any(line.startswith("If-Match") for line in sent):
                expected = 428
        assert await status(*sent) == expected, sent
        if not route.makes_changes:
            assert await status(*sent, method="HEAD") == expected, sent
    without = 200 if route.match_missing is None else 428
    assert await status() == without


def test_a_table_that_lets_a_tagged_resource_be_changed_without_its_tag_is_refused() -> None:
    check_tags(ROUTES)
    for number, route in enumerate(ROUTES):
        if route.current is not None:
            with pytest.raises(TypeError, match="ETag"):
                check_tags([*ROUTES[:number], replace(route, current=None, has_etag=True), *ROUTES[number + 1 :]])


opaque = st.text(st.characters(codec="ascii", exclude_characters='"', min_codepoint=0x21, max_codepoint=0x7E))


@given(tag=opaque, others=st.lists(opaque), known=st.booleans())
def test_of_two_conditions_with_the_same_tags_exactly_one_holds(tag: str, others: list[str], *, known: bool) -> None:
    tags = tuple(f'"{each}"' for each in ([*others, tag] if known else [each for each in others if each != tag]))
    assert Condition(tags, None).holds_for(tag) is known
    assert Condition(None, tags).holds_for(tag) is not known
    weak = tuple(f"W/{each}" for each in tags)
    assert not Condition(weak, None).holds_for(tag)
    assert Condition(None, weak).holds_for(tag) is not known
