"""The AsyncAPI 3 document of the events of a process's departments: nothing about an event is declared twice.

Producers receive it as /asyncapi.json. Addresses have the installation's prefix as a parameter, so that each
installation with the same departments has the same document.
"""

import inspect
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec

from callboard.streams.dead_letters import DeadLetterNotice
from callboard.streams.event_parts import ID_LIMIT, SOURCE_LIMIT, VALUE_LIMIT
from callboard.streams.event_types import OUR_SOURCE, EventType
from callboard.streams.topics import Topic

_DESCRIPTION = (
    "The events of Callboard on Kafka, as CloudEvents 1.0. Producers write the events that the application receives, "
    "in binary mode as here or in structured mode; `POST /api/v1/events` takes the same events over HTTP, and batches. "
    f"The data of an event takes {VALUE_LIMIT} bytes at most. All other events are ours, and carry our signature."
)
_REF = "#/components/schemas/{name}"
_PREFIX = {"prefix": {"default": "callboard", "description": "The setting TOPIC_PREFIX."}}
_BINDING = {"bindingVersion": "0.5.0"}
_LINE = "^[^\\u0000-\\u001f\\u007f]+$"
_DEAD_LETTERS = "dead-letters"
_NOTICE = "dead_letter.recorded"

_HEADERS: dict[str, Any] = {
    "type": "object",
    "description": "The attributes of CloudEvents 1.0 in Kafka's binary mode. Extensions are allowed, and ignored.",
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {
            "type": "string",
            "description": "The same id of the same source has its effect once.",
            "maxLength": ID_LIMIT,
            "pattern": _LINE,
        },
        "ce_source": {"type": "string", "maxLength": SOURCE_LIMIT, "pattern": _LINE},
        "ce_type": {"type": "string"},
        "ce_time": {
            "type": "string",
            "format": "date-time",
            "description": "With a time zone; the default is the record's timestamp.",
        },
        "content-type": {"type": "string", "default": "application/json"},
        "traceparent": {"type": "string", "description": "W3C Trace Context."},
    },
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type"],
}
_SIGNED: dict[str, Any] = {
    "allOf": [{"$ref": _REF.format(name="CloudEventHeaders")}],
    "type": "object",
    "properties": {
        "ce_source": {"const": OUR_SOURCE},
        "ce_signature": {"type": "string", "description": "HMAC-SHA256 by a key of ours, in base64url."},
    },
    "required": ["ce_signature", "ce_time"],
}


@cache
def asyncapi(events: tuple[EventType, ...]) -> bytes:
    """Return the document of these event types, as JSON."""
    return msgspec.json.encode(_document(events))


def render_asyncapi(events: Sequence[EventType]) -> str:
    """Return the document as it is committed, streams/asyncapi.json."""
    return msgspec.json.format(asyncapi(tuple(events)), indent=2).decode() + "\n"


def _document(events: Sequence[EventType]) -> dict[str, Any]:
    topics = {topic.name: topic for event in events for topic in event.topics}
    found, schemas = msgspec.json.schema_components([event.struct for event in events], ref_template=_REF)
    for schema in schemas.values():
        _adapt(schema)
    payloads = {event.name: payload for event, payload in zip(events, found, strict=True)}
    _, notice = msgspec.json.schema_components([DeadLetterNotice], ref_template=_REF)
    for schema in notice.values():
        _adapt(schema)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Callboard events", "version": "1", "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {name: _channel(topic, events) for name, topic in topics.items()}
        | {_DEAD_LETTERS: _dead_letter_channel(topics)},
        "operations": dict(_operations(topics, events)),
        "components": {
            "messages": {event.name: _message(event, payloads[event.name]) for event in events}
            | {_NOTICE: _dead_letter_message()},
            "schemas": {**schemas, **notice, "CloudEventHeaders": _HEADERS, "SignedHeaders": _SIGNED},
        },
    }


def _channel(topic: Topic, events: Sequence[EventType]) -> dict[str, Any]:
    deadline = "" if topic.deadline_s is None else f" Messages are acted on within {topic.deadline_s:g} seconds."
    names = [event.name for event in events if topic in event.topics]
    return {
        "address": f"{{prefix}}.{topic.name}",
        "description": f"Keyed by {topic.key}. {topic.carries}.{deadline}",
        "parameters": _PREFIX,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"kafka": _BINDING},
    }


def _operations(topics: dict[str, Topic], events: Sequence[EventType]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield for each topic the events that producers write, which we receive, and those that we write."""
    for name, topic in topics.items():
        for action, is_open in (("receive", True), ("send", False)):
            carried = [each.name for each in events if topic in each.topics and each.open_to_producers is is_open]
            if carried:
                yield f"{action}-{name}", _operation(action, name, carried)
    yield f"send-{_DEAD_LETTERS}", _operation("send", _DEAD_LETTERS, [_NOTICE])


def _operation(action: str, channel: str, messages: Sequence[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _message(event: EventType, payload: dict[str, Any]) -> dict[str, Any]:
    headers = "CloudEventHeaders" if event.open_to_producers else "SignedHeaders"
    return {
        "name": event.name,
        "summary": inspect.cleandoc(event.meaning),
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "allOf": [{"$ref": _REF.format(name=headers)}],
            "properties": {"ce_type": {"const": event.name}},
        },
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string", "description": f"The event's `{event.key}`."}, **_BINDING}},
    }


def _dead_letter_channel(topics: dict[str, Topic]) -> dict[str, Any]:
    """Return the channel of all topics that announce dead letters."""
    parameters = {**_PREFIX, "topic": {"enum": list(topics), "description": "The topic of the record."}}
    return {
        "address": "{prefix}.{topic}.dlq",
        "description": "Announces each dead letter of a topic. An operator finds the record under its id.",
        "parameters": parameters,
        "messages": {_NOTICE: {"$ref": "#/components/messages/dead_letter.recorded"}},
        "bindings": {"kafka": _BINDING},
    }


def _dead_letter_message() -> dict[str, Any]:
    return {
        "name": _NOTICE,
        "summary": "A record has become a dead letter.",
        "contentType": "application/json",
        "headers": {"$ref": _REF.format(name="SignedHeaders")},
        "payload": {"$ref": _REF.format(name=DeadLetterNotice.__name__)},
    }


def _adapt(schema: Any) -> None:
    """Give a schema of Python the form that JSON Schema readers share: ends of patterns, and whole docstrings."""
    if isinstance(schema, list):
        for each in schema:
            _adapt(each)
    elif isinstance(schema, dict):
        pattern, description = schema.get("pattern"), schema.get("description")
        if isinstance(pattern, str):
            schema["pattern"] = pattern.replace("\\Z", "$")
        if isinstance(description, str):
            schema["description"] = inspect.cleandoc(description)
        for each in schema.values():
            _adapt(each)
