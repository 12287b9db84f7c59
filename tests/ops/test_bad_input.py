"""Whatever a client sends to the real routes gets the envelope with its stable code, and no actor crashes of it."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.running import Answer, Up, request

from callboard.actors.infrastructure.token_signer import Signer
from callboard.http.server.errors import status_of
from callboard.ops.departments import OURS, declared_by

DEEP = b'{"title":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
NOBODY = "0d3b4f5e-1c6a-4f5b-9e2d-7a8b9c0d1e2f"  # the id of nothing; fixed, as names of tests are
REGISTER = "/auth/register"
GOOD = {"email": "ada@example.org", "password": "Quiet-Wings-7", "full_name": "Ada", "terms_accepted": True}

CODES = {code.name: code for code in declared_by(OURS).errors}


@pytest.fixture(scope="module", autouse=True)
def unharmed(up: Up) -> Iterator[None]:
    """The same process, and no actor of it restarted."""
    before = restarts(up)
    yield
    assert up.process.poll() is None
    assert restarts(up) == before
    assert {node["state"] for node in up.nodes().values()} == {"running"}
    assert [line for line in up.log() if "crashed" in line["message"] or line.get("exception")] == []


def restarts(up: Up) -> dict[str, int]:
    return {path: node.get("restarts", 0) for path, node in up.nodes().items()}


@pytest.fixture(scope="module")
def author(up: Up) -> dict[str, str]:
    return up.join()


def refused(answer: Answer, status: int, code: str) -> None:
    """Hold an answer against what it should be."""
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.body["status"] == "error"
    assert len(answer.body["error"]["trace_id"]) == 32
    assert answer.headers["X-Request-ID"]
    assert status_of(CODES[code]) == status


@pytest.mark.parametrize(
    "bad",
    [
        (b"{", 400, "REQUEST_MALFORMED_002"),
        (b"", 400, "REQUEST_MALFORMED_002"),
        (b'{"email":"\xff"}', 400, "REQUEST_MALFORMED_002"),
        (DEEP, 400, "REQUEST_MALFORMED_002"),
        (b"[]", 400, "REQUEST_INVALID_001"),
        (b"null", 400, "REQUEST_INVALID_001"),
        (b"{}", 400, "REQUEST_INVALID_001"),
        (b'"' + b"a" * (1 << 20) + b'"', 413, "REQUEST_TOO_LARGE_003"),
    ],
    ids=["malformed", "empty", "no UTF-8", "deep", "a list", "null", "nothing in it", "too large"],
)
@pytest.mark.parametrize(
    "route",
    [
        ("POST", REGISTER, False),
        ("POST", "/auth/login", False),
        ("POST", "/auth/verify-email", False),
        ("POST", "/auth/resend-verification", False),
        ("POST", "/content", True),
        ("PUT", f"/content/{NOBODY}", True),
        ("POST", f"/content/{NOBODY}/transitions", True),
    ],
)
def test_a_bad_body_is_refused_by_every_route_that_takes_one(
    up: Up, author: dict[str, str], route: tuple[str, str, bool], bad: tuple[bytes, int, str]
) -> None:
    (method, path, needs_token), (raw, status, code) = route, bad
    token = author["token"] if needs_token else ""
    refused(request(method, up.api + path, token=token, raw=raw, headers={"If-Match": '"1"'}), status, code)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": 1}, "email"),
        ({"email": "no address"}, "email"),
        ({"email": "a\0@example.org"}, "email"),
        ({"email": "a" * 300 + "@example.org"}, "email"),
        ({"password": None}, "password"),
        ({"password": "Ab1" * 100}, "password"),
        ({"password": "weak"}, "password"),
        ({"password": "Wings\0Wings-7"}, "password"),
        ({"full_name": " "}, "full_name"),
        ({"full_name": "Ada\0"}, "full_name"),
        ({"terms_accepted": "yes"}, "terms_accepted"),
        ({"terms_accepted": False}, "terms_accepted"),
        ({"role": "admin"}, "role"),
        ({"\0": 1}, None),
    ],
    ids=str,
)
def test_a_wrong_field_of_a_registration_is_named(up: Up, change: dict[str, Any], field: str | None) -> None:
    answer = up.call("POST", REGISTER, body=GOOD | change)
    refused(answer, 400, "REQUEST_INVALID_001")
    assert field is None or field in {detail["field"] for detail in answer.body["error"]["details"]}


@pytest.mark.parametrize(
    "body",
    [
        {"email": "nobody", "password": "weak"},
        {"email": "nobody", "password": "weak", "full_name": "", "terms_accepted": False},
        {"email": "nobody", "password": "weak", "full_name": " ", "terms_accepted": False},
        {"email": "nobody", "password": "weak", "full_name": "\0", "terms_accepted": False},
        {"email": "nobody", "password": "Ab1" * 100, "full_name": 1, "terms_accepted": False},
    ],
    ids=str,
)
def test_every_wrong_field_of_a_registration_is_named_at_once_in_form_or_in_content(up: Up, body: Any) -> None:
    answer = up.call("POST", REGISTER, body=body)
    refused(answer, 400, "REQUEST_INVALID_001")
    assert {detail["field"] for detail in answer.body["error"]["details"]} == GOOD.keys()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/users/me", {"email": "nobody", "full_name": ""}),
        ("/users/me/profile", {"avatar_url": "javascript:x", "bio": 5, "preferences": {"a": "x" * 9000}}),
    ],
)
def test_every_wrong_field_of_an_account_is_named_at_once(
    up: Up, author: dict[str, str], path: str, body: dict[str, Any]
) -> None:
    answer = request("PUT", up.api + path, token=author["token"], body=body)
    refused(answer, 400, "REQUEST_INVALID_001")
    assert {detail["field"] for detail in answer.body["error"]["details"]} == body.keys()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": "   "}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"title": "a" * 201}, "title"),
        ({"title": ["a"]}, "title"),
        ({"body": "a" * 200_001}, "body"),
        ({"body": "\0"}, "body"),
        ({"category_id": "news"}, "category_id"),
        ({"status": "published"}, "status"),
        ({"author_id": NOBODY}, "author_id"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_field_of_an_article_is_named(
    up: Up, author: dict[str, str], change: dict[str, Any], field: str
) -> None:
    answer = up.call("POST", "/content", token=author["token"], body={"title": "a", "body": "b"} | change)
    refused(answer, 400, "REQUEST_INVALID_001")
    assert [detail["field"] for detail in answer.body["error"]["details"]] == [field]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"])
@pytest.mark.parametrize(("path", "field"), [("/users?created_after=", "created_after"), ("/stats?from=", "from")])
def test_a_time_outside_of_the_years_of_utc_is_refused(up: Up, path: str, field: str, time: str) -> None:
    admin, _, _ = up.people()
    answer = up.call("GET", path + time, token=admin)
    refused(answer, 400, "REQUEST_INVALID_001")
    assert field in {detail["field"] for detail in answer.body["error"]["details"]}


def test_where_there_are_few_right_values_they_are_told(up: Up) -> None:
    admin, _, _ = up.people()
    answer = up.call("GET", "/users?role=king&is_active=maybe", token=admin)
    assert answer.body["error"]["details"] == [
        {"field": "role", "message": "Must be one of member, editor, admin."},
        {"field": "is_active", "message": "Must be true or false."},
    ]


def test_text_that_only_looks_dangerous_is_taken_as_it_is(up: Up, author: dict[str, str]) -> None:
    title = "'; drop table users; -- {{ 7 * 7 }} \u200f \ud7ff 🎭"
    answer = up.call("POST", "/content", token=author["token"], body={"title": title, "body": "%s $1 :name"})
    assert (answer.status, answer.data["title"]) == (201, title)
    unknown = {"title": "a", "body": "b", "category_id": str(uuid4())}
    refused(up.call("POST", "/content", token=author["token"], body=unknown), 400, "CONTENT_CATEGORY_UNKNOWN_008")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "ROUTE_NOT_FOUND_001"),
        ("GET", "/content/%00", 404, "CONTENT_NOT_FOUND_001"),
        ("GET", "/content/not-an-id", 404, "CONTENT_NOT_FOUND_001"),
        ("GET", f"/content/{NOBODY}", 404, "CONTENT_NOT_FOUND_001"),
        ("DELETE", "/content", 405, "ROUTE_METHOD_002"),
        ("PATCH", REGISTER, 405, "ROUTE_METHOD_002"),
        ("GET", "/content?limit=0", 400, "REQUEST_INVALID_001"),
        ("GET", "/content?limit=ten", 400, "REQUEST_INVALID_001"),
        ("GET", "/content?status=lost", 400, "REQUEST_INVALID_001"),
        ("GET", "/content?author=ada", 400, "REQUEST_INVALID_001"),
        ("GET", "/content?colour=red", 400, "REQUEST_INVALID_001"),
        ("GET", "/content?cursor=abc", 400, "REQUEST_CURSOR_INVALID_006"),
        ("GET", "/content/search", 400, "REQUEST_INVALID_001"),
        ("GET", "/content/search?q=", 400, "REQUEST_INVALID_001"),
        ("GET", "/content/search?q=%00", 400, "REQUEST_INVALID_001"),
        ("GET", "/content/search?q=a&cursor=WyJhIl0", 400, "REQUEST_CURSOR_INVALID_006"),
        ("GET", "/users/me", 401, "AUTH_TOKEN_MISSING_002"),
        ("GET", "/stats", 401, "AUTH_TOKEN_MISSING_002"),
    ],
)
def test_a_bad_path_method_or_parameter_has_its_code(up: Up, method: str, path: str, status: int, code: str) -> None:
    answer = up.call(method, path)
    refused(answer, status, code)
    assert ("Allow" in answer.headers) == (status == 405)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize("query", ["'", '"', "&|!", ":*", "-", "a & | b", "\\", "((", "or", "%25", "🎭", "a" * 200])
def test_any_words_can_be_searched_for(up: Up, query: str) -> None:
    answer = request("GET", f"{up.api}/content/search?q={''.join(f'%{byte:02x}' for byte in query.encode())}")
    assert (answer.status, answer.data) == (200, []) or answer.status == 200


@pytest.mark.parametrize(
    "query", ["from=yesterday", "from=2026-01-01T00:00:00", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "x=1"]
)
def test_a_bad_span_of_statistics_is_refused(up: Up, query: str) -> None:
    refused(up.call("GET", f"/stats?{query}", token=up.people()[1]), 400, "REQUEST_INVALID_001")


@pytest.mark.parametrize("span", ["from=0001-01-01T00:00:00Z", "to=9999-12-31T23:59:59Z", "from=9999-12-31T23:59:59Z"])
def test_the_ends_of_time_are_no_bug(up: Up, span: str) -> None:
    assert up.call("GET", f"/stats?{span}", token=up.people()[1]).status in (200, 400)


def test_a_bad_forged_or_expired_token_is_refused(up: Up, author: dict[str, str]) -> None:
    secret = (up.data / "secrets" / "jwt").read_text() * 2
    now = datetime.now(UTC)

    def made(secret: str, issuer: str, age_s: int) -> str:
        return Signer(secret, issuer=issuer, access_ttl_s=900).issue(
            user_id=UUID(author["user_id"]),
            email=author["email"],
            session_id=uuid4(),
            token_id=uuid4(),
            now=now - timedelta(seconds=age_s),
        )

    head, claims, signature = author["token"].split(".")
    for token, code in (
        ("x", "AUTH_TOKEN_INVALID_003"),
        (f"{head}.{claims}.", "AUTH_TOKEN_INVALID_003"),
        (f"eyJhbGciOiJub25lIn0.{claims}.", "AUTH_TOKEN_INVALID_003"),
        (f"{head}.{claims}.{signature[::-1]}", "AUTH_TOKEN_INVALID_003"),
        (made("another secret of 32 bytes or so", "callboard", 0), "AUTH_TOKEN_INVALID_003"),
        (made(secret, "someone else", 0), "AUTH_TOKEN_INVALID_003"),
        (made(secret, "callboard", 1000), "AUTH_TOKEN_EXPIRED_004"),
        (made(secret, "callboard", 0), "AUTH_SESSION_ENDED_005"),  # good, of a session that is not there
    ):
        refused(up.call("GET", "/users/me", token=token), 401, code)
    assert up.call("GET", "/users/me", token=author["token"]).status == 200


def test_another_users_account_and_an_admins_work_are_not_for_members(up: Up, author: dict[str, str]) -> None:
    other = up.join()
    refused(up.call("GET", f"/users/{other['user_id']}", token=author["token"]), 404, "USERS_NOT_FOUND_002")
    path = f"/users/{author['user_id']}"
    refused(up.call("PATCH", path, token=author["token"], body={"role": "admin"}), 403, "AUTH_FORBIDDEN_008")
    admin = up.people()[0]
    for body in ({}, {"role": "owner"}, {"role": None}, {"is_active": 1}, {"email": "a@example.org"}):
        refused(up.call("PATCH", path, token=admin, body=body), 400, "REQUEST_INVALID_001")
    nobody = f"/users/{uuid4()}"
    refused(up.call("PATCH", nobody, token=admin, body={"role": "editor"}), 404, "USERS_NOT_FOUND_002")


def test_an_edit_needs_the_version_it_is_of(up: Up, author: dict[str, str]) -> None:
    draft = up.call("POST", "/content", token=author["token"], body={"title": "a", "body": "b"}).data
    url, body = f"{up.api}/content/{draft['content_id']}", {"title": "c", "body": "d"}

    def put(**headers: str) -> Answer:
        return request("PUT", url, token=author["token"], body=body, headers=headers)

    refused(put(), 428, "CONTENT_IF_MATCH_MISSING_004")
    for tag in ('"2"', '"x"', '"99999999999999999999"', '"-1"'):
        refused(put(**{"If-Match": tag}), 412, "CONTENT_STALE_003")
    assert put(**{"If-Match": '"1"'}).status == 200


def test_the_same_address_cannot_register_twice_whatever_its_case(up: Up) -> None:
    email = up.join()["email"]
    for same in (email, email.upper()):
        refused(up.call("POST", REGISTER, body=GOOD | {"email": same}), 409, "USERS_EMAIL_TAKEN_001")


def test_what_is_no_http_gets_the_envelope_and_the_end(up: Up) -> None:
    port = int(up.facts["HTTP_URL"].rpartition(":")[2])
    for sent, status, code in (
        (b"GARBAGE\r\n\r\n", b"400", b"REQUEST_NOT_HTTP_008"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400", b"REQUEST_NOT_HTTP_008"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"414", b"REQUEST_TARGET_TOO_LONG_011"),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(sent)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        assert received.startswith(b"HTTP/1.1 " + status + b" ")
        assert code in received
