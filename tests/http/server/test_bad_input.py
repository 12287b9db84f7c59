"""Whatever a client sends gets the envelope with its stable code, and the server goes on."""

import json
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.property_examples import examples
from yarl import URL

from callboard.actors.errors import Problem
from callboard.http.api.routes import ROUTES
from callboard.http.server.client_ip import Proxies, network
from callboard.http.server.raw_request import Settings
from callboard.http.server.request import Body
from callboard.http.server.routing import shape_of
from callboard.http.server.validation import BodyReader, QueryReader, times_of

JSON_TYPE = "application/json"
JSON = {"Content-Type": JSON_TYPE}
POSTS = "/api/v1/posts"


def posted(data: bytes, headers: dict[str, str] | None = None) -> tuple[str, str, dict[str, Any]]:
    return "POST", POSTS, {"data": data, "headers": JSON if headers is None else headers}


def known_by(authorization: str) -> tuple[str, str, dict[str, Any]]:
    return "GET", "/api/v1/access/user/x", {"headers": {"Authorization": authorization}}


BAD: dict[str, tuple[tuple[str, str, dict[str, Any]], int, str]] = {
    "malformed JSON": (posted(b'{"title":'), 400, "REQUEST_MALFORMED_002"),
    "an empty body": (posted(b""), 400, "REQUEST_MALFORMED_002"),
    "a byte order mark": (posted(b'\xef\xbb\xbf{"title":"a"}'), 400, "REQUEST_MALFORMED_002"),
    "bytes that are no UTF-8": (posted(b'{"title":"\xff"}'), 400, "REQUEST_MALFORMED_002"),
    "a lone surrogate": (posted(rb'{"title":"\ud800"}'), 400, "REQUEST_MALFORMED_002"),
    "an encoded surrogate": (posted(b'{"title":"\xed\xa0\x80"}'), 400, "REQUEST_MALFORMED_002"),
    "deep nesting": (posted(b'{"extra":' + b"[" * 9000), 400, "REQUEST_MALFORMED_002"),
    "closed deep nesting": (posted(b'{"extra":' + b"[" * 4900 + b"]" * 4900 + b"}"), 400, "REQUEST_MALFORMED_002"),
    "a wrong type before broken syntax": (posted(b'{"title":1,'), 400, "REQUEST_MALFORMED_002"),
    "a list for an object": (posted(b"[]"), 400, "REQUEST_INVALID_001"),
    "null": (posted(b"null"), 400, "REQUEST_INVALID_001"),
    "a wrong type": (posted(b'{"title":1}'), 400, "REQUEST_INVALID_001"),
    "an unknown field": (posted(b'{"title":"a","is_admin":true}'), 400, "REQUEST_INVALID_001"),
    "a NUL": (posted(rb'{"title":"a\u0000"}'), 400, "REQUEST_INVALID_001"),
    "a NUL in a key": (posted(rb'{"title":"a","extra":{"\u0000":1}}'), 400, "REQUEST_INVALID_001"),
    "a huge integer": (posted(b'{"title":"a","stars":' + b"9" * 5000 + b"}"), 400, "REQUEST_INVALID_001"),
    "a huge float": (posted(b'{"title":"a","extra":1e999}'), 400, "REQUEST_INVALID_001"),
    "a body over the limit": (posted(b'"' + b"a" * 20_000 + b'"'), 413, "REQUEST_TOO_LARGE_003"),
    "no content type": (posted(b"{}", {"Content-Type": ""}), 415, "REQUEST_UNSUPPORTED_004"),
    "a form": (
        posted(b"title=a", {"Content-Type": "application/x-www-form-urlencoded"}),
        415,
        "REQUEST_UNSUPPORTED_004",
    ),
    "another charset": (
        posted(b"{}", {"Content-Type": "application/json; charset=utf-16"}),
        415,
        "REQUEST_UNSUPPORTED_004",
    ),
    "a compressed body": (posted(b"{}", {**JSON, "Content-Encoding": "gzip"}), 415, "REQUEST_UNSUPPORTED_004"),
    "an unknown route": (("GET", "/api/v1/nothing", {}), 404, "ROUTE_NOT_FOUND_001"),
    "a path that is no UTF-8": (("GET", "/api/v1/fail/%ff", {}), 404, "ROUTE_NOT_FOUND_001"),
    "a NUL in the path": (("GET", "/api/v1/fail/%00", {}), 404, "ROUTE_NOT_FOUND_001"),
    "an unknown method": (("PATCH", POSTS, {}), 405, "ROUTE_METHOD_002"),
    "an invented method": (("BREW", POSTS, {}), 501, "REQUEST_METHOD_UNKNOWN_014"),
    "an unknown parameter": (("GET", f"{POSTS}?sort=x", {}), 400, "REQUEST_INVALID_001"),
    "a parameter given twice": (("GET", f"{POSTS}?limit=1&limit=2", {}), 400, "REQUEST_INVALID_001"),
    "a missing parameter": (("GET", f"{POSTS}/search", {}), 400, "REQUEST_INVALID_001"),
    "a NUL in a parameter": (("GET", f"{POSTS}/search?q=%00", {}), 400, "REQUEST_INVALID_001"),
    "a parameter that is no UTF-8": (
        ("GET", URL(f"{POSTS}/search?q=a%ff", encoded=True), {}),
        400,
        "REQUEST_INVALID_001",
    ),
    "an empty cursor": (("GET", f"{POSTS}?cursor=", {}), 400, "REQUEST_INVALID_001"),
    "a key twice": (posted(b'{"title":"a","title":"b"}'), 400, "REQUEST_INVALID_001"),
    "an escaped key twice": (posted(rb'{"title":"a","t\u0069tle":"b:"}'), 400, "REQUEST_INVALID_001"),
    "a key twice further in": (posted(b'{"title":"a","extra":[{"b":1,"b":1}]}'), 400, "REQUEST_INVALID_001"),
    "a limit of nothing": (("GET", f"{POSTS}?limit=0", {}), 400, "REQUEST_INVALID_001"),
    "a made-up cursor": (("GET", f"{POSTS}?cursor=abc", {}), 400, "REQUEST_CURSOR_INVALID_006"),
    "a cursor that is no ASCII": (("GET", f"{POSTS}?cursor=%C3%A9", {}), 400, "REQUEST_CURSOR_INVALID_006"),
    "a bad token": (
        ("GET", "/api/v1/access/user/x", {"headers": {"Authorization": "Bearer x"}}),
        401,
        "AUTH_TOKEN_INVALID_003",
    ),
    "another scheme": (
        ("GET", "/api/v1/access/user/x", {"headers": {"Authorization": "Basic x"}}),
        401,
        "AUTH_TOKEN_INVALID_003",
    ),
    "a token that is no ASCII": (
        ("GET", "/api/v1/access/user/x", {"headers": {"Authorization": "Bearer é"}}),
        401,
        "AUTH_TOKEN_INVALID_003",
    ),
    "a bad timeout": (("GET", POSTS, {"headers": {"X-Request-Timeout": "nan"}}), 400, "REQUEST_INVALID_001"),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_input_gets_the_envelope_and_the_server_goes_on(door: Any, case: str) -> None:
    (method, path, options), status, code = BAD[case]
    answered, body, response = await door.call(method, path, **options)
    assert (answered, body["error"]["code"]) == (status, code)
    assert body["status"] == "error"
    assert len(body["error"]["trace_id"]) == 32
    assert response.headers["X-Request-ID"]
    assert (await door.call("GET", "/health"))[0] == 200


async def test_what_is_unsupported_says_what_is_not(door: Any) -> None:
    for headers in ({"Content-Type": "text/plain"}, {**JSON, "Content-Encoding": "gzip"}):
        _, _, response = await door.call("POST", POSTS, data=b"{}", headers=headers)
        assert (response.status, response.headers["Accept"]) == (415, "application/json")
        assert response.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("time", ["0001-01-02T00:00:00Z", "9999-12-31T23:59:59Z", "9999-01-01T00:00:00-12:00"])
def test_no_time_of_a_client_is_so_near_to_the_ends_of_time_that_counting_from_it_fails(time: str) -> None:
    read = 0
    for shape in map(shape_of, ROUTES):
        for _, name in times_of(shape.query):
            with pytest.raises(Problem) as refused:
                QueryReader(shape.query).read(((name, time),))
            assert name in [detail.field for detail in refused.value.details]
            read += 1
    assert read


async def test_colons_in_text_are_no_keys(door: Any) -> None:
    for body in (b'{"title":"a:b:\\":"}', b'{"title":"a","extra":{"a":{"a":":"},"b":[{"a":1},{"a":1}]}}'):
        assert (await door.call("POST", POSTS, data=body, headers=JSON))[0] == 201


async def test_every_invalid_field_is_named_by_its_path(door: Any) -> None:
    body = {"stars": "x", "tags": ["a", 1, "b", 2], "author": {"name": "", "age": 1}, "more": 1, "extra": ["\0"]}
    _, answer, _ = await door.call("POST", POSTS, json=body)
    named = [detail["field"] for detail in answer["error"]["details"]]
    assert sorted(named) == ["author.age", "author.name", "extra[0]", "more", "stars", "tags[1]", "tags[3]", "title"]
    assert answer["error"]["field"] == named[0]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (posted(b'{"title":"a",}'), "byte 13"),
        (posted(b'{"title":'), "truncated"),
        (posted(b'{"title":1,'), "truncated"),
        (posted(b'{"title":"\xff"}'), "not UTF-8"),
        (posted(b'{"extra":' + b"[" * 4900 + b"]" * 4900 + b"}"), "nested too deeply"),
        (posted(b"{}", {**JSON, "Content-Encoding": "gzip"}), "Content-Encoding"),
    ],
)
async def test_what_cannot_be_read_is_told_with_its_reason(door: Any, sent: Any, told: str) -> None:
    method, path, options = sent
    _, answer, _ = await door.call(method, path, **options)
    assert told in answer["error"]["message"]


async def test_a_bad_cursor_is_named_as_any_other_parameter(door: Any) -> None:
    _, answer, _ = await door.call("GET", f"{POSTS}?cursor=abc")
    assert [detail["field"] for detail in answer["error"]["details"]] == ["cursor"]


async def test_every_invalid_parameter_is_named(door: Any) -> None:
    _, answer, _ = await door.call("GET", f"{POSTS}?limit=x&colour=red&mark=a&mark=b")
    assert {detail["field"] for detail in answer["error"]["details"]} == {"limit", "colour"}


EARLY = "0001-01-02T00:00:00Z"


class Meeting(msgspec.Struct, forbid_unknown_fields=True):
    room: str
    seats: int = 1
    at: datetime | None = None


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ([("at", EARLY)], ["room", "at"]),
        ([("at", EARLY), ("seats", "x"), ("colour", "red")], ["room", "seats", "at", "colour"]),
        ([("at", EARLY), ("seats", "1e2")], ["seats", "room", "at"]),
        ([("room", "a"), ("seats", "1.0")], ["seats"]),
        ([("at", EARLY), ("room", "\0"), ("seats", "1"), ("seats", "2")], ["room", "seats", "at"]),
    ],
)
def test_no_fault_of_a_query_hides_another(sent: list[tuple[str, str]], named: list[str]) -> None:
    with pytest.raises(Problem) as refused:
        QueryReader(Meeting).read(sent)
    assert [detail.field for detail in refused.value.details] == named


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ('{"at":"%s"}', ["room", "at"]),
        ('{"at":"%s","room":"\\u0000","seats":"x"}', ["room", "seats", "at"]),
        ('{"at":"%s","room":"a","seats":1,"seats":2}', ["seats", "at"]),
        ('{"at":"%s","room":"a","seats":1,"seats":"x","colour":1}', ["seats", "at", "colour"]),
    ],
)
def test_no_fault_of_a_body_hides_another(sent: str, named: list[str]) -> None:
    with pytest.raises(Problem) as refused:
        BodyReader(Meeting).read((sent % EARLY).encode())
    assert [detail.field for detail in refused.value.details] == named


class Sparse(Body, frozen=True, kw_only=True):
    title: str
    note: str | None = None
    tags: list[str] = msgspec.field(default_factory=list)


class Completed(Sparse, frozen=True, kw_only=True):
    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "note", self.title)


@pytest.mark.parametrize("kind", [Sparse, Completed])
@pytest.mark.parametrize(
    ("twice", "sent"),
    [
        ("title", b'{"title":"a","title":"b"}'),
        ("title", b'{"title":"a","note":null,"tags":["b"],"title":"b"}'),
        ("note", b'{"title":"a","note":"b","note":null}'),
        ("note", b'{"title":"a","note":null,"note":"b"}'),
        ("tags", b'{"title":"a","tags":[],"tags":["b"],"note":"b"}'),
        ("", b'{"title":"a","note":":","tags":[":"]}'),
        ("", b'{"title":"a","note":"b","tags":["b"]}'),
        ("", b'{"title":":"}'),
    ],
)
def test_a_key_twice_is_refused_whatever_its_values_and_defaults_are(kind: type, twice: str, sent: bytes) -> None:
    with pytest.raises(Problem) if twice else nullcontext() as refused:
        BodyReader(kind).read(sent)
    assert refused is None or [detail.field for detail in refused.value.details] == [twice]


async def test_a_malformed_id_is_not_found_just_like_an_unknown_one(door: Any) -> None:
    unknown = await door.call("GET", f"{POSTS}/00000000-0000-0000-0000-000000000001")
    malformed = await door.call("GET", f"{POSTS}/1")
    bare = await door.call("GET", f"{POSTS}/{'0' * 32}")
    for status, body, _ in (unknown, malformed, bare):
        assert (status, body["error"]["code"]) == (404, "CONTENT_NOT_FOUND_001")


async def test_a_large_body_without_a_length_is_refused(door: Any) -> None:
    chunk = b"a" * 4000
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for _ in range(5)) + b"0\r\n\r\n"
    head = b"POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    received = await door.raw(head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"REQUEST_TOO_LARGE_003" in received


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n", 431),
        (b"POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (b"POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"BREW /health HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET /health HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
    ],
    ids=[
        *("no HTTP", "TLS", "a long header", "a long path", "many headers", "two lengths", "another coding"),
        *("another method", "another version", "no host"),
    ],
)
async def test_what_is_no_http_gets_the_envelope_and_the_end(door: Any, sent: bytes, status: int) -> None:
    received = await door.raw(sent)
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert b'"code":"REQUEST_' in received
    assert b"\r\nX-Request-ID: " in received
    assert (await door.call("GET", "/health"))[0] == 200


async def test_what_is_no_http_gets_the_envelope_behind_a_proxy_too(open_door: Any) -> None:
    trusting = Settings(proxies=Proxies([network("127.0.0.1")]))
    async with open_door(settings=trusting) as door:
        received = await door.raw(b"BREW /health HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
    assert b"REQUEST_METHOD_UNKNOWN_014" in received


async def test_broken_chunks_are_no_bug_of_ours(door: Any) -> None:
    head = b"POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    received = await door.raw(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")
    assert b" 400 " in received.split(b"\r\n", 1)[0]
    assert b"text/plain" not in received


async def test_duplicate_headers_do_no_harm(door: Any) -> None:
    head = b"GET /api/v1/access/user/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    received = await door.raw(head + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 4")


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["title", "stars", "tags", "author", "extra", "x"]), inner, max_size=4
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
async def test_arbitrary_bodies_never_give_a_5xx(door: Any, data: bytes) -> None:
    status, body, _ = await door.call("POST", POSTS, data=data, headers=JSON)
    assert status in (201, 400, 413)
    assert body["status"] == ("success" if status == 201 else "error")
