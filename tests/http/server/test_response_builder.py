"""Envelopes, headers, trace context, paging, methods, CORS."""

import re
from typing import Any

import pytest

from callboard.http.server.raw_request import Settings

ZERO = "00000000-0000-0000-0000-000000000000"


async def test_a_success_has_data_and_message(door: Any) -> None:
    status, body, response = await door.call("POST", "/api/v1/posts", json={"title": "a"})
    assert status == 201
    assert body == {"status": "success", "data": {"title": "a", "by": "nobody"}, "message": "Made."}
    assert response.headers["Content-Type"] == "application/json"


async def test_pages_follow_their_cursors_to_the_end(door: Any) -> None:
    seen: list[int] = []
    cursor = ""
    while True:
        _, body, _ = await door.call("GET", f"/api/v1/posts?limit=1000{cursor}")
        seen += body["data"]
        assert body["page"]["limit"] == 100
        if body["page"]["next_cursor"] is None:
            break
        cursor = f"&cursor={body['page']['next_cursor']}"
    assert seen == list(range(250))


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("timeout", 503, "SERVER_TIMEOUT_003"),
        ("full", 503, "SERVER_OVERLOADED_002"),
        ("stopped", 503, "SERVER_UNAVAILABLE_001"),
        ("problem", 404, "CONTENT_NOT_FOUND_001"),
        ("bug", 500, "SERVER_BUG_005"),
    ],
)
async def test_what_a_handler_raises_has_its_answer(door: Any, kind: str, status: int, code: str) -> None:
    answered, body, response = await door.call("GET", f"/api/v1/fail/{kind}")
    assert (answered, body["error"]["code"]) == (status, code)
    assert "secret" not in str(body)
    assert ("Retry-After" in response.headers) == (status == 503)


async def test_rfc_9457_comes_when_asked_for(door: Any) -> None:
    headers = {"Accept": "application/problem+json"}
    _, body, response = await door.call("POST", "/api/v1/posts", json={"title": ""}, headers=headers)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (body["status"], body["code"], body["errors"][0]["field"]) == (400, "REQUEST_INVALID_001", "title")
    assert body["type"].endswith("#REQUEST_INVALID_001")


@pytest.mark.parametrize(
    ("accept", "as_problem"),
    [
        ("application/problem+json", True),
        ("application/json, application/problem+json", True),
        ("application/problem+json;q=0.9, */*;q=0.1", True),
        ("Application/Problem+JSON ; q=1.0", True),
        ("application/json, application/problem+json;q=0.1", False),
        ("application/problem+json;q=0", False),
        ("application/problem+jsonp", False),
        ("*/*", False),
    ],
)
async def test_the_form_of_an_error_is_the_one_that_the_client_weighs_most(
    door: Any, accept: str, *, as_problem: bool
) -> None:
    _, body, response = await door.call("GET", "/nowhere", headers={"Accept": accept})
    assert (response.headers["Content-Type"] == "application/problem+json") is as_problem
    assert ("error" in body) is not as_problem


async def test_who_is_reached_by_https_tells_browsers_to_keep_to_it(open_door: Any) -> None:
    for secure in (True, False):
        async with open_door(Settings(secure=secure)) as door:
            for path in ("/health", "/nowhere"):
                _, _, response = await door.call("GET", path)
                assert ("Strict-Transport-Security" in response.headers) is secure


async def test_a_harmless_request_id_is_kept_and_another_is_not(door: Any) -> None:
    _, _, kept = await door.call("GET", "/health", headers={"X-Request-ID": "my-id_1.2"})
    assert kept.headers["X-Request-ID"] == "my-id_1.2"
    _, _, made = await door.call("GET", "/health", headers={"X-Request-ID": "a b"})
    assert len(made.headers["X-Request-ID"]) == 32


async def test_the_trace_and_the_deadline_reach_the_handler(door: Any) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    door.services.leave.set()
    parent = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    await door.call("GET", "/api/v1/wait", headers=parent)
    (context,) = door.services.contexts
    assert context.traceparent.split("-")[1] == trace_id
    assert context.traceparent.split("-")[2] != "00f067aa0ba902b7"
    assert context.deadline is not None
    _, body, _ = await door.call("GET", "/api/v1/fail/bug", headers=parent)
    assert body["error"]["trace_id"] == trace_id


async def test_a_bad_traceparent_is_replaced(door: Any) -> None:
    _, body, _ = await door.call(
        "GET", "/api/v1/fail/bug", headers={"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}
    )
    assert body["error"]["trace_id"] != "0" * 32


async def test_ids_on_two_lines_are_none(door: Any) -> None:
    traces = [("traceparent", f"00-{letter * 32}-00f067aa0ba902b7-01") for letter in "ab"]
    headers = [*traces, ("X-Request-ID", "first"), ("X-Request-ID", "second")]
    _, body, response = await door.call("GET", "/api/v1/fail/bug", headers=headers)
    assert body["error"]["trace_id"][:8] not in ("a" * 8, "b" * 8)
    assert response.headers["X-Request-ID"] == body["error"]["trace_id"]


async def test_a_lowered_timeout_ends_the_request(door: Any) -> None:
    status, body, _ = await door.call("GET", "/api/v1/wait", headers={"X-Request-Timeout": "0.05"})
    assert (status, body["error"]["code"]) == (503, "SERVER_TIMEOUT_003")


async def test_a_body_that_does_not_come_is_cut(open_door: Any) -> None:
    async with open_door(Settings(timeout_s=0.1)) as door:
        head = b"POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        received = await door.raw(head)
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"REQUEST_SLOW_007" in received


async def test_expect_100_continue_is_answered(door: Any) -> None:
    status, _, _ = await door.call("POST", "/api/v1/posts", json={"title": "a"}, expect100=True)
    assert status == 201


async def test_security_headers_are_on_everything(door: Any) -> None:
    for path in ("/health", "/nothing", "/docs", "/api/v1/fail/bug"):
        async with door.client.get(path) as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["X-Frame-Options"] == "DENY"
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["Server"] == "callboard"
            assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"OPTIONS /api/v1/posts HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 204),
        (b"DELETE /api/v1/posts/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
        (b"PATCH /api/v1/posts HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405),
        (b"POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{}", 415),
        (b"HEAD /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
    ],
)
async def test_security_headers_and_a_request_id_are_on_what_is_refused_early_too(
    door: Any, sent: bytes, status: int
) -> None:
    head = (await door.raw(sent)).split(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 %d " % status)
    for name in (b"X-Content-Type-Options: nosniff", b"X-Frame-Options: DENY", b"Server: callboard", b"X-Request-ID: "):
        assert b"\r\n" + name in head


async def test_head_works_where_get_does(door: Any) -> None:
    status, body, response = await door.call("HEAD", f"/api/v1/posts/{ZERO}")
    assert (status, body, response.headers["ETag"]) == (200, None, '"7"')


async def test_a_405_and_options_say_what_is_allowed(door: Any) -> None:
    _, _, refused = await door.call("PATCH", "/api/v1/posts")
    status, _, options = await door.call("OPTIONS", "/api/v1/posts")
    assert refused.headers["Allow"] == options.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert status == 204


async def test_a_204_has_no_body(door: Any) -> None:
    assert (await door.call("DELETE", f"/api/v1/posts/{ZERO}"))[:2] == (204, None)


async def test_raw_bodies_come_as_they_are(door: Any) -> None:
    assert (await door.call("POST", "/api/v1/signed", data=b"\0\xff", headers={"Content-Type": "x/y"}))[1]["data"] == 2


async def test_cors_allows_the_configured_origins_only(open_door: Any) -> None:
    async with open_door(Settings(origins=frozenset({"https://app.example"}))) as door:
        _, _, good = await door.call("GET", "/health", headers={"Origin": "https://app.example"})
        assert good.headers["Access-Control-Allow-Origin"] == "https://app.example"
        _, _, bad = await door.call("GET", "/health", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in bad.headers
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        status, _, preflight = await door.call("OPTIONS", "/api/v1/posts", headers=asked)
        assert status == 204
        assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]


async def test_each_answer_is_observed_by_its_template(door: Any) -> None:
    await door.call("GET", f"/api/v1/posts/{ZERO}")
    await door.call("GET", "/nothing")
    assert door.observed == [("/api/v1/posts/{content_id}", "GET", 200), ("unmatched", "GET", 404)]


async def test_named_origins_may_send_credentials_and_any_origin_may_not(open_door: Any) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
    async with open_door(Settings(origins=frozenset({"https://app.example"}))) as door:
        _, _, preflight = await door.call("OPTIONS", "/api/v1/posts", headers=asked)
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
        assert preflight.headers["Access-Control-Allow-Methods"] == "GET, POST, PUT, PATCH, DELETE"
        assert preflight.headers["Access-Control-Max-Age"] == "3600"
        assert preflight.headers["Vary"] == "Origin"
        _, _, other = await door.call("GET", "/health", headers={"Origin": "null"})
        assert other.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in other.headers
    async with open_door(Settings(origins=frozenset({"*"}))) as door:
        for method, path in (("OPTIONS", "/api/v1/posts"), ("GET", "/health")):
            _, _, any_origin = await door.call(method, path, headers=asked)
            assert any_origin.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in any_origin.headers


async def test_a_list_header_on_several_lines_is_one_list(door: Any) -> None:
    lines = [("Accept", "application/json;q=0.1"), ("Accept", "application/problem+json")]
    _, _, response = await door.call("GET", "/nowhere", headers=lines)
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(("name", "value"), [("Authorization", "Bearer member"), ("X-Request-Timeout", "5")])
async def test_a_header_that_is_no_list_is_refused_when_it_comes_twice(door: Any, name: str, value: str) -> None:
    status, body, _ = await door.call("GET", "/api/v1/access/user/x", headers=[(name, value)] * 2)
    assert (status, body["error"]["field"]) == (400, name)


async def test_the_start_page_leads_to_what_there_is(door: Any) -> None:
    async with door.client.get("/") as response:
        text = await response.text()
        assert (response.status, response.content_type) == (200, "text/html")
    for path in re.findall(r'href="([^"]+)"', text):
        if path.startswith("/api/v1/content") or path in (
            "/asyncapi.json",
            "/feed.atom",
        ):  # which this table does not have
            continue
        async with door.client.get(path) as response:
            assert response.status == 200, path
    async with door.client.get("/docs/", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (308, "/docs")


async def test_a_page_that_the_client_has_is_not_sent_again(door: Any) -> None:
    for path in ("/", "/openapi.json", "/docs/start.js", "/docs/swagger-ui.css"):
        async with door.client.get(path) as first:
            tag, kept = first.headers["ETag"], first.headers["Cache-Control"]
        async with door.client.get(path, headers={"If-None-Match": tag}) as again:
            assert (again.status, await again.read(), again.headers["Cache-Control"]) == (304, b"", kept)


async def test_pages_are_limited_like_all_else(door: Any) -> None:
    door.limiter.spent.add("default")
    for path in ("/", "/docs", "/docs/swagger-ui-bundle.js", "/openapi.json"):
        async with door.client.get(path) as response:
            assert response.status == 429


async def test_an_early_answer_says_that_the_rest_will_not_be_read(door: Any) -> None:
    """The client that waits for 100 Continue never sends its body: its next request must not be taken for that."""
    for more in (b"Expect: 100-continue\r\n", b""):
        head = b"POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n" + more
        received = await door.raw(head + b"\r\n")
        assert received.startswith(b"HTTP/1.1 415 ")
        assert b"\r\nConnection: close\r\n" in received
        assert b"100 Continue" not in received
