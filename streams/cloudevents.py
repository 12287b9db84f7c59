"""CloudEvents 1.0 over Kafka: binary mode both ways, structured mode is read too.

`decode` is the only parser of producers' records: for any bytes it returns an `Envelope` or raises
`InvalidRecordError`, so that a consumer can dead-letter an unreadable record and go on at once.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from callboard.runtime import Message
from callboard.streams import event_parts as parts
from callboard.streams.event_parts import BATCH, STRUCTURED, VALUE_LIMIT, EventParts, InvalidRecordError
from callboard.streams.event_types import OUR_SOURCE, Envelope, EventType, type_of
from callboard.streams.signatures import HEADER as SIGNATURE
from callboard.streams.signatures import EventSigner

Headers = list[tuple[str, bytes]]
_ENCODER = msgspec.json.Encoder()


class Record(Struct, frozen=True):
    """A Kafka record as it was read; `topic` is without the prefix. `timestamp` is the producer's or the broker's.

    `fault` says why the client could not read the record or its whole batch, or may not; then `value` holds the raw
    bytes, or the first of them.
    """

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    fault: str | None = None
    fault_reason: Literal["unreadable", "too_large"] = "unreadable"


def encode_value(event: Message) -> bytes:
    """Encode the event's Struct as JSON. Raises ValueError if it is over `VALUE_LIMIT`: no consumer could read it."""
    value = _ENCODER.encode(event)
    if len(value) > VALUE_LIMIT:
        raise ValueError(f"{type(event).__name__} takes {len(value)} bytes; an event may take {VALUE_LIMIT}")
    return value


def headers_of(*, event_id: str, source: str, type: str, occurred_at: datetime, traceparent: str | None) -> Headers:  # noqa: A002 - CloudEvents' own word
    """Return the headers that make a Kafka record a CloudEvent in binary mode."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", type.encode()),
        ("ce_time", occurred_at.isoformat().encode()),
        ("content-type", b"application/json"),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def signed_headers(
    signer: EventSigner,
    value: bytes,
    *,
    event_id: str,
    source: str,
    type: str,  # noqa: A002 - CloudEvents' own word
    occurred_at: datetime,
    traceparent: str | None,
) -> Headers:
    """Return the headers of an event of ours: those of `headers_of` and the signature of these and the value."""
    headers = headers_of(event_id=event_id, source=source, type=type, occurred_at=occurred_at, traceparent=traceparent)
    time = dict(headers)["ce_time"].decode()
    signature = signer.sign(event_id=event_id, source=source, type=type, time=time, data=value)
    return [*headers, (SIGNATURE, signature.encode())]


def encode(
    event: Message,
    *,
    event_id: str,
    occurred_at: datetime,
    source: str = OUR_SOURCE,
    traceparent: str | None = None,
) -> tuple[bytes, Headers]:
    """Return the value and headers of an event. Raises ValueError if it is too large, KeyError for an
    undeclared type.
    """
    headers = headers_of(
        event_id=event_id,
        source=source,
        type=type_of(event).name,
        occurred_at=occurred_at,
        traceparent=traceparent,
    )
    return encode_value(event), headers


def decode(record: Record, signer: EventSigner) -> Envelope:
    """Return the event in a record. Raises InvalidRecordError, and nothing else, for any bytes.

    An event of a type that only we write, or one in our name, needs a signature that `signer` accepts.
    """
    if record.fault is not None:
        raise InvalidRecordError(record.fault_reason, record.fault)
    if record.value is None:
        raise InvalidRecordError("malformed", "the record has no value")
    if len(record.value) > VALUE_LIMIT:
        raise InvalidRecordError("too_large", f"the value takes {len(record.value)} bytes, more than {VALUE_LIMIT}")
    read = _parts_of(record.headers, record.value)
    attributes = read.attributes
    parts.check_version(attributes)
    event_id, source = parts.event_id(attributes), parts.source(attributes)
    declared, occurred_at = parts.event_type(attributes), parts.event_time(attributes)
    if all(topic.name != record.topic for topic in declared.topics):
        raise InvalidRecordError("invalid", f"{declared.name} does not travel on {record.topic}", "type")
    if needs_signature(declared, source):
        _check_signature(attributes, read.data, signer)
    return Envelope(
        event_id=event_id,
        source=source,
        type=declared.name,
        topic=record.topic,
        occurred_at=record.timestamp if occurred_at is None else occurred_at,
        traceparent=parts.traceparent(attributes),
        event=parts.parse_data(declared, read.data),
    )


def attributes_of(record: Record) -> Mapping[str, str]:
    """Return the attributes of a record's event, which nothing has checked. Raises InvalidRecordError."""
    return _parts_of(record.headers, record.value or b"").attributes


def _parts_of(sent: tuple[tuple[str, bytes | None], ...], value: bytes) -> EventParts:
    headers = _texts(sent)
    kind = parts.media_type(headers.get("content-type"))
    if kind == STRUCTURED:
        event = parts.read_structured(value)
        return EventParts({"traceparent": headers.get("traceparent", ""), **event.attributes}, event.data)
    if kind == BATCH:
        raise InvalidRecordError("malformed", "a record is one event: batches are read over HTTP only")
    parts.expect_json(headers.get("content-type"))
    return EventParts({name.removeprefix("ce_"): text for name, text in headers.items()}, value)


def needs_signature(declared: EventType, source: str) -> bool:
    """Whether only we may write such an event: its type or its source is ours."""
    return not declared.open_to_producers or source == OUR_SOURCE


def _check_signature(attributes: Mapping[str, str], data: bytes, signer: EventSigner) -> None:
    """Raise InvalidRecordError unless we have signed this. Our events always have a time: it is signed too."""
    signature, time = attributes.get("signature", ""), attributes.get("time", "")
    facts = {"event_id": attributes["id"], "source": attributes["source"], "type": attributes["type"], "time": time}
    if not signature or not time:
        raise InvalidRecordError("unsigned", "an event of this type or source needs our signature")
    if not signer.verify(signature, data=data, **facts):
        raise InvalidRecordError("unsigned", "the signature is not ours")


def _texts(headers: tuple[tuple[str, bytes | None], ...]) -> dict[str, str]:
    """Return the relevant headers, by lower-case name; of a repeated one the first. Others may hold any bytes.

    Raises InvalidRecordError for an attribute with two values: other readers would take the other one.
    """
    texts: dict[str, str] = {}
    for name, value in headers:
        known = name.lower()
        is_attribute = known.startswith("ce_")
        if value is None or not (is_attribute or known in {"content-type", "traceparent"}):
            continue
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise InvalidRecordError("malformed", f"header {known!r} is not UTF-8") from None
        if texts.setdefault(known, text) != text and is_attribute:
            raise InvalidRecordError("malformed", f"header {known!r} is there twice", known.removeprefix("ce_"))
    return texts
