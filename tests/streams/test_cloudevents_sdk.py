"""The bytes of the official SDK, in both content modes of Kafka, are the events that a producer meant."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.bindings.kafka import KafkaMessage
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from callboard.actors.analytics.events import ACTIVITY, ActivityRecorded
from callboard.streams.cloudevents import Record, decode
from callboard.streams.event_parts import InvalidRecordError
from callboard.streams.event_types import Envelope
from callboard.streams.signatures import EventSigner

SIGNER = EventSigner(["a secret"])
READ_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
VIEW = {"metric": "Seitenaufrufe für 東京", "value": 1, "subject_id": "s", "occurred_at": "2026-03-01T10:00:00Z"}
EVENT = ActivityRecorded("Seitenaufrufe für 東京", 1.0, "s", datetime(2026, 3, 1, 10, tzinfo=UTC))


def event(data: Any = VIEW, **changed: Any) -> CloudEvent:
    attributes = {
        "id": "5 % of 東京",
        "source": "/web/eu 1",
        "type": "activity.recorded",
        "specversion": "1.0",
    } | changed
    return CloudEvent(attributes, data)


def read(message: KafkaMessage) -> Envelope:
    return decode(Record(ACTIVITY.name, 0, 0, READ_AT, None, message.value, tuple(message.headers.items())), SIGNER)


MODES = pytest.mark.parametrize("write", [kafka.to_binary, kafka.to_structured])


@MODES
def test_an_event_is_read_as_it_was_meant(write: Any) -> None:
    time = datetime(2026, 3, 1, 11, 30, tzinfo=timezone(timedelta(hours=2)))
    envelope = read(write(event(time=time, datacontenttype="application/json", traceparent=TRACE), JSONFormat()))
    assert envelope == Envelope(
        "5 % of 東京",
        "/web/eu 1",
        "activity.recorded",
        ACTIVITY.name,
        datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
        TRACE,
        EVENT,
    )


@MODES
def test_optional_attributes_may_be_missing(write: Any) -> None:
    envelope = read(write(event(), JSONFormat()))
    assert (envelope.event, envelope.traceparent) == (EVENT, None)


@MODES
def test_extensions_and_attributes_that_we_do_not_use_are_ignored(write: Any) -> None:
    more = {
        "subject": "an article",
        "dataschema": "https://example.org/schema",
        "tenant": "ö",
        "retries": 3,
        "is": True,
    }
    assert read(write(event(**more), JSONFormat())).event == EVENT


@MODES
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/json", "application/vnd.view+json"])
def test_json_by_any_name_is_json(write: Any, content_type: str) -> None:
    assert read(write(event(datacontenttype=content_type), JSONFormat())).event == EVENT


def test_data_that_the_sdk_takes_for_bytes_is_base64_and_is_read() -> None:
    data = JSONFormat().write_data(VIEW, "application/json")
    message = kafka.to_structured(event(data=data), JSONFormat())
    assert b'"data_base64"' in message.value
    assert read(message).event == EVENT


@MODES
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json; charset=latin-1", "application/cloudevents+json"]
)
def test_data_that_is_not_the_json_of_an_event_is_refused(write: Any, content_type: str) -> None:
    message = write(event("metric=1", datacontenttype="text/plain"), JSONFormat())
    if write is kafka.to_binary:
        message.headers["content-type"] = content_type.encode()
    with pytest.raises(InvalidRecordError, match="malformed"):
        read(message)


def test_a_batch_is_no_record() -> None:
    one = kafka.to_structured(event(), JSONFormat())
    headers = {"content-type": b"application/cloudevents-batch+json"}
    with pytest.raises(InvalidRecordError, match="over HTTP only"):
        read(KafkaMessage(headers, None, b"[" + one.value + b"]"))


def test_an_event_has_its_data_once() -> None:
    message = kafka.to_structured(event(), JSONFormat())
    with pytest.raises(InvalidRecordError, match="exclude each other"):
        read(KafkaMessage(message.headers, None, message.value[:-1] + b', "data_base64": "e30="}'))
