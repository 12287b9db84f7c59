"""Event ingestion: events of a producer key are checked against its rights and its quota, and written to the outbox.

One transaction for a request: all of its events are accepted, or none. The relay publishes them as it does our own, and
signs them: consumers know that they came through a key.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec

from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.errors import REQUEST_INVALID, ErrorCode, FieldError, Problem
from callboard.actors.infrastructure import audit_log
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.ingestion.errors import EVENTS_NOT_ALLOWED, EVENTS_QUOTA, KEYS_INVALID
from callboard.actors.ingestion.producer_keys import KEY_USED, QUERIES, KeyUses, ProducerKey, key_of
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import OUR_SOURCE, Envelope
from callboard.streams.outbox import ProducedEvent, emit_produced

HOUR_S = 3600.0
MAX_DETAILS = 50
MAIL_QUOTA_RETRY_S = 60.0  # MAIL_PRODUCERS counts by the minute at the shortest

OUTCOMES = {
    EVENTS_NOT_ALLOWED: "not_allowed",
    EVENTS_QUOTA: "over_quota",
    REQUEST_INVALID: "invalid",
    KEYS_INVALID: "revoked",
}

Mode = Literal["binary", "structured", "batch"]


class IngestedEvent(msgspec.Struct, frozen=True):
    """An accepted event; a duplicate was accepted before, and has no second effect."""

    id: str
    source: str
    status: Literal["accepted", "duplicate"]


class IngestEvents(Request[list[IngestedEvent]], frozen=True):
    """Accept the events of one request, all or none, and say of each whether it is new.

    Raises Problem(EVENTS_NOT_ALLOWED, EVENTS_QUOTA, REQUEST_INVALID), and KEYS_INVALID if the key has been revoked
    meanwhile. `mode` gives the paths of faults their form.
    """

    key_id: UUID
    mode: Mode
    events: tuple[ProducedEvent, ...]


def path_of(mode: Mode, index: int, field: str) -> str:
    """Return the path of an attribute, or of a field of the data, in a request of this mode."""
    if mode == "batch":
        return f"[{index}].{field}".rstrip(".")
    if mode == "structured":
        return field
    inner = field.removeprefix("data").removeprefix(".")  # in binary mode the data is the body
    return inner if field.startswith("data") else f"ce-{field}"


class EventIngestion(Actor[IngestEvents]):
    """Writes producers' events to the outbox, and counts them by their outcome.

    The first use of a key in an hour from a network has an entry of the audit log, in each process.
    """

    def __init__(
        self,
        database: Database,
        delivery: DeliveryRefs | None,
        counts: Counter[str] | None = None,
        uses: KeyUses | None = None,
    ) -> None:
        self.database = database
        self.delivery = delivery
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.uses = KeyUses() if uses is None else uses

    @on(IngestEvents)
    async def ingest(self, message: IngestEvents) -> list[IngestedEvent]:
        """Accept or refuse all of them."""
        try:
            events = await self._write(message)
        except Problem as problem:
            if problem.code in OUTCOMES:
                self.counts[OUTCOMES[problem.code]] += len(message.events)
            raise
        self.counts.update(each.status for each in events)
        return events

    @retried
    async def _write(self, message: IngestEvents) -> list[IngestedEvent]:
        """The lock on the key's row is held to the end: a revoked key has no request in progress."""
        async with self.database.transaction() as connection:
            row = await QUERIES.lock_key(connection, key_id=message.key_id)
            if row is None:
                raise Problem(KEYS_INVALID)
            key = key_of(row)
            self._check(key, message, row["now"])
            are_new = await emit_produced(connection, message.events)
            new = [each for each, is_new in zip(message.events, are_new, strict=True) if is_new]
            await _count(connection, key, len(new), sum(len(each.data) for each in new))
            await self._record(connection, key, row["now"])
        return [
            IngestedEvent(each.event_id, each.source, "accepted" if is_new else "duplicate")
            for each, is_new in zip(message.events, are_new, strict=True)
        ]

    async def _record(self, connection: Any, key: ProducerKey, now: datetime) -> None:
        network = audit_log.origin_network()
        if self.uses.is_new(key.key_id, now, network):
            await audit_log.record(connection, KEY_USED, key_id=key.key_id, name=key.name)
            connection.on_commit(lambda: self.uses.add(key.key_id, now, network))

    def _check(self, key: ProducerKey, message: IngestEvents, now: datetime) -> None:
        """Raise Problem with every event that may not be sent, or that nobody would act on."""
        _refuse(EVENTS_NOT_ALLOWED, message, lambda event: rights_faults(key, event))
        _refuse(REQUEST_INVALID, message, lambda event: age_faults(event, now))
        if self.delivery is None:
            return
        admit = self.delivery.mail_producers.admit  # the consumer asks it too, and would reject the event
        for index, event in enumerate(message.events):
            if rejection := admit(envelope_of(event, now)):
                code = EVENTS_QUOTA if rejection.reason == "over_quota" else EVENTS_NOT_ALLOWED
                retry_after_s = MAIL_QUOTA_RETRY_S if code is EVENTS_QUOTA else None
                fault = FieldError(path_of(message.mode, index, "source"), rejection.detail)
                raise Problem(code, details=(fault,), retry_after_s=retry_after_s)


def _refuse(
    code: ErrorCode, message: IngestEvents, faults_of: Callable[[ProducedEvent], Iterator[tuple[str, str]]]
) -> None:
    """Raise Problem with the faults of all events, if there are any."""
    faults = [
        FieldError(path_of(message.mode, index, field), said)
        for index, event in enumerate(message.events)
        for field, said in faults_of(event)
    ]
    if faults:
        raise Problem(code, details=tuple(faults[:MAX_DETAILS]))


def envelope_of(event: ProducedEvent, now: datetime) -> Envelope:
    """Return the event as its consumers get it."""
    declared = event.declared
    return Envelope(
        event_id=event.event_id,
        source=event.source,
        type=declared.name,
        topic=declared.topics[0].name,
        occurred_at=event.time or now,
        traceparent=event.traceparent,
        event=event.event,
    )


def rights_faults(key: ProducerKey, event: ProducedEvent) -> Iterator[tuple[str, str]]:
    """Yield the attributes that the key does not allow, and why."""
    if not event.declared.open_to_producers:
        yield "type", "Only Callboard writes events of this type."
    elif event.declared.name not in key.types:
        yield "type", f"This key may send events of {', '.join(key.types)}."
    if event.source == OUR_SOURCE:
        yield "source", "Only Callboard has this source."
    elif not key.allows_source(event.source):
        yield "source", "This key may not send events of this source."


def age_faults(event: ProducedEvent, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield the time of an event that is older than its topic's deadline."""
    deadline_s = event.declared.topics[0].deadline_s
    if deadline_s is not None and event.time is not None and now - event.time > timedelta(seconds=deadline_s):
        yield "time", f"Is too old: {event.declared.name} is acted on within {deadline_s:g} seconds."


async def _count(connection: Any, key: ProducerKey, events: int, data_bytes: int) -> None:
    """Count new events against the key's quota. Raises Problem(EVENTS_QUOTA), which undoes the request."""
    if events > key.hourly_events or data_bytes > key.hourly_bytes:
        said = f"This key may send {key.hourly_events} events and {key.hourly_bytes} bytes an hour: divide the request."
        raise Problem(EVENTS_NOT_ALLOWED, said)
    row = await QUERIES.count_use(connection, key_id=key.key_id, events=events, bytes=data_bytes, window_s=HOUR_S)
    wait_s = max(
        wait_for_room_s(row["used_events"], row["previous_events"], events, key.hourly_events, row["elapsed_s"]),
        wait_for_room_s(row["used_bytes"], row["previous_bytes"], data_bytes, key.hourly_bytes, row["elapsed_s"]),
    )
    if wait_s > 0:
        raise Problem(EVENTS_QUOTA, retry_after_s=wait_s)


def wait_for_room_s(used: int, previous: int, count: int, most: int, elapsed_s: float) -> float:
    """Return the seconds until `count` more fit into a sliding hour that has `most`; 0 if they do now.

    `used` is the count of this hour with these, `elapsed_s` its age; `previous` is that of the hour before, which
    counts by its overlap with the window.
    """
    room = most - used
    if previous * (HOUR_S - elapsed_s) / HOUR_S <= room:
        return 0.0
    if room >= 0:
        return max(HOUR_S * (1 - room / previous) - elapsed_s, 1.0)
    before = used - count  # in the next hour this is the hour before
    return max(HOUR_S * (2 - (most - count) / before) - elapsed_s, 1.0)
