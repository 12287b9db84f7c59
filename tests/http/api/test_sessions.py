"""Sessions and passwords over HTTP, on two real processes that share PostgreSQL and Redis."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from kit.running import PASSWORD, Answer, CallboardProcess, Up, request
from kit.twins import ProcessGroup, twins

from callboard.actors.identity.sessions import MAX_SESSIONS
from callboard.actors.infrastructure.token_signer import Signer

NEW = "Paper-Boats-77"


@pytest.fixture(scope="module")
def pair(up: Up) -> Iterator[ProcessGroup]:
    with twins(up) as pair:
        yield pair


class Person:
    """Somebody with a verified account."""

    def __init__(self, pair: ProcessGroup) -> None:
        self.pair = pair
        account = pair.sites[0].register()
        self.email, self.user_id = account["email"], UUID(account["user_id"])
        pair.sql("update users set is_verified = true where user_id = $1", self.user_id)

    def log_in(self, password: str = PASSWORD, site: int = 0, agent: str = "a browser") -> Any:
        body = {"email": self.email, "password": password}
        answer = request("POST", f"{self.pair.sites[site].api}/auth/login", body=body, headers={"User-Agent": agent})
        assert answer.status == 200, answer
        return answer.data

    def mail_token(self) -> str:
        """The secret that was mailed last; these processes send no mail, so it is made as the sender would."""
        query = "select token_id from mail_tokens where user_id = $1 and purpose = 'reset_password'"
        (row,) = until_rows(self.pair, query, self.user_id)
        signer = Signer(self.pair.environment["JWT_SECRET_KEY"], issuer="callboard", access_ttl_s=1)
        return signer.mail_token(row["token_id"])


def until_rows(pair: ProcessGroup, query: str, *arguments: Any) -> list[dict[str, Any]]:
    ends_at = time.monotonic() + 60
    while not (rows := pair.sql(query, *arguments)):
        assert time.monotonic() < ends_at
    return rows


@pytest.fixture
def person(pair: ProcessGroup) -> Person:
    return Person(pair)


def me(site: CallboardProcess, tokens: Any) -> Answer:
    return site.call("GET", "/users/me", token=tokens["access_token"])


def refresh(site: CallboardProcess, tokens: Any) -> Answer:
    return site.call("POST", "/auth/refresh", body={"refresh_token": tokens["refresh_token"]})


def test_a_refresh_in_one_process_is_one_in_the_other(pair: ProcessGroup, person: Person) -> None:
    one, two = pair.sites
    login = person.log_in()
    first, again = refresh(one, login), refresh(two, login)
    assert (first.status, again.status) == (200, 200)
    assert first.data["refresh_token"] == again.data["refresh_token"] != login["refresh_token"]
    assert first.data["token_type"] == "Bearer"
    assert first.data["user"]["user_id"] == str(person.user_id)
    assert first.headers["Cache-Control"] == "no-store"
    for tokens in (login, first.data, again.data):
        assert me(two, tokens).status == 200


def test_of_sixteen_refreshes_at_once_in_two_processes_all_get_the_one_child(
    pair: ProcessGroup, person: Person
) -> None:
    login = person.log_in()
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda site: refresh(site, login), pair.sites * 8))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.data["refresh_token"] for answer in answers}) == 1


def test_a_spent_token_that_comes_late_ends_the_session_in_both(pair: ProcessGroup, person: Person) -> None:
    one, two = pair.sites
    login = person.log_in()
    child = refresh(one, login).data
    assert [me(site, child).status for site in pair.sites * 2] == [200] * 4
    pair.sql("update refresh_tokens set spent_at = spent_at - interval '10 seconds'")
    late = refresh(two, login)
    assert (late.status, late.code) == (401, "AUTH_REFRESH_INVALID_011")
    assert late.headers["WWW-Authenticate"] == 'Bearer realm="callboard"'
    assert [me(site, child).code for site in pair.sites] == ["AUTH_SESSION_ENDED_005"] * 2
    assert [refresh(site, child).status for site in (one, two)] == [401, 401]


def test_an_access_token_is_no_refresh_token_and_refused_like_any_other_wrong_one(person: Person) -> None:
    tokens = person.log_in()
    answer = refresh(person.pair.sites[0], {"refresh_token": tokens["access_token"]})
    assert (answer.status, answer.code) == (401, "AUTH_REFRESH_INVALID_011")


@pytest.mark.parametrize("path", ["/auth/logout", "/auth/logout-all"])
def test_after_a_logout_no_process_takes_the_access_token(pair: ProcessGroup, person: Person, path: str) -> None:
    one, two = pair.sites
    mine, other = person.log_in(), person.log_in(site=1)
    for site in pair.sites * 2:
        assert [me(site, tokens).status for tokens in (mine, other)] == [200, 200]
    answer = two.call("POST", path, token=mine["access_token"])
    assert (answer.status, answer.body) == (204, b"")
    refused = [me(site, mine) for site in pair.sites]
    assert [(each.status, each.code) for each in refused] == [(401, "AUTH_SESSION_ENDED_005")] * 2
    assert 'error="invalid_token"' in refused[0].headers["WWW-Authenticate"]
    assert refresh(one, mine).status == 401
    expected = 200 if path == "/auth/logout" else 401
    assert [me(site, other).status for site in pair.sites] == [expected, expected]


def test_ones_sessions_are_listed_and_ended_one_by_one(pair: ProcessGroup, person: Person) -> None:
    one, two = pair.sites
    mine, other = person.log_in(agent="a laptop"), person.log_in(agent="a phone")
    listed = one.call("GET", "/auth/sessions", token=mine["access_token"])
    assert listed.body["page"] == {"limit": MAX_SESSIONS, "next_cursor": None}
    by_device = {each["device"]: each for each in listed.data}
    assert {device: each["current"] for device, each in by_device.items()} == {"a laptop": True, "a phone": False}
    assert {each["ip"] for each in listed.data} == {"127.0.0.1"}
    phone = by_device["a phone"]["session_id"]
    stranger = Person(pair).log_in()
    for token, session_id in ((stranger, phone), (mine, uuid4()), (mine, "x")):
        missing = one.call("DELETE", f"/auth/sessions/{session_id}", token=token["access_token"])
        assert (missing.status, missing.code) == (404, "SESSIONS_NOT_FOUND_001")
    assert me(two, other).status == 200
    assert one.call("DELETE", f"/auth/sessions/{phone}", token=mine["access_token"]).status == 204
    assert [me(site, other).status for site in pair.sites] == [401, 401]
    assert len(two.call("GET", "/auth/sessions", token=mine["access_token"]).data) == 1


def test_a_forgotten_password_is_reset_and_a_known_one_changed(pair: ProcessGroup, person: Person) -> None:
    one, two = pair.sites
    login = person.log_in()
    assert one.call("POST", "/auth/password/forgot", body={"email": person.email}).status == 202
    worker = pair.start(ROLES="front,workers")  # the others only take requests
    body = {"token": person.mail_token(), "new_password": NEW}
    pair.end(worker)
    assert one.call("POST", "/auth/password/reset", body=body).status == 200
    assert two.call("POST", "/auth/password/reset", body=body).code == "AUTH_MAIL_TOKEN_INVALID_009"
    assert [me(site, login).status for site in pair.sites] == [401, 401]
    mine, other = person.log_in(NEW), person.log_in(NEW)
    assert me(two, other).status == 200
    body = {"current_password": NEW, "new_password": "Other-Boats-88"}
    assert one.call("POST", "/auth/password/change", token=mine["access_token"], body=body).status == 200
    assert [[me(site, tokens).status for tokens in (mine, other)] for site in pair.sites] == [[200, 401]] * 2
    wrong = one.call("POST", "/auth/password/change", token=mine["access_token"], body=body)
    assert (wrong.status, wrong.code) == (401, "AUTH_INVALID_CREDENTIALS_001")
    person.log_in("Other-Boats-88")


def test_forgot_and_resend_answer_alike_and_before_anything_is_done(pair: ProcessGroup, person: Person) -> None:
    """The account's row is held meanwhile: whoever did the work before the answer would wait for it."""
    asyncio.run(held(pair, person))


async def held(pair: ProcessGroup, person: Person) -> None:
    connection = await asyncpg.connect(pair.environment["DATABASE_URL"])
    try:
        async with connection.transaction():
            await connection.execute("lock table users in access exclusive mode")
            for path in ("/auth/password/forgot", "/auth/resend-verification"):
                answers = [
                    await asyncio.to_thread(pair.sites[0].call, "POST", path, body={"email": email}, timeout_s=1.0)
                    for email in (person.email, f"{secrets.token_hex(4)}@example.org")
                ]
                assert [answer.status for answer in answers] == [202, 202]
                assert answers[0].body == answers[1].body
                assert {*answers[0].headers} == {*answers[1].headers}
    finally:
        await connection.close()


def test_an_account_is_throttled_in_both_processes_wherever_the_failures_come_from(up: Up) -> None:
    with twins(up, RATE_LIMIT_ACCOUNT="4", TRUSTED_PROXIES="127.0.0.0/8") as pair:
        person = Person(pair)
        answers = []
        for email in (person.email, "nobody@example.org"):
            for each in range(6):
                wrong = {"email": email, "password": "Wrong-Word-42" if each < 5 else PASSWORD}
                sent = {"X-Forwarded-For": f"203.0.113.{each}"}
                answers.append(request("POST", f"{pair.sites[each % 2].api}/auth/login", body=wrong, headers=sent))
        assert [answer.status for answer in answers] == [401, 401, 401, 401, 429, 429] * 2
        assert answers[5].code == "AUTH_ACCOUNT_LIMITED_012"
        assert 0 < int(answers[5].headers["Retry-After"]) <= 15 * 60


def test_no_secret_is_logged(pair: ProcessGroup, person: Person) -> None:
    login = person.log_in()
    child = refresh(pair.sites[0], login).data
    pair.sql("update refresh_tokens set spent_at = spent_at - interval '10 seconds'")
    refresh(pair.sites[0], login)
    said = "".join(site.errors + site.output for site in pair.sites)
    assert "a spent refresh token came again" in said
    for secret in (
        PASSWORD,
        *(tokens[name] for tokens in (login, child) for name in ("access_token", "refresh_token")),
    ):
        assert secret not in said
