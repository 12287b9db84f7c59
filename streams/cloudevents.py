"""CloudEvents 1.0 over Kafka: binary mode both ways, structured mode is read too.

`decode` is the only parser of producers' records: for any bytes it returns an `Envelope` or raises
`InvalidRecordError`, so that a consumer can dead-letter an unreadable record and go on at once.
"""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from callboard.runtime import Message
from callboard.streams.event_types import EVENTS, OUR_SOURCE, Envelope, EventType, type_of
from callboard.streams.field_rules import apply_rules
from callboard.streams.signatures import HEADER as SIGNATURE
from callboard.streams.signatures import EventSigner

VALUE_LIMIT = 256 * 1024  # bytes
_STRUCTURED = "application/cloudevents+json"
_ID_LIMIT = 200
_SOURCE_LIMIT = 400
_DETAIL_LIMIT = 500
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Reason = Literal["malformed", "unknown_type", "invalid", "too_large", "unsigned", "unreadable"]
Headers = list[tuple[str, bytes]]


class Record(Struct, frozen=True):
    """A Kafka record as it was read; `topic` is without the prefix. `timestamp` is the producer's or the broker's.

    `fault` is the reason why the client could not read the record, or its whole batch; then `value` holds the raw
    bytes.
    """

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    fault: str | None = None


class InvalidRecordError(Exception):
    """No consumer can act on the record; `reason` says why.

    malformed: no CloudEvent, or no JSON. unknown_type: not in the registry. invalid: a field missing or wrong, or the
    wrong topic. too_large: a value over `VALUE_LIMIT`. unsigned: an event of ours without our signature. unreadable: no
    Kafka record.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = _CONTROL.sub(" ", detail)[:_DETAIL_LIMIT]
        super().__init__(f"{reason}: {self.detail}")


class _Structured(Struct):
    """A structured-mode event: its attributes and its data in one JSON object."""

    specversion: str
    id: str
    source: str
    type: str
    time: str | None = None
    datacontenttype: str | None = None
    traceparent: str | None = None
    signature: str | None = None
    data: Raw = Raw(b"null")
    data_base64: str | None = None


_STRUCTURED_DECODER = msgspec.json.Decoder(_Structured)
_ENCODER = msgspec.json.Encoder()


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
        raise InvalidRecordError("unreadable", record.fault)
    if record.value is None:
        raise InvalidRecordError("malformed", "the record has no value")
    if len(record.value) > VALUE_LIMIT:
        raise InvalidRecordError("too_large", f"the value takes {len(record.value)} bytes, more than {VALUE_LIMIT}")
    headers = _texts(record.headers)
    if _media_type(headers.get("content-type")) == _STRUCTURED:
        attributes, data = _structured(record.value)
        attributes.setdefault("traceparent", headers.get("traceparent", ""))
    else:
        _expect_json(headers.get("content-type"))
        attributes = {name.removeprefix("ce_"): text for name, text in headers.items()}
        data = record.value
    return _envelope(record, attributes, data, signer)


def _envelope(record: Record, attributes: Mapping[str, str], data: bytes, signer: EventSigner) -> Envelope:
    if attributes.get("specversion") != "1.0":
        raise InvalidRecordError("malformed", "ce_specversion is not 1.0")
    event_id = _attribute(attributes, "id", _ID_LIMIT)
    source = _attribute(attributes, "source", _SOURCE_LIMIT)
    name = _attribute(attributes, "type", _ID_LIMIT)
    occurred_at = _moment(attributes["time"]) if "time" in attributes else record.timestamp
    traceparent = attributes.get("traceparent", "")
    declared = EVENTS.get(name)
    if declared is None:
        raise InvalidRecordError("unknown_type", f"no event is called {name!r}")
    if all(topic.name != record.topic for topic in declared.topics):
        raise InvalidRecordError("invalid", f"{name} does not travel on {record.topic}")
    if needs_signature(declared, source):
        _check_signature(attributes, data, signer)
    return Envelope(
        event_id=event_id,
        source=source,
        type=name,
        topic=record.topic,
        occurred_at=occurred_at,
        traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else None,
        event=_parse(_decoder_of(declared.struct), data),
    )


@cache
def _decoder_of(struct: type[Message]) -> "msgspec.json.Decoder[Message]":
    return msgspec.json.Decoder(struct)


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
    """Return the relevant headers, by lower-case name; of a repeated one the first. Others may hold any bytes."""
    texts: dict[str, str] = {}
    for name, value in headers:
        known = name.lower()
        if value is None or known in texts or not (known.startswith("ce_") or known in {"content-type", "traceparent"}):
            continue
        try:
            texts[known] = value.decode()
        except UnicodeDecodeError:
            raise InvalidRecordError("malformed", f"header {known!r} is not UTF-8") from None
    return texts


def _structured(value: bytes) -> tuple[dict[str, str], bytes]:
    try:
        event = _STRUCTURED_DECODER.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidRecordError("malformed", f"not a structured CloudEvent: {error}") from None
    if event.datacontenttype is not None:
        _expect_json(event.datacontenttype)
    attributes = {"specversion": event.specversion, "id": event.id, "source": event.source, "type": event.type}
    if event.time is not None:
        attributes["time"] = event.time
    if event.traceparent is not None:
        attributes["traceparent"] = event.traceparent
    if event.signature is not None:
        attributes["signature"] = event.signature
    if event.data_base64 is None:
        return attributes, bytes(event.data)
    try:
        return attributes, base64.b64decode(event.data_base64, validate=True)
    except ValueError as error:
        raise InvalidRecordError("malformed", f"data_base64: {error}") from None


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _expect_json(content_type: str | None) -> None:
    """Check the content type: none means JSON, and any other than JSON is refused."""
    media_type = _media_type(content_type)
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise InvalidRecordError("malformed", f"content type {media_type!r} is not JSON")


def _attribute(attributes: Mapping[str, str], name: str, limit: int) -> str:
    text = attributes.get(name, "")
    if not text:
        raise InvalidRecordError("malformed", f"ce_{name} is missing")
    if len(text) > limit or _CONTROL.search(text):
        raise InvalidRecordError("malformed", f"ce_{name} is over {limit} characters or has control characters")
    return text


def _moment(text: str) -> datetime:
    try:
        moment = msgspec.convert(text, datetime)
        if moment.tzinfo is None:
            raise InvalidRecordError("malformed", "ce_time has no time zone")
        return moment.astimezone(UTC)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise InvalidRecordError("malformed", f"ce_time: {error}") from None


def _parse(decoder: msgspec.json.Decoder[Message], data: bytes) -> Message:
    try:
        event, faults = apply_rules(decoder.type, decoder.decode(data))
    except msgspec.ValidationError as error:
        raise InvalidRecordError("invalid", str(error)) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidRecordError("malformed", f"the value is not JSON: {error}") from None
    if faults:
        raise InvalidRecordError("invalid", f"{faults[0].message} - at `$.{faults[0].path}`")
    checked: Message = event
    return checked
