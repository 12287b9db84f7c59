"""Sixteen at once, in two real processes, with one secret that is good once: exactly one has it."""

import secrets
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from kit.domain import PASSWORD
from kit.people import Person, UserFactory
from kit.running import Answer, CallboardProcess
from kit.twins import ProcessGroup

from callboard.actors.infrastructure.token_signer import fingerprint, refresh_token

ROUNDS = 3
INVALID = (400, "AUTH_MAIL_TOKEN_INVALID_009")
BUSY = (503, "SERVER_OVERLOADED_002")  # hashing is bounded: who is turned away has used nothing


class Racer(NamedTuple):
    """What one of them sends."""

    method: str
    path: str
    body: Any
    token: str = ""


def at_once(pair: ProcessGroup, racers: list[Racer]) -> list[Answer]:
    """All of them, in turns to the one and the other process, from the same moment on."""
    start = Barrier(len(racers))

    def run(site: CallboardProcess, racer: Racer) -> Answer:
        start.wait()
        return site.call(racer.method, racer.path, body=racer.body, token=racer.token, timeout_s=20)

    with ThreadPoolExecutor(len(racers)) as threads:
        return list(threads.map(run, pair.sites * (len(racers) // 2), racers))


def counted(answers: list[Answer]) -> Counter[tuple[int, str]]:
    return Counter((answer.status, answer.code if answer.status >= 400 else "") for answer in answers)


def events(pair: ProcessGroup, person: Person, kind: str) -> int:
    """How many have been told of the person."""
    query = "select count(*) from outbox where type = $1 and convert_from(value, 'utf8') like $2"
    return int(pair.sql(query, kind, f"%{person.user_id}%")[0]["count"])


@pytest.fixture
def somebody(pair: ProcessGroup) -> Callable[[], Person]:
    people = UserFactory(pair.environment)
    return lambda: people.person("member")


def mailed(pair: ProcessGroup, person: Person, purpose: str, email: str | None = None) -> str:
    """The secret of such a mail."""
    token = refresh_token()
    pair.sql(
        "insert into mail_tokens (token_id, user_id, purpose, token_hash, email, expires_at) "
        "values ($1, $2, $3, $4, $5, now() + interval '1 hour')",
        *(uuid4(), person.user_id, purpose, fingerprint(token), email),
    )
    return token


def test_an_address_is_verified_once(pair: ProcessGroup, somebody: Callable[[], Person]) -> None:
    for _ in range(ROUNDS):
        person = somebody()
        pair.sql("update users set is_verified = false where user_id = $1", person.user_id)
        racer = Racer("POST", "/auth/verify-email", {"token": mailed(pair, person, "verify_email")})
        assert counted(at_once(pair, [racer] * 16)) == {(200, ""): 1, INVALID: 15}
        assert events(pair, person, "user.verified") == 1


def test_an_address_is_changed_once(pair: ProcessGroup, somebody: Callable[[], Person]) -> None:
    for _ in range(ROUNDS):
        person, new = somebody(), f"{secrets.token_hex(6)}@example.org"
        racer = Racer("POST", "/auth/verify-email", {"token": mailed(pair, person, "change_email", new)})
        assert counted(at_once(pair, [racer] * 16)) == {(200, ""): 1, INVALID: 15}
        assert events(pair, person, "user.updated") == 1
        assert pair.sql("select email from users where user_id = $1", person.user_id) == [{"email": new}]


def test_a_password_is_reset_once_and_is_the_winners(pair: ProcessGroup, somebody: Callable[[], Person]) -> None:
    for _ in range(ROUNDS):
        person = somebody()
        token = mailed(pair, person, "reset_password")
        passwords = [f"Paper-Boats-{each}" for each in range(16)]
        racers = [Racer("POST", "/auth/password/reset", {"token": token, "new_password": each}) for each in passwords]
        answers = at_once(pair, racers)
        seen = counted(answers)
        assert (seen[200, ""], seen.keys() - {(200, ""), INVALID, BUSY}) == (1, set())
        assert events(pair, person, "user.updated") == 1
        (winner,) = [each for each, answer in zip(passwords, answers, strict=True) if answer.status == 200]
        login = {"email": person.email, "password": winner}
        assert pair.sites[0].call("POST", "/auth/login", body=login).status == 200


def test_a_password_that_is_known_is_changed_once(pair: ProcessGroup, somebody: Callable[[], Person]) -> None:
    person = somebody()
    racers = [
        Racer(
            "POST",
            "/auth/password/change",
            {"current_password": PASSWORD, "new_password": f"Paper-Boats-{each}"},
            person.token,
        )
        for each in range(16)
    ]
    assert counted(at_once(pair, racers))[200, ""] == 1
    assert events(pair, person, "user.updated") == 1


def test_a_refresh_token_has_one_child(pair: ProcessGroup, somebody: Callable[[], Person]) -> None:
    """That all of them get; a second child would be a second session."""
    person, site = somebody(), pair.sites[0]
    login = site.call("POST", "/auth/login", body={"email": person.email, "password": PASSWORD}).data
    for spent in range(1, ROUNDS + 1):
        racer = Racer("POST", "/auth/refresh", {"refresh_token": login["refresh_token"]})
        answers = at_once(pair, [racer] * 16)
        assert counted(answers) == {(200, ""): 16}
        assert len({answer.data["refresh_token"] for answer in answers}) == 1
        login = answers[0].data
        query = (
            "select count(*), count(spent_at) as spent from refresh_tokens join sessions using (session_id) "
            "where user_id = $1"
        )
        assert pair.sql(query, person.user_id) == [{"count": spent + 1, "spent": spent}]


def test_one_session_is_ended_once(pair: ProcessGroup, somebody: Callable[[], Person]) -> None:
    person, site = somebody(), pair.sites[0]
    login = site.call("POST", "/auth/login", body={"email": person.email, "password": PASSWORD}).data
    racer = Racer("DELETE", f"/auth/sessions/{person.session_id}", None, login["access_token"])
    assert counted(at_once(pair, [racer] * 16)) == {(204, ""): 1, (404, "SESSIONS_NOT_FOUND_001"): 15}


def test_of_many_registrations_of_one_address_one_account_is_left(pair: ProcessGroup) -> None:
    for _ in range(ROUNDS):
        email = f"{secrets.token_hex(6)}@example.org"
        body = {"email": email, "password": PASSWORD, "full_name": "Ada", "terms_accepted": True}
        seen = counted(at_once(pair, [Racer("POST", "/auth/register", body)] * 16))
        assert seen.keys() <= {(201, ""), BUSY}
        assert len(pair.sql("select 1 from users where email = $1", email)) == 1
