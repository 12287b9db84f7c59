"""CloudEvents 1.0 over HTTP: one event in binary or structured mode, or a batch. Every fault is named by its path.

In binary mode the attributes are headers, percent-encoded (HTTP protocol binding 3.1.3.2), and the body is the data.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import Raw
from multidict import CIMultiDictProxy

from callboard.actors.errors import REQUEST_UNSUPPORTED, FieldError, Problem
from callboard.actors.ingestion.event_ingestion import Mode, path_of
from callboard.http.server.validation import invalid, malformed, validation_errors
from callboard.runtime import Message
from callboard.streams import event_parts as rules
from callboard.streams.event_parts import BATCH, STRUCTURED, EventParts, InvalidRecordError, StructuredEvent
from callboard.streams.event_types import EVENTS, EventType
from callboard.streams.outbox import ProducedEvent

BINARY = "application/json"
_HEADER = "ce-"
_ESCAPED = re.compile(r"\\(.)")
_TEXTS = tuple(each for each in StructuredEvent.__struct_fields__ if each != "data")


def read_events(headers: CIMultiDictProxy[str], body: bytes, *, most: int) -> tuple[Mode, tuple[ProducedEvent, ...]]:
    """Return the mode of a request and its events, in order.

    Raises Problem: REQUEST_UNSUPPORTED, REQUEST_MALFORMED, or REQUEST_INVALID with the faults of all events.
    """
    mode = _mode(headers.get("Content-Type"))
    try:
        if mode == "binary":
            sent: Sequence[EventParts | Raw] = [_binary(headers, body)]
        elif mode == "structured":
            sent = [Raw(body)]
        else:
            sent = _batch(body, most)
        faults: list[FieldError] = []
        events = [event for index, each in enumerate(sent) if (event := _event(mode, index, each, faults)) is not None]
        if faults:
            raise invalid(faults)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None
    return mode, tuple(events)


def _mode(content_type: str | None) -> Mode:
    """Return the content mode of a Content-Type. Raises Problem(REQUEST_UNSUPPORTED)."""
    kind = rules.media_type(content_type)
    try:
        if kind == BATCH:
            rules.expect_json((content_type or "").replace(kind, "", 1))
            return "batch"
        if kind == STRUCTURED:
            rules.expect_json((content_type or "").replace(kind, "", 1))
            return "structured"
        rules.expect_json(content_type)
    except InvalidRecordError as fault:
        raise Problem(REQUEST_UNSUPPORTED, f"{fault.detail}.", allowed=(BINARY, STRUCTURED, BATCH)) from None
    return "binary"


def _batch(body: bytes, most: int) -> list[Raw]:
    try:
        events = msgspec.json.decode(body, type=list[Raw])
    except msgspec.ValidationError:
        raise invalid([FieldError("", "Must be an array of events.")]) from None
    if len(events) > most:
        raise invalid([FieldError("", f"Must have {most} events at most, and has {len(events)}.")])
    return events


# Attributes ----------------------------------------------------------------------------------------------------------


def _binary(headers: CIMultiDictProxy[str], body: bytes) -> EventParts:
    """Return the event of a request in binary mode. Raises Problem(REQUEST_INVALID)."""
    attributes: dict[str, str] = {}
    faults: list[FieldError] = []
    for sent in dict.fromkeys(name.lower() for name in headers if name.lower().startswith(_HEADER)):
        values = headers.getall(sent)
        try:
            attributes[sent.removeprefix(_HEADER)] = decode_header(values[0])
        except UnicodeError:
            faults.append(FieldError(sent, "Must be UTF-8, percent-encoded."))
        if len(values) > 1:
            faults.append(FieldError(sent, "Must be given once."))
    if faults:
        raise invalid(faults)
    return EventParts(attributes, body)


def decode_header(value: str) -> str:
    """Return an attribute in a header: a quoted string is unquoted first, then one round of percent-decoding follows.

    Some libraries do not encode: a `%` without two digits stands for itself. Raises UnicodeError for what is not UTF-8.
    """
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    text = unquote(value, errors="strict")
    text.encode()  # bytes that were not UTF-8 are lone surrogates
    return text


# Events --------------------------------------------------------------------------------------------------------------


def _event(mode: Mode, index: int, sent: EventParts | Raw, faults: list[FieldError]) -> ProducedEvent | None:
    """Return an event, or add all its faults by their paths, and return None."""
    if isinstance(sent, EventParts):
        parts = sent
    else:
        try:
            parts = rules.read_structured(sent)
        except InvalidRecordError as fault:
            found = _structure_faults(msgspec.json.decode(sent), fault)
            faults.extend(FieldError(path_of(mode, index, each.field), each.message) for each in found)
            return None
    try:
        return _produced(parts)
    except InvalidRecordError:
        found = [FieldError(each.field, each.detail) for each in rules.attribute_faults(parts.attributes)]
        found += _data_faults(parts)
        faults.extend(FieldError(path_of(mode, index, each.field), each.message) for each in found)
        return None


def _produced(parts: EventParts) -> ProducedEvent:
    """Return the event of the parts. Raises InvalidRecordError for its first fault."""
    attributes = parts.attributes
    rules.check_version(attributes)
    declared = rules.event_type(attributes)
    return ProducedEvent(
        event_id=rules.event_id(attributes),
        source=rules.source(attributes),
        declared=declared,
        data=parts.data,
        event=_parse(declared, parts.data),
        time=rules.event_time(attributes),
        traceparent=rules.traceparent(attributes),
    )


def _parse(declared: EventType, data: bytes) -> Message:
    """Return the data of a type that producers may write. Raises InvalidRecordError."""
    if not declared.open_to_producers:
        names = ", ".join(sorted(each.name for each in EVENTS.values() if each.open_to_producers))
        raise InvalidRecordError("invalid", f"only Callboard writes {declared.name}; producers write {names}", "type")
    rules.check_size(data)
    return rules.parse_data(declared, data)


# Faults --------------------------------------------------------------------------------------------------------------


def _structure_faults(value: Any, fault: InvalidRecordError) -> list[FieldError]:
    """Return the faults of what is no event in the JSON format, field by field."""
    texts = {name: value[name] for name in _TEXTS if name in value} if isinstance(value, dict) else value
    found = validation_errors(texts, StructuredEvent, "", strict=True)
    return found or [FieldError(fault.field, fault.detail)]


def _data_faults(parts: EventParts) -> list[FieldError]:
    """Return every fault of the data, if its type is declared."""
    declared = EVENTS.get(parts.attributes.get("type", ""))
    if declared is None:
        return []
    try:
        _parse(declared, parts.data)
    except InvalidRecordError as fault:
        first = [FieldError(fault.field, fault.detail)]
        if fault.reason != "invalid" or fault.field == "type":
            return first
        return validation_errors(msgspec.json.decode(parts.data), declared.struct, "data", strict=True) or first
    return []
