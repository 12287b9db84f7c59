"""CloudEvents 1.0 in no content mode: an event's attributes as text, its data as bytes, and the rules of both.

Kafka records and HTTP requests are read into `EventParts`; these rules are the same for both. Attributes that we do not
know are extensions, and are ignored.
"""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from callboard.runtime import Message
from callboard.streams.event_types import EVENTS, EventType
from callboard.streams.field_rules import apply_rules
from callboard.streams.json_keys import repeated_keys

VALUE_LIMIT = 256 * 1024  # bytes
ID_LIMIT = 200
SOURCE_LIMIT = 400
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_DETAIL_LIMIT = 500
_CLOUD_EVENTS = "application/cloudevents"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
# Characters that no attribute has (CloudEvents 1.0, 3.1): controls and noncharacters; the inside of a character class.
FORBIDDEN = r"\u0000-\u001f\u007f-\u009f\ufdd0-\ufdef\ufffe\uffff" + "".join(
    chr(plane << 16 | last) for plane in range(1, 17) for last in (0xFFFE, 0xFFFF)
)
_CONTROL = re.compile(f"[{FORBIDDEN}]")
_UTF_8 = ("utf-8", "utf8", "us-ascii")

Reason = Literal["malformed", "unknown_type", "invalid", "too_large", "unsigned", "unreadable"]


class InvalidRecordError(Exception):
    """No consumer can act on the event; `reason` says why, and `field` names the attribute or the field of the data.

    malformed: no CloudEvent, or no JSON. unknown_type: not in the registry. invalid: a field missing or wrong, or the
    wrong topic. too_large: a value over `VALUE_LIMIT`. unsigned: an event of ours without our signature. unreadable: no
    Kafka record.
    """

    def __init__(self, reason: Reason, detail: str, field: str = "") -> None:
        self.reason = reason
        self.detail = _CONTROL.sub(" ", detail)[:_DETAIL_LIMIT]
        self.field = field
        super().__init__(f"{reason}: {self.detail}")


class EventParts(Struct, frozen=True):
    """An event as it was sent: its attributes by their names, and its data."""

    attributes: Mapping[str, str]
    data: bytes


class StructuredEvent(Struct, frozen=True):
    """An event in the JSON format: its attributes and its data in one object."""

    specversion: str
    id: str
    source: str
    type: str
    time: str | None = None
    datacontenttype: str | None = None
    traceparent: str | None = None
    signature: str | None = None
    data: Annotated[Raw, Meta(description="the data as JSON")] = Raw()
    data_base64: str | None = None


_STRUCTURED_DECODER = msgspec.json.Decoder(StructuredEvent)
_ATTRIBUTES = ("specversion", "id", "source", "type", "time", "traceparent", "signature")


def read_structured(value: bytes | Raw) -> EventParts:
    """Return the parts of an event in the JSON format. Raises InvalidRecordError."""
    try:
        event = _STRUCTURED_DECODER.decode(value)
        _expect_keys_once(bytes(value), "")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidRecordError("malformed", f"not a structured CloudEvent: {error}") from None
    if event.datacontenttype is not None:
        expect_json(event.datacontenttype, "datacontenttype")
    given = ((name, getattr(event, name)) for name in _ATTRIBUTES)
    attributes = {name: text for name, text in given if text is not None}
    if event.data_base64 is None:
        return EventParts(attributes, bytes(event.data) or b"null")
    if bytes(event.data):
        raise InvalidRecordError("malformed", "data and data_base64 exclude each other", "data_base64")
    try:
        return EventParts(attributes, base64.b64decode(event.data_base64, validate=True))
    except ValueError as error:
        raise InvalidRecordError("malformed", f"data_base64: {error}", "data_base64") from None


def media_type(content_type: str | None) -> str:
    """Return the media type of a Content-Type, without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def expect_json(content_type: str | None, field: str = "") -> None:
    """Check that data is JSON in UTF-8; without a content type it is. Raises InvalidRecordError."""
    kind, _, parameters = (content_type or "").partition(";")
    kind = kind.strip().lower()
    is_json = not kind or kind.endswith(("/json", "+json"))
    if not is_json or kind.startswith(_CLOUD_EVENTS):
        raise InvalidRecordError("malformed", f"content type {kind!r} is not the JSON of one event's data", field)
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _UTF_8:
            raise InvalidRecordError("malformed", f"charset {value!r} is not UTF-8", field)


def _expect_keys_once(value: bytes, within: str) -> None:
    if twice := repeated_keys(value):
        raise InvalidRecordError("invalid", f"the key {twice[0]!r} is there twice", f"{within}{twice[0]}")


# Attributes ----------------------------------------------------------------------------------------------------------


def check_version(attributes: Mapping[str, str]) -> None:
    """Raises InvalidRecordError."""
    if attributes.get("specversion") != "1.0":
        raise InvalidRecordError("malformed", "specversion is not 1.0", "specversion")


def event_id(attributes: Mapping[str, str]) -> str:
    """Return the id. Raises InvalidRecordError."""
    return _text(attributes, "id", ID_LIMIT)


def source(attributes: Mapping[str, str]) -> str:
    """Return the source. Raises InvalidRecordError."""
    return _text(attributes, "source", SOURCE_LIMIT)


def event_type(attributes: Mapping[str, str]) -> EventType:
    """Return the registry's entry of the type. Raises InvalidRecordError."""
    name = _text(attributes, "type", ID_LIMIT)
    declared = EVENTS.get(name)
    if declared is None:
        raise InvalidRecordError("unknown_type", f"no event is called {name!r}", "type")
    return declared


def event_time(attributes: Mapping[str, str]) -> datetime | None:
    """Return the time in UTC; None if the event has none. Raises InvalidRecordError."""
    if "time" not in attributes:
        return None
    try:
        moment = msgspec.convert(attributes["time"], datetime)
        if moment.tzinfo is None:
            raise InvalidRecordError("malformed", "time has no time zone", "time")
        return moment.astimezone(UTC)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise InvalidRecordError("malformed", f"time: {error}", "time") from None


def traceparent(attributes: Mapping[str, str]) -> str | None:
    """Return the trace context, if it is a valid one: a bad one is no reason to refuse an event."""
    text = attributes.get("traceparent", "")
    return text if _TRACEPARENT.fullmatch(text) else None


def attribute_faults(attributes: Mapping[str, str]) -> list[InvalidRecordError]:
    """Return every fault of the attributes."""
    found: list[InvalidRecordError] = []
    for check in (check_version, event_id, source, event_type, event_time):
        try:
            check(attributes)
        except InvalidRecordError as fault:
            found.append(fault)
    return found


def _text(attributes: Mapping[str, str], name: str, limit: int) -> str:
    text = attributes.get(name, "")
    if not text:
        raise InvalidRecordError("malformed", f"{name} is missing", name)
    if len(text) > limit or _CONTROL.search(text):
        raise InvalidRecordError("malformed", f"{name} is over {limit} characters or has control characters", name)
    return text


# Data ----------------------------------------------------------------------------------------------------------------


def check_size(data: bytes) -> None:
    """Raises InvalidRecordError."""
    if len(data) > VALUE_LIMIT:
        raise InvalidRecordError("too_large", f"the data takes {len(data)} bytes, more than {VALUE_LIMIT}", "data")


def parse_data(declared: EventType, data: bytes) -> Message:
    """Return the event in the data. Raises InvalidRecordError for its first fault."""
    try:
        event, faults = apply_rules(declared.struct, _decoder_of(declared.struct).decode(data))
        _expect_keys_once(data, "data.")
    except msgspec.ValidationError as error:
        raise InvalidRecordError("invalid", str(error), "data") from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidRecordError("malformed", f"the data is not JSON: {error}", "data") from None
    if faults:
        first = faults[0]
        raise InvalidRecordError("invalid", f"{first.message} - at `$.{first.path}`", f"data.{first.path}")
    checked: Message = event
    return checked


@cache
def _decoder_of(struct: type[Message]) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(struct)
