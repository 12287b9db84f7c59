"""A producer as it lives: it gets a key, its events have their effect once, and a revoked key sends nothing."""

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from kit.people import Person, UserFactory
from kit.running import Answer, Up, request, until

from callboard.streams.event_parts import BATCH, STRUCTURED


@pytest.fixture(scope="module")
def admin(up: Up) -> Person:
    return UserFactory(up.facts).person("admin")


def key_of(up: Up, admin: Person, **more: Any) -> dict[str, Any]:
    name = f"Site {secrets.token_hex(6)}"
    given = {"name": name, "types": ["activity.recorded"], "sources": ["/site", "/app/*"]} | more
    made = up.call("POST", "/producer-keys", token=admin.token, body=given)
    assert made.status == 201, made
    created: dict[str, Any] = made.data
    return created


def send(up: Up, key: str, headers: Mapping[str, str], body: bytes) -> Answer:
    return request("POST", f"{up.api}/events", token=key, raw=body, headers={n.title(): v for n, v in headers.items()})


def view(metric: str, event_id: str, value: float = 1.0, **changed: Any) -> CloudEvent:
    attributes = {"id": event_id, "source": "/site", "type": "activity.recorded", "specversion": "1.0"} | changed
    now = datetime.now(UTC).isoformat()
    return CloudEvent(attributes, {"metric": metric, "value": value, "subject_id": "a", "occurred_at": now})


def sums(up: Up, admin: Person, metric: str) -> tuple[float, int]:
    rows = up.call("GET", f"/stats?metric={metric}", token=admin.token).data
    return sum(row["sum"] for row in rows), sum(row["count"] for row in rows)


def test_events_of_every_mode_have_their_effect_once(up: Up, admin: Person) -> None:
    key, metric = key_of(up, admin), secrets.token_hex(6)
    events = [view(metric, str(number), 2.0**number) for number in range(4)]
    binary, structured = http.to_binary(events[0], JSONFormat()), http.to_structured(events[1], JSONFormat())
    whole = b"[" + b",".join(http.to_structured(each, JSONFormat()).body for each in events) + b"]"
    first = send(up, key["key"], binary.headers, binary.body)
    assert (first.status, first.data) == (202, {"events": [{"id": "0", "source": "/site", "status": "accepted"}]})
    assert send(up, key["key"], structured.headers, structured.body).status == 202
    batch = send(up, key["key"], {"Content-Type": BATCH}, whole)
    assert [each["status"] for each in batch.data["events"]] == ["duplicate", "duplicate", "accepted", "accepted"]
    until("all four", lambda: sums(up, admin, metric) == (15.0, 4) or None)
    assert {each["status"] for each in send(up, key["key"], {"Content-Type": BATCH}, whole).data["events"]} == {
        "duplicate"
    }
    (listed,) = [
        each
        for each in up.call("GET", "/producer-keys?limit=100", token=admin.token).data
        if each["key_id"] == key["key_id"]
    ]
    assert listed["used_at"] is not None
    assert "key" not in listed
    assert sums(up, admin, metric) == (15.0, 4)


def test_a_bad_event_refuses_its_batch_and_nothing_of_it_is_counted(up: Up, admin: Person) -> None:
    key, metric = key_of(up, admin), secrets.token_hex(6)
    good, bad = (http.to_structured(view(metric, name), JSONFormat()).body for name in ("good", "bad"))
    bad = bad.replace(b'"value": 1.0', b'"value": "1"')
    refused = send(up, key["key"], {"Content-Type": BATCH}, b"[" + good + b"," + bad + b"]")
    assert (refused.status, refused.code) == (400, "REQUEST_INVALID_001")
    assert [each["field"] for each in refused.body["error"]["details"]] == ["[1].data.value"]
    again = send(up, key["key"], {"Content-Type": BATCH}, b"[" + good + b"]")
    assert again.data["events"][0]["status"] == "accepted"
    until("the good one", lambda: sums(up, admin, metric) == (1.0, 1) or None)


def test_a_key_sends_what_it_names_and_nothing_of_ours(up: Up, admin: Person) -> None:
    key = key_of(up, admin)["key"]
    elsewhere = http.to_structured(view("m", "1", source="/other"), JSONFormat())
    ours = http.to_binary(view("m", "1", type="user.deleted"), JSONFormat())
    assert send(up, key, elsewhere.headers, elsewhere.body).code == "EVENTS_NOT_ALLOWED_001"
    answer = send(up, key, ours.headers, ours.body)
    assert (answer.code, answer.body["error"]["field"]) == ("REQUEST_INVALID_001", "ce-type")


def test_a_content_type_that_is_not_read_is_told_which_are(up: Up, admin: Person) -> None:
    answer = send(up, key_of(up, admin)["key"], {"Content-Type": "application/cloudevents+avro"}, b"x")
    assert answer.status == 415
    assert answer.headers["Accept"] == f"application/json, {STRUCTURED}, {BATCH}"


def test_a_revoked_key_and_what_is_no_key_are_refused_before_the_body_is_read(up: Up, admin: Person) -> None:
    key = key_of(up, admin)
    path = f"/producer-keys/{key['key_id']}"
    assert up.call("DELETE", path, token=admin.token).status == 204
    message = http.to_structured(view("m", "1"), JSONFormat())
    for token in ("", key["key"], key["key"] + "x", admin.token, "cbk_"):
        answer = send(up, token, message.headers, message.body)
        assert (answer.status, answer.code) == (401, "KEYS_INVALID_001")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    withheld = request("POST", f"{up.api}/events", headers={"Content-Length": "100", "Expect": "100-continue"})
    assert (withheld.status, withheld.headers["Connection"]) == (401, "close")


def test_a_key_opens_no_other_route(up: Up, admin: Person) -> None:
    key = key_of(up, admin)["key"]
    for path in ("/users/me", "/producer-keys", "/audit", "/users"):
        assert up.call("GET", path, token=key).status == 401


def test_a_key_is_shown_once_even_to_a_request_that_is_repeated(up: Up, admin: Person) -> None:
    body = {"name": f"Site {secrets.token_hex(6)}", "types": ["activity.recorded"], "sources": ["*"]}
    answers = [
        request("POST", f"{up.api}/producer-keys", token=admin.token, body=body, headers={"Idempotency-Key": "a-site"})
        for _ in range(2)
    ]
    assert [each.status for each in answers] == [201, 409]
    assert "key" in answers[0].data


def test_every_bad_key_is_named_by_its_fields(up: Up, admin: Person) -> None:
    answer = up.call("POST", "/producer-keys", token=admin.token, body={"name": "\u200b", "types": [], "sources": [""]})
    assert answer.status == 400
    assert {each["field"] for each in answer.body["error"]["details"]} == {"name", "types", "sources[0]"}
    ours = {"name": "A", "types": ["user.deleted"], "sources": ["callboard"]}
    answer = up.call("POST", "/producer-keys", token=admin.token, body=ours)
    assert [each["field"] for each in answer.body["error"]["details"]] == ["types[0]", "sources[0]"]


def test_no_key_is_in_the_log(up: Up, admin: Person) -> None:
    key = key_of(up, admin)["key"]
    message = http.to_structured(view("m", "1"), JSONFormat())
    send(up, key, message.headers, message.body)
    assert key[-43:] not in json.dumps(up.log())
