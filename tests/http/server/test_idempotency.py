"""Idempotency-Key on the real system, in one process and in two: one effect, and the same answer for all."""

import secrets
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from kit.locks import locked
from kit.running import PASSWORD, Answer, CallboardProcess, Up, request, until
from kit.twins import ProcessGroup

from callboard.http.api.routes import ROUTES
from callboard.http.server.routing import shape_of

SECRET_WORDS = ("token", "secret", "password")


def create(site: CallboardProcess, token: str, key: str | None, title: str = "A title", **headers: str) -> Answer:
    sent = headers if key is None else {"Idempotency-Key": key, **headers}
    body = {"title": title, "body": "A body"}
    return request("POST", f"{site.api}/content", token=token, body=body, headers=sent)


def known(answer: Answer) -> tuple[Any, ...]:
    """What must be the same in every answer."""
    return answer.status, answer.body, answer.headers["ETag"], answer.headers["Location"]


def test_a_request_sent_again_is_answered_as_before_and_says_so(pair: ProcessGroup) -> None:
    key = uuid4().hex
    first, again = (create(site, pair.admin, key) for site in pair.sites)
    assert known(first) == known(again)
    assert (first.status, first.headers["Location"]) == (201, f"/api/v1/content/{first.data['content_id']}")
    assert [answer.headers.get("Idempotency-Replayed") for answer in (first, again)] == [None, "true"]
    assert first.headers["X-Request-ID"] != again.headers["X-Request-ID"]
    assert create(pair.sites[0], pair.admin, None).data["content_id"] != first.data["content_id"]
    assert create(pair.sites[0], pair.admin, uuid4().hex).data["content_id"] != first.data["content_id"]


@pytest.mark.parametrize("processes", [1, 2])
def test_of_sixteen_at_once_one_has_its_effect_and_all_its_answer(pair: ProcessGroup, processes: int) -> None:
    key, title = uuid4().hex, secrets.token_hex(8)
    sites = pair.sites[:processes] * (16 // processes)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda site: create(site, pair.admin, key, title), sites))
    assert {answer.status for answer in answers} == {201}
    assert len({repr(known(answer)) for answer in answers}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers].count(None) == 1
    assert len(pair.sql("select 1 from content where title = $1", title)) == 1


def test_a_registration_sent_again_makes_one_account_and_its_key_is_not_an_oracle_for_another_body(
    pair: ProcessGroup,
) -> None:
    email = f"{secrets.token_hex(6)}@example.org"
    body = {"email": email, "password": PASSWORD, "full_name": "Ada", "terms_accepted": True}
    headers = {"Idempotency-Key": uuid4().hex}

    def register(site: CallboardProcess, **change: str) -> Answer:
        return request("POST", f"{site.api}/auth/register", body=body | change, headers=headers)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(register, pair.sites * 4))
    assert {(answer.status, answer.data["user_id"]) for answer in answers} == {(201, answers[0].data["user_id"])}
    assert (
        len(pair.sql("select 1 from outbox where type = 'user.registered' and key = $1", answers[0].data["user_id"]))
        == 1
    )
    refused = register(pair.sites[0], password="Another-Guess-1")
    assert (refused.status, refused.code) == (422, "REQUEST_KEY_REUSED_009")


def test_a_key_belongs_to_its_caller(up: Up) -> None:
    key, other = uuid4().hex, up.people()
    one, two = (create(up, token, key) for token in other[:2])
    assert one.data["content_id"] != two.data["content_id"]


def test_a_refusal_is_kept_as_well_and_what_was_refused_before_the_work_leaves_the_key_free(pair: ProcessGroup) -> None:
    site, key = pair.sites[0], uuid4().hex
    bad = request("POST", f"{site.api}/content", token=pair.admin, body={"title": ""}, headers={"Idempotency-Key": key})
    assert (bad.status, bad.code) == (400, "REQUEST_INVALID_001")
    assert create(site, "x", key).status == 401
    made = create(site, pair.admin, key)
    assert (made.status, made.headers.get("Idempotency-Replayed")) == (201, None)

    headers = {"Idempotency-Key": uuid4().hex}
    body = {"title": "a", "body": "b", "category_id": str(uuid4())}
    answers = [request("POST", f"{site.api}/content", token=pair.admin, body=body, headers=headers) for _ in range(2)]
    assert [answer.code for answer in answers] == ["CONTENT_CATEGORY_UNKNOWN_008"] * 2
    assert answers[0].body == answers[1].body
    assert answers[1].headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("key", ["", "a" * 256, "\xe9", "a\tb"], ids=["empty", "long", "no ASCII", "a tab"])
def test_a_key_that_is_none_is_refused(pair: ProcessGroup, key: str) -> None:
    answer = create(pair.sites[0], pair.admin, key)
    assert (answer.status, answer.code) == (400, "REQUEST_INVALID_001")
    assert answer.body["error"]["field"] == "Idempotency-Key"


@pytest.mark.parametrize("key", ["a" * 255, " ~ !", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "1"])
def test_any_printable_key_is_taken(pair: ProcessGroup, key: str) -> None:
    assert create(pair.sites[0], pair.admin, key).status == 201


def test_who_waits_for_another_longer_than_a_request_may_take_is_told_to_repeat_it(pair: ProcessGroup) -> None:
    key, title = uuid4().hex, secrets.token_hex(8)
    made = create(pair.sites[0], pair.admin, key, title)
    pair.sql("update idempotency_keys set status = null, headers = null, body = null")  # as if it were worked on
    busy = create(pair.sites[1], pair.admin, key, title, **{"X-Request-Timeout": "0.4"})
    assert (busy.status, busy.code, busy.headers["Retry-After"]) == (409, "REQUEST_KEY_BUSY_010", "1")
    pair.sql("update idempotency_keys set lapses_at = now()")
    again = create(pair.sites[1], pair.admin, key, title)
    assert (again.status, again.data["content_id"]) == (201, made.data["content_id"])


@pytest.mark.parametrize("time", [{"X-Request-Timeout": "0.5"}, {}], ids=["the request's time", "the statement's time"])
def test_what_failed_on_our_side_is_not_kept_and_the_key_is_free_for_the_next_try(
    pair: ProcessGroup, time: dict[str, str]
) -> None:
    key, title = uuid4().hex, secrets.token_hex(8)
    with locked(pair.environment["DATABASE_URL"], "content"):
        late = create(pair.sites[0], pair.admin, key, title, **time)
        assert (late.status, late.code) == (503, "SERVER_TIMEOUT_003")
    again = create(pair.sites[1], pair.admin, key, title, **{"X-Request-Timeout": "0.9"})  # no time for a lapse
    assert (again.status, again.headers.get("Idempotency-Replayed")) == (201, None)
    assert len(pair.sql("select 1 from content where title = $1", title)) == 1


def test_without_the_keys_nothing_is_made(pair: ProcessGroup) -> None:
    key, title = uuid4().hex, secrets.token_hex(8)
    with locked(pair.environment["DATABASE_URL"], "idempotency_keys"):
        assert create(pair.sites[0], pair.admin, key, title, **{"X-Request-Timeout": "0.5"}).status == 503
    assert pair.sql("select 1 from content where title = $1", title) == []
    assert create(pair.sites[0], pair.admin, key, title).status == 201


SLOW_TO_KEEP = """
create function linger() returns trigger language plpgsql as $$
begin
    if new.status is not null then perform pg_sleep(1); end if;
    return new;
end $$
"""


def test_a_crash_between_the_effect_and_its_answer_makes_no_second_object(pair: ProcessGroup) -> None:
    key, title = uuid4().hex, secrets.token_hex(8)
    dying = pair.start()
    pair.sql(SLOW_TO_KEEP)
    pair.sql("create trigger linger before update on idempotency_keys for each row execute function linger()")
    try:
        with ThreadPoolExecutor(1) as threads:
            lost = threads.submit(create, dying, pair.admin, key, title, **{"X-Request-Timeout": "1"})
            (row,) = until("the effect", lambda: pair.sql("select content_id from content where title = $1", title))
            dying.signal(signal.SIGKILL)
            assert isinstance(lost.exception(10), OSError | EOFError)
    finally:
        pair.sql("drop function linger() cascade")
        pair.end(dying)
    assert pair.sql("select 1 from idempotency_keys where status is null and new_id = $1", row["content_id"])
    again = create(pair.sites[0], pair.admin, key, title)  # waits until the claim has lapsed
    assert (again.status, again.data["content_id"]) == (201, str(row["content_id"]))
    assert known(again) == known(create(pair.sites[1], pair.admin, key, title))
    assert len(pair.sql("select 1 from content where title = $1", title)) == 1
    assert len(pair.sql("select 1 from outbox where key = $1", str(row["content_id"]))) == 1


def test_every_route_that_creates_takes_a_key_and_none_of_them_answers_a_secret() -> None:
    creating = [route for route in ROUTES if route.accepts_idempotency_key]
    assert {"/content", "/auth/register"} <= {route.path for route in creating}
    for route in creating:
        names = getattr(shape_of(route).answer, "__struct_fields__", ())
        assert not [name for name in names for word in SECRET_WORDS if word in name], route.path
