"""CloudEvents over HTTP: the official SDK's bytes and what other libraries send are read; every fault has its path."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.property_examples import examples
from multidict import CIMultiDict, CIMultiDictProxy

from callboard.actors.analytics.events import ActivityRecorded
from callboard.actors.errors import REQUEST_INVALID, REQUEST_MALFORMED, REQUEST_UNSUPPORTED, Problem
from callboard.http.api.cloud_events import decode_header, read_events
from callboard.streams.event_parts import BATCH, STRUCTURED, VALUE_LIMIT
from callboard.streams.outbox import ProducedEvent

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
VIEW = {"metric": "Seitenaufrufe für 東京", "value": 1, "subject_id": "s", "occurred_at": "2026-03-01T10:00:00Z"}
EVENT = ActivityRecorded("Seitenaufrufe für 東京", 1.0, "s", datetime(2026, 3, 1, 10, tzinfo=UTC))
ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/web", "type": "activity.recorded"}
HEADERS = {f"ce-{name}": text for name, text in ATTRIBUTES.items()} | {"content-type": "application/json"}


def read(headers: Any, body: bytes, most: int = 10) -> tuple[str, tuple[ProducedEvent, ...]]:
    return read_events(CIMultiDictProxy(CIMultiDict(headers)), body, most=most)


def faults(code: Any, headers: Any, body: bytes) -> list[str]:
    with pytest.raises(Problem) as caught:
        read(headers, body)
    assert caught.value.code is code
    return [each.field for each in caught.value.details]


def structured(**changed: Any) -> bytes:
    event = {**ATTRIBUTES, "data": VIEW} | changed
    return msgspec.json.encode({name: value for name, value in event.items() if value is not ...})


def sdk(**changed: Any) -> CloudEvent:
    return CloudEvent({**ATTRIBUTES, "id": '5 % of "東京"', "source": "/web/eu 1"} | changed, VIEW)


# What is read --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("write", "mode"), [(http.to_binary, "binary"), (http.to_structured, "structured")])
def test_the_sdks_bytes_are_the_event_that_was_meant(write: Any, mode: str) -> None:
    time = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    more = {"subject": "ü", "tenant": "t", "retries": 3, "dataschema": "https://example.org/s"}
    message = write(sdk(time=time, datacontenttype="application/json", traceparent=TRACE, **more), JSONFormat())
    found, (event,) = read(message.headers, message.body)
    assert (found, event.event_id, event.source) == (mode, '5 % of "東京"', "/web/eu 1")
    assert (event.event, event.time, event.traceparent) == (EVENT, time, TRACE)
    assert event.declared.name == "activity.recorded"


def test_a_batch_of_the_sdks_events_is_read_in_order() -> None:
    bodies = [http.to_structured(sdk(id=str(number)), JSONFormat()).body for number in range(3)]
    mode, events = read({"Content-Type": f"{BATCH}; charset=utf-8"}, b"[" + b", ".join(bodies) + b"]")
    assert (mode, [each.event_id for each in events]) == ("batch", ["0", "1", "2"])


def test_an_empty_batch_is_a_batch() -> None:
    assert read({"content-type": BATCH}, b"[]") == ("batch", ())


def test_the_case_of_headers_does_not_matter_and_other_headers_neither() -> None:
    upper = {name.upper(): text for name, text in HEADERS.items()} | {"CE-Tenant": "ö", "X-Other": "1"}
    assert read(upper, msgspec.json.encode(VIEW))[1][0].event == EVENT


@pytest.mark.parametrize("content_type", [None, "application/json; charset=UTF-8", "text/json", "application/x+json"])
def test_json_by_any_name_and_by_none_is_the_data_of_binary_mode(content_type: str | None) -> None:
    headers = {name: text for name, text in HEADERS.items() if name != "content-type"}
    if content_type:
        headers["content-type"] = content_type
    assert read(headers, msgspec.json.encode(VIEW))[1][0].event == EVENT


def test_data_may_be_base64() -> None:
    body = structured(data=..., data_base64=base64.b64encode(msgspec.json.encode(VIEW)).decode())
    assert read({"content-type": STRUCTURED}, body)[1][0].event == EVENT


def test_optional_attributes_may_be_missing_or_null() -> None:
    (event,) = read({"content-type": STRUCTURED}, structured(time=None, datacontenttype=None, subject=None))[1]
    assert (event.time, event.traceparent) == (None, None)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("/web", "/web"),
        ("a%20b", "a b"),
        ("%2Fweb", "/web"),  # needlessly encoded
        ("%E6%9D%B1", "東"),
        ("100%", "100%"),  # not encoded, as some libraries do
        ("100%zz", "100%zz"),
        ("%2541", "%41"),  # one round
        ('"a b"', "a b"),
        (r'"a\"b\\c"', 'a"b\\c'),
        ('"', '"'),
        ("東", "東"),  # UTF-8 as it is
        ("", ""),
    ],
)
def test_a_header_is_decoded_once(sent: str, meant: str) -> None:
    assert decode_header(sent) == meant


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        *("text/plain", "application/xml", "application/octet-stream", "application/cloudevents+avro"),
        *("application/cloudevents-batch+xml", "application/json; charset=latin-1", f"{STRUCTURED}; charset=utf-16"),
    ],
)
def test_what_we_cannot_read_is_unsupported_and_told_what_we_can(content_type: str) -> None:
    with pytest.raises(Problem) as caught:
        read(HEADERS | {"content-type": content_type}, b"{}")
    assert caught.value.code is REQUEST_UNSUPPORTED
    assert caught.value.allowed == ("application/json", STRUCTURED, BATCH)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        *((STRUCTURED, b"{"), (STRUCTURED, b""), (STRUCTURED, b"\xff"), (BATCH, b"[{]"), (BATCH, b"[1,")),
        *((STRUCTURED, b'{"data":' + b"[" * 100_000), (BATCH, b"[" * 100_000)),
    ],
)
def test_a_body_that_is_no_json_is_malformed(kind: str, body: bytes) -> None:
    assert faults(REQUEST_MALFORMED, {"content-type": kind}, body) == []


@pytest.mark.parametrize(
    ("changed", "paths"),
    [
        ({"specversion": "0.3"}, ["specversion"]),
        ({"specversion": 1.0}, ["specversion"]),
        ({"id": ...}, ["id"]),
        ({"id": ""}, ["id"]),
        ({"id": 5}, ["id"]),
        ({"id": "x" * 201, "source": "x" * 401}, ["id", "source"]),
        ({"id": "a\nb"}, ["id"]),
        ({"source": ..., "type": ...}, ["source", "type"]),
        ({"type": "page.viewed"}, ["type"]),
        ({"type": "content.published"}, ["type"]),
        ({"time": "2026-03-01T10:00:00"}, ["time"]),
        ({"time": "1576245885912"}, ["time"]),
        ({"time": 5}, ["time"]),
        ({"datacontenttype": "text/plain"}, ["datacontenttype"]),
        ({"data": ...}, ["data"]),
        ({"data": "metric=1"}, ["data"]),
        ({"data": VIEW | {"value": "1"}}, ["data.value"]),
        ({"data": VIEW | {"value": 1e101, "metric": ""}}, ["data.metric", "data.value"]),
        ({"data": {}}, ["data.metric", "data.value", "data.subject_id", "data.occurred_at"]),
        ({"data": VIEW | {"metric": "x" * VALUE_LIMIT}}, ["data"]),
        ({"id": "", "time": "?", "data": VIEW | {"value": None}}, ["id", "time", "data.value"]),
        ({"data_base64": "e30="}, ["data_base64"]),
        ({"data": ..., "data_base64": "?"}, ["data_base64"]),
        ({"data": ..., "data_base64": "e30="}, ["data.metric", "data.value", "data.subject_id", "data.occurred_at"]),
        ({"type": "mail.requested", "data": {"to": "a@[", "subject": "a\nb", "text": ""}}, ["data.to", "data.subject"]),
    ],
)
def test_every_fault_is_named_by_its_path(changed: dict[str, Any], paths: list[str]) -> None:
    body = structured(**changed)
    assert faults(REQUEST_INVALID, {"content-type": STRUCTURED}, body) == paths
    batch = b"[" + structured() + b"," + body + b"]"
    assert faults(REQUEST_INVALID, {"content-type": BATCH}, batch) == [f"[1].{path}" for path in paths]


def test_all_bad_events_of_a_batch_are_named() -> None:
    batch = b"[" + b",".join([structured(id=""), structured(), b"5", structured(type="?")]) + b"]"
    assert faults(REQUEST_INVALID, {"content-type": BATCH}, batch) == ["[0].id", "[2]", "[3].type"]


@pytest.mark.parametrize("body", [b"{}", b"5", b'"a"'])
def test_a_batch_is_an_array(body: bytes) -> None:
    assert faults(REQUEST_INVALID, {"content-type": BATCH}, body) == [""]


def test_a_batch_has_so_many_events_at_most() -> None:
    batch = b"[" + b",".join([structured()] * 11) + b"]"
    assert faults(REQUEST_INVALID, {"content-type": BATCH}, batch) == [""]


@pytest.mark.parametrize(
    ("headers", "body", "paths"),
    [
        ({"content-type": "application/json"}, VIEW, ["ce-specversion", "ce-id", "ce-source", "ce-type"]),
        (HEADERS | {"ce-id": "%ff"}, VIEW, ["ce-id"]),
        (HEADERS | {"ce-id": "a\udcff"}, VIEW, ["ce-id"]),
        (HEADERS | {"ce-id": "%00"}, VIEW, ["ce-id"]),
        (HEADERS | {"ce-time": "yesterday"}, VIEW, ["ce-time"]),
        ([*HEADERS.items(), ("CE-ID", "2")], VIEW, ["ce-id"]),
        (HEADERS, VIEW | {"value": "1"}, ["value"]),
        (HEADERS, 5, [""]),
    ],
)
def test_in_binary_mode_a_path_is_a_header_or_a_field_of_the_body(headers: Any, body: Any, paths: list[str]) -> None:
    assert faults(REQUEST_INVALID, headers, msgspec.json.encode(body)) == paths


@pytest.mark.parametrize("kind", [STRUCTURED, BATCH])
def test_a_key_that_is_given_twice_is_refused_at_any_depth(kind: str) -> None:
    for twice in (b'"id":"1","id":"2"', b'"data":{"value":1,"value":2}'):
        body = structured(id=..., data=...)[:-1] + b',"id":"3",' + twice + b"}"
        body = body if kind == STRUCTURED else b"[" + body + b"]"
        assert faults(REQUEST_INVALID, {"content-type": kind}, body)


# Any bytes -----------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=12,
)
near = st.fixed_dictionaries(
    {},
    optional={
        "specversion": st.sampled_from(["1.0", "0.3", 1]),
        "id": st.text(max_size=4) | st.integers(),
        "source": st.text(max_size=4),
        "type": st.sampled_from(["activity.recorded", "mail.requested", "user.deleted", "?"]),
        "time": st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-01T10:00:00", ""]),
        "data": values | st.just(VIEW),
        "data_base64": st.text(max_size=8),
    },
)
bodies = st.binary(max_size=200) | (values | near | st.lists(near, max_size=3)).map(msgspec.json.encode)
texts = st.sampled_from([*ATTRIBUTES.values(), "%ff", '"', ""]) | st.text(st.characters(codec="latin-1"), max_size=10)
sent_headers = st.lists(st.tuples(st.sampled_from([*HEADERS, "ce-time", "ce-traceparent", "ce-"]), texts), max_size=8)
kinds = st.sampled_from(["application/json", STRUCTURED, BATCH, "text/plain", ""])


@pytest.mark.long
@settings(max_examples=examples(500), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(bodies, sent_headers, kinds)
def test_whatever_is_sent_there_are_events_or_a_problem(body: bytes, headers: Any, kind: str) -> None:
    try:
        _, events = read([*headers, ("content-type", kind)], body)
    except Problem as problem:
        assert problem.code in (REQUEST_INVALID, REQUEST_MALFORMED, REQUEST_UNSUPPORTED)  # noqa: PT017 - either will do
        assert problem.details or problem.code is not REQUEST_INVALID  # noqa: PT017 - the same
    else:
        assert all(each.declared.open_to_producers for each in events)
