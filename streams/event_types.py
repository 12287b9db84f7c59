"""Types of events: one frozen Struct each, sent as the same JSON in the process and on Kafka, and one registry.

Each department declares its own in its `events.py`, and registers them; this module knows none of them.

An event is named in the past tense, and carries only the personal data that its consumers need. Consumers ignore fields
they do not know, so a field with a default may be added at any time; every other change is a new event type.
"""

from datetime import datetime
from typing import Annotated
from uuid import NAMESPACE_URL, UUID, uuid5

from msgspec import Meta, Struct

from callboard.runtime import Message, Request
from callboard.streams.topics import Topic
from callboard.streams.visible_text import visible

OUR_SOURCE = "callboard"  # the ce_source of every event that we write

# PostgreSQL's text and jsonb cannot hold NUL, so no event can: it is refused here, and not by every consumer.
Text = Annotated[str, Meta(pattern=r"^[^\x00]*\Z")]
Line = Annotated[str, visible(1, 998)]
Name = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", min_length=1, max_length=100)]
UtcDatetime = Annotated[datetime, Meta(tz=True)]


class EventType(Struct, frozen=True):
    """The registry's entry for an event type. It may travel on any of `topics`; the first is the default.

    Producers may write the types that are `open_to_producers`. All others are ours, and carry our signature.
    """

    name: str
    struct: type[Message]
    topics: tuple[Topic, ...]
    key: str
    meaning: str
    open_to_producers: bool = False

    def key_of(self, event: Message) -> str:
        """Return the Kafka key of one event: events of one key stay in order."""
        return str(getattr(event, self.key))


# Every declared type of this process, by its name and by its Struct.
EVENTS: dict[str, EventType] = {}
_TYPE_BY_STRUCT: dict[type, EventType] = {}


def declare_event(
    name: str, struct: type[Message], key: str, *topics: Topic, open_to_producers: bool = False
) -> EventType:
    """Declare an event type; the field `key` holds the Kafka key.

    Raises ValueError for a duplicate name or Struct.
    """
    declared = EventType(name, struct, topics, key, (struct.__doc__ or "").strip(), open_to_producers)
    if name in EVENTS or struct in _TYPE_BY_STRUCT:
        raise ValueError(f"the event {name} or its Struct {struct.__name__} is declared twice")
    EVENTS[name] = _TYPE_BY_STRUCT[struct] = declared
    return declared


def type_of(event: Message | type[Message]) -> EventType:
    """Return the registry's entry for an event or its class. Raises KeyError for an undeclared Struct."""
    return _TYPE_BY_STRUCT[event if isinstance(event, type) else type(event)]


class Envelope(Struct, frozen=True):
    """One event with its CloudEvents attributes. (source, event_id) identifies it, however often it is delivered."""

    event_id: str
    source: str
    type: str
    topic: str
    occurred_at: datetime
    traceparent: str | None
    event: Message


def derive_id(*parts: str) -> UUID:
    """Derive a UUID from the parts. Each is encoded with its length, so other parts give another UUID."""
    return uuid5(NAMESPACE_URL, "".join(f"{len(part)}:{part}" for part in parts))


class ConsumeEvents(Request[None], frozen=True):
    """A request to a consuming actor: perform the effect of these events, in order, in one transaction with
    `deduplicate`.

    A Refusal or a crash refuses the whole batch; the stream then asks again one by one, so that only the bad event
    becomes a dead letter. A Problem of kind UNAVAILABLE is retried until it passes.
    """

    envelopes: tuple[Envelope, ...]
