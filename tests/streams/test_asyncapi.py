"""The AsyncAPI document: valid by the official schema, whole, and true of what is sent.

The schema is schemas/3.0.0-without-$id.json of the npm package @asyncapi/specs 6.11.1 (Apache-2.0), without spaces.
"""

import difflib
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from kit.running import Up, request

from callboard.ops.departments import OURS, declared_by
from callboard.streams.asyncapi import asyncapi, render_asyncapi
from callboard.streams.cloudevents import signed_headers
from callboard.streams.event_types import EventType, derive_id
from callboard.streams.signatures import EventSigner
from callboard.streams.topics import TOPICS

EVENTS: tuple[EventType, ...] = tuple(declared_by(OURS).events)
COMMITTED = Path(__file__).parents[2] / "streams" / "asyncapi.json"
SCHEMA = Path(__file__).parent / "data" / "asyncapi-3.0.0.json.gz"
DOCUMENT = json.loads(render_asyncapi(EVENTS))
EVERY = pytest.mark.parametrize("event", EVENTS, ids=[each.name for each in EVENTS])


def at(pointer: str) -> Any:
    """What a reference leads to."""
    found = DOCUMENT
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (each for name, each in value.items() if name == "$ref")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from references(each)


def validator(schema: Any) -> Any:
    return jsonschema_rs.Draft7Validator({**schema, "components": DOCUMENT["components"]}, validate_formats=True)


def test_the_committed_document_is_that_of_the_events() -> None:
    old, new = COMMITTED.read_text().splitlines(), render_asyncapi(EVENTS).splitlines()
    changes = "\n".join(difflib.unified_diff(old, new, "streams/asyncapi.json", "the events", lineterm="", n=4))
    if changes:
        pytest.fail(f"The events have changed. If that is meant, run `make openapi`.\n{changes}", pytrace=False)


def test_the_document_is_valid_by_the_official_schema() -> None:
    official = jsonschema_rs.Draft7Validator(json.loads(gzip.decompress(SCHEMA.read_bytes())))
    assert [error.message for error in official.iter_errors(DOCUMENT)] == []
    broken = json.loads(json.dumps(DOCUMENT))
    broken["operations"]["receive-activity.v1"]["action"] = "publish"  # AsyncAPI 2
    assert not official.is_valid(broken)


def test_every_reference_leads_somewhere() -> None:
    for pointer in references(DOCUMENT):
        assert at(pointer), pointer


def test_every_message_of_an_operation_is_one_of_its_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        for message in operation["messages"]:
            assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")


@EVERY
def test_producers_write_the_open_types_and_we_all_others_on_every_topic(event: EventType) -> None:
    action = "receive" if event.open_to_producers else "send"
    for topic in event.topics:
        found = {
            operation["action"]
            for operation in DOCUMENT["operations"].values()
            if {"$ref": f"#/channels/{topic.name}/messages/{event.name}"} in operation["messages"]
        }
        assert found == {action}
        assert DOCUMENT["channels"][topic.name]["address"] == f"{{prefix}}.{topic.name}"


def test_there_is_a_channel_for_each_topic_with_events_and_one_for_dead_letters() -> None:
    topics = {topic.name for event in EVENTS for topic in event.topics}
    assert DOCUMENT["channels"].keys() == topics | {"dead-letters"}
    assert topics <= TOPICS.keys()


@EVERY
def test_headers_and_key_are_those_that_the_relay_sends(event: EventType) -> None:
    message = at(f"#/components/messages/{event.name}")
    facts: dict[str, Any] = {"event_id": str(derive_id("x")), "source": "callboard", "type": event.name}
    now = datetime(2026, 3, 1, tzinfo=UTC)
    sent = signed_headers(EventSigner(["secret"]), b"{}", **facts, occurred_at=now, traceparent=None)
    headers = {name: value.decode() for name, value in sent}
    assert validator(message["headers"]).is_valid(headers)
    assert not validator(message["headers"]).is_valid(headers | {"ce_type": "other"})
    assert not validator(message["headers"]).is_valid(headers | {"ce_id": ""})
    unsigned = {name: text for name, text in headers.items() if name != "ce_signature"}
    assert validator(message["headers"]).is_valid(unsigned | {"ce_source": "/web"}) is event.open_to_producers
    assert event.key in message["bindings"]["kafka"]["key"]["description"]


def test_data_is_what_its_type_takes_and_nothing_else() -> None:
    view = {"metric": "page_views", "value": 1, "subject_id": "s", "occurred_at": "2026-03-01T10:00:00Z"}
    payload = validator(at("#/components/messages/activity.recorded")["payload"])
    assert payload.is_valid(view)
    for bad in ({"value": "1"}, {"metric": ""}, {"metric": "a\nb"}, {"value": 1e101}, {"occurred_at": "yesterday"}):
        assert not payload.is_valid(view | bad), bad
    mail = validator(at("#/components/messages/mail.requested")["payload"])
    assert mail.is_valid({"to": "a@b.example", "subject": "s", "text": "t"})
    assert not mail.is_valid({"to": "a@b.example", "subject": "a\nb", "text": "t"})


def test_patterns_are_those_of_every_reader() -> None:
    assert "\\Z" not in render_asyncapi(EVENTS)


def test_an_event_of_a_package_is_in_the_document_of_its_installation() -> None:
    topic = EVENTS[0].topics[0]
    strange = EventType("poll.closed", EVENTS[0].struct, (topic,), EVENTS[0].key, "A poll is closed.")
    document = json.loads(asyncapi((*EVENTS, strange)))
    assert "poll.closed" in document["channels"][topic.name]["messages"]


def test_it_is_served_beside_the_other_document(up: Up) -> None:
    url = up.api.removesuffix("/api/v1") + "/asyncapi.json"
    answer = request("GET", url)
    assert answer.body == DOCUMENT
    assert request("GET", url, headers={"If-None-Match": answer.headers["ETag"]}).status == 304
