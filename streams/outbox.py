"""The two halves of exactly-once effects over an at-least-once stream: the outbox, and the record of consumed events.

`emit` writes an event in the transaction of its cause; the relay publishes it afterwards. `deduplicate` records, in the
transaction of the effect, that a consumer has had an event, and returns the new ones.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from msgspec import Struct

from callboard.runtime import Message, current_context
from callboard.streams.cloudevents import encode_value
from callboard.streams.event_types import Envelope, EventType, derive_id, type_of
from callboard.streams.queries import queries_beside
from callboard.streams.topics import Topic

QUERIES = queries_beside(__file__)


class ProducedEvent(Struct, frozen=True):
    """An event of a producer, with its data as sent. (source, event_id) identifies it."""

    event_id: str
    source: str
    declared: EventType
    data: bytes
    event: Message
    time: datetime | None = None
    traceparent: str | None = None

    @property
    def row_id(self) -> UUID:
        """Return its key in the outbox, which no event of ours can have."""
        return derive_id("produced", self.source, self.event_id)


async def emit(
    connection: Any,
    event: Message,
    *,
    event_id: UUID,
    topic: Topic | None = None,
    occurred_at: datetime | None = None,
) -> None:
    """Add an event to the outbox, in the caller's transaction: it exists if and only if that commits.

    `topic` selects one of the topics of the event's type (None: the first); `occurred_at` None is the transaction's
    time. Events of one key are published in the order of their rows. Raises ValueError for a topic that the type does
    not travel on and for an event that is too large, KeyError for an undeclared Struct.
    """
    declared = type_of(event)
    chosen = topic or declared.topics[0]
    if chosen not in declared.topics:
        raise ValueError(f"{declared.name} does not travel on {chosen.name}")
    context = current_context()
    await QUERIES.append(
        connection,
        event_id=event_id,
        topic=chosen.name,
        key=declared.key_of(event),
        type=declared.name,
        value=encode_value(event),
        traceparent=context.traceparent if context else None,
        occurred_at=occurred_at,
    )


async def emit_all(
    connection: Any, events: Sequence[Message], *, topic: Topic | None = None, of: type[Message] | None = None
) -> None:
    """Add events of one type to the outbox as `emit` does, all in one statement. Raises the errors of `emit`.

    With their type, `of`, the statement also runs without events: its time does not tell whether there are any.
    """
    if not events and of is None:
        return
    declared = type_of(of or events[0])
    chosen = topic or declared.topics[0]
    if chosen not in declared.topics or any(type_of(event) is not declared for event in events):
        raise ValueError(f"not all of these are {declared.name} and travel on {chosen.name}")
    context = current_context()
    await QUERIES.append_all(
        connection,
        event_ids=[uuid4() for _ in events],
        topic=chosen.name,
        keys=[declared.key_of(event) for event in events],
        type=declared.name,
        contents=[encode_value(event) for event in events],
        traceparent=context.traceparent if context else None,
    )


async def emit_produced(connection: Any, events: Sequence[ProducedEvent]) -> list[bool]:
    """Add producers' events to the outbox, in order, in the caller's transaction; say of each whether it is new.

    An event that is still in the outbox is not added again: it stays there until every consumer has recorded it, and
    for a day at least. Each travels on the first topic of its type.
    """
    rows = QUERIES.append_produced(
        connection,
        event_ids=[each.row_id for each in events],
        sources=[each.source for each in events],
        ce_ids=[each.event_id for each in events],
        topics=[each.declared.topics[0].name for each in events],
        keys=[each.declared.key_of(each.event) for each in events],
        types=[each.declared.name for each in events],
        contents=[each.data for each in events],
        traceparents=[each.traceparent for each in events],
        times=[each.time for each in events],
    )
    added = {row["event_id"] async for row in rows}
    are_new: list[bool] = []
    for each in events:
        are_new.append(each.row_id in added)
        added.discard(each.row_id)  # its repetition in the same request is not new
    return are_new


async def deduplicate(connection: Any, consumer: str, envelopes: Sequence[Envelope]) -> list[Envelope]:
    """Return the envelopes that are new to `consumer`, in order, each once, and record them.

    One statement in the caller's transaction: if that rolls back, they are new again.
    """
    rows = QUERIES.remember(
        connection,
        consumer=consumer,
        sources=[envelope.source for envelope in envelopes],
        event_ids=[envelope.event_id for envelope in envelopes],
    )
    unmet = {(row["source"], row["event_id"]) async for row in rows}
    met: list[Envelope] = []
    for envelope in envelopes:
        name = (envelope.source, envelope.event_id)
        if name in unmet:
            unmet.discard(name)
            met.append(envelope)
    return met
