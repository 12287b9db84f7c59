"""The common rules of the API, each by its name, on the running system. (429 is in test_access.py.)"""

import asyncio
import time
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from kit.locks import locked
from kit.people import Person, UserFactory
from kit.running import Answer, CallboardProcess, Up, request, until
from kit.twins import ProcessGroup

PROBLEM = {"Accept": "application/problem+json"}


@pytest.fixture(scope="module")
def people(up: Up) -> UserFactory:
    return UserFactory(up.facts)


@pytest.fixture(scope="module")
def member(people: UserFactory) -> Person:
    return people.person("member")


def refused(answer: Answer, status: int, code: str) -> Answer:
    assert (answer.status, answer.body["error"]["code"]) == (status, code), answer
    return answer


def ask(up: Up, method: str, path: str, token: str = "", body: Any = None, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(method, up.api + path, token=token, body=body, headers=sent)


# Statuses ------------------------------------------------------------------------------------------------------------


def test_400_names_every_invalid_field(up: Up, member: Person) -> None:
    answer = refused(ask(up, "POST", "/content", member.token, {"title": 1, "x": 1}), 400, "REQUEST_INVALID_001")
    assert {each["field"] for each in answer.body["error"]["details"]} == {"title", "body", "x"}
    malformed = request("POST", f"{up.api}/content", token=member.token, raw=b"{")
    refused(malformed, 400, "REQUEST_MALFORMED_002")


def test_401_says_how_to_authenticate(up: Up, member: Person) -> None:
    missing = refused(ask(up, "GET", "/users/me"), 401, "AUTH_TOKEN_MISSING_002")
    assert missing.headers["WWW-Authenticate"] == 'Bearer realm="callboard"'
    expired = refused(ask(up, "GET", "/users/me", member.expired), 401, "AUTH_TOKEN_EXPIRED_004")
    assert 'error="invalid_token"' in expired.headers["WWW-Authenticate"]


def test_403_is_for_what_a_role_does_not_allow(up: Up, member: Person) -> None:
    refused(ask(up, "GET", "/users", member.token), 403, "AUTH_FORBIDDEN_008")


def test_404_is_for_what_is_not_there_and_for_what_is_not_yours_alike(
    up: Up, people: UserFactory, member: Person
) -> None:
    others = people.draft(people.person("member"))
    answers = [ask(up, "GET", f"/content/{each}", member.token) for each in (others, uuid4(), "no-id")]
    assert len({(each.status, each.body["error"]["code"], each.body["error"]["message"]) for each in answers}) == 1
    refused(answers[0], 404, "CONTENT_NOT_FOUND_001")


def test_405_says_what_is_allowed(up: Up) -> None:
    answer = refused(ask(up, "DELETE", "/content"), 405, "ROUTE_METHOD_002")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


def test_409_is_for_a_conflict_and_names_what_is_allowed(up: Up, people: UserFactory, member: Person) -> None:
    path = f"/content/{people.draft(member)}/transitions"
    answer = ask(up, "POST", path, member.token, {"action": "restore"})
    refused(answer, 409, "CONTENT_ILLEGAL_TRANSITION_002")
    assert answer.body["error"]["allowed"] == ["submit_for_review"]


def test_412_is_for_a_stale_version_and_428_for_none(up: Up, people: UserFactory, member: Person) -> None:
    path, body = f"/content/{people.draft(member)}", {"title": "c", "body": "d"}
    refused(ask(up, "PUT", path, member.token, body), 428, "CONTENT_IF_MATCH_MISSING_004")
    tag = ask(up, "GET", path, member.token).headers["ETag"]
    changed = ask(up, "PUT", path, member.token, body, If_Match=tag)
    assert (changed.status, changed.headers["ETag"] != tag) == (200, True)
    refused(ask(up, "PUT", path, member.token, body, If_Match=tag), 412, "CONTENT_STALE_003")


def test_413_is_for_a_body_that_is_too_large(up: Up, member: Person) -> None:
    answer = request("POST", f"{up.api}/content", token=member.token, raw=b'"' + b"a" * (1 << 20) + b'"')
    refused(answer, 413, "REQUEST_TOO_LARGE_003")


def test_415_is_for_what_is_not_json(up: Up, member: Person) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}):
        answer = request("POST", f"{up.api}/content", token=member.token, raw=b"{}", headers=headers)
        refused(answer, 415, "REQUEST_UNSUPPORTED_004")


def test_422_is_for_a_key_that_came_with_another_body(up: Up, member: Person) -> None:
    key = uuid4().hex
    first, other = (
        ask(up, "POST", "/content", member.token, {"title": title, "body": ""}, Idempotency_Key=key) for title in "ab"
    )
    assert first.status == 201
    refused(other, 422, "REQUEST_KEY_REUSED_009")


# Envelope and headers ------------------------------------------------------------------------------------------------


def test_every_error_comes_as_rfc_9457_when_asked_for(up: Up) -> None:
    answer = ask(up, "GET", "/users/me", **PROBLEM)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.body["status"], answer.body["code"]) == (401, "AUTH_TOKEN_MISSING_002")


def test_every_response_has_a_request_id_and_an_error_its_trace_id(up: Up) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = ask(up, "GET", "/nothing", X_Request_ID="mine-1", traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")
    assert (answer.headers["X-Request-ID"], answer.body["error"]["trace_id"]) == ("mine-1", trace_id)
    assert ask(up, "GET", "/content").headers["X-Request-ID"]


def test_a_list_says_its_limit_which_is_capped_at_100(up: Up) -> None:
    page = ask(up, "GET", "/content?limit=1000").body["page"]
    assert page["limit"] == 100
    assert "next_cursor" in page


def test_the_catalogue_has_every_code_in_its_form(up: Up) -> None:
    listed = ask(up, "GET", "/errors").data
    assert len({each["code"] for each in listed}) == len(listed) > 30
    for each in listed:
        module, *_, number = each["code"].split("_")
        assert module.isupper()
        assert (len(number), number.isdigit()) == (3, True)
        assert each["meaning"].endswith(".")


# Deadlines, away, maintenance ----------------------------------------------------------------------------------------


def waiting(up: Up) -> int:
    """How many of its statements wait for a lock."""
    query = "select count(*) from pg_stat_activity where application_name = 'callboard' and wait_event_type = 'Lock'"

    async def count() -> int:
        connection = await asyncpg.connect(up.facts["DATABASE_URL"])
        try:
            return int(await connection.fetchval(query))
        finally:
            await connection.close()

    return asyncio.run(count())


def test_the_deadline_of_a_request_ends_its_statement_on_the_server(up: Up) -> None:
    path = f"/content/{uuid4()}"
    with locked(up.facts["DATABASE_URL"], "content"):
        started = time.monotonic()
        answer = refused(ask(up, "GET", path, X_Request_Timeout="0.3"), 503, "SERVER_TIMEOUT_003")
        assert 0.25 < time.monotonic() - started < 1.0
        assert answer.headers["Retry-After"] == "1"
        until("the end of the statement", lambda: waiting(up) == 0, 1.0)
        # Without a deadline of its own it has the usual time, which is still less than a request's.
        started = time.monotonic()
        refused(ask(up, "GET", path), 503, "SERVER_TIMEOUT_003")
        assert time.monotonic() - started < 3.0
        assert request("GET", f"{up.facts['HTTP_URL']}/ready").status == 200  # nobody has called the database away
    refused(ask(up, "GET", path), 404, "CONTENT_NOT_FOUND_001")


def test_503_in_maintenance_is_for_all_but_admins_and_the_way_in_in_every_process(pair: ProcessGroup) -> None:
    one, other = pair.sites[:2]

    def switch(site: CallboardProcess, *, is_on: bool) -> None:
        answer = site.call("PUT", "/flags/maintenance_mode", token=pair.admin, body={"is_on": is_on})
        assert answer.status == 200, answer

    switch(one, is_on=True)
    try:
        until("maintenance", lambda: other.call("GET", "/content").status == 503, 5)
        for site in (one, other):
            closed = site.call("GET", "/content")
            assert (closed.code, closed.headers["Retry-After"]) == ("SERVER_MAINTENANCE_007", "60")
            assert site.call("GET", "/content", token=pair.admin).status == 200
            assert site.log_in("grace@example.org")
            assert request("GET", site.api.replace("/api/v1", "/health")).status == 200
    finally:
        switch(other, is_on=False)
        until("the end of it", lambda: one.call("GET", "/content").status == 200, 5)
