"""Dead letters: the records that no consumer can act on.

They are stored whole, with the reason, and announced on their topic's `.dlq`; the partition goes on at once.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from callboard.streams import event_parts
from callboard.streams.cloudevents import Record, attributes_of
from callboard.streams.event_parts import VALUE_LIMIT, InvalidRecordError
from callboard.streams.queries import queries_beside
from callboard.streams.topics import TOPICS

QUERIES = queries_beside(__file__)
EVERY_CONSUMER = "*"  # unreadable for every consumer, so it is one letter for all consumers of its topic
_DETAIL_LIMIT = 500


class Letter(Struct, frozen=True):
    """A record that becomes a dead letter. `source` and `event_id` are set if it was an event."""

    record: Record
    consumer: str
    reason: str
    detail: str
    source: str | None = None
    event_id: str | None = None


class DeadLetter(Struct, frozen=True):
    """A stored dead letter. `headers` are pairs of name and base64; the topic is without its prefix.

    A listed one has the beginning of its key and value, and no large headers; `is_whole` says so of key and headers.
    """

    dead_letter_id: UUID
    consumer: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | None]]
    reason: str
    detail: str
    created_at: datetime
    value_bytes: int = 0
    is_whole: bool = True
    replayed_at: datetime | None = None
    replays: int = 0

    @property
    def record(self) -> Record:
        """Return the record as it was read; without a time of its own it is as old as the letter."""
        headers = tuple((name, None if value is None else base64.b64decode(value)) for name, value in self.headers)
        fault = self.detail if self.reason == "unreadable" else None
        place = (self.topic, self.partition, self.offset)
        return Record(*place, self.created_at, self.key, self.value, headers, fault)

    @property
    def traceparent(self) -> str | None:
        """Return the trace context, if the record has a valid one."""
        return event_parts.traceparent(self._attributes())

    @property
    def event(self) -> tuple[str, str] | None:
        """Return the source and id of its event; None for a record that is no event."""
        attributes = self._attributes()
        try:
            return event_parts.source(attributes), event_parts.event_id(attributes)
        except InvalidRecordError:
            return None

    def _attributes(self) -> Mapping[str, str]:
        try:
            return attributes_of(self.record)
        except InvalidRecordError:
            return {}


class LetterFilter(Struct, frozen=True):
    """Selects letters; None selects all."""

    topic: str | None = None
    reason: str | None = None
    since: datetime | None = None


_EVERY = LetterFilter()


class DeadLetterNotice(Struct):
    """The value of a record of a `.dlq` topic. It names the dead letter: the table has key, value and headers."""

    dead_letter_id: UUID
    consumer: str
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str


async def record_dead_letters(connection: Any, letters: Sequence[Letter], *, new_id: Callable[[], UUID]) -> int:
    """Store letters, in the caller's transaction; return the number of new ones.

    The same record read twice is one letter. A broker that came back empty starts its offsets anew, so a record is
    identified by its time and value too.
    """
    if not letters:
        return 0
    ids = [new_id() for _ in letters]
    recorded: int = await QUERIES.record(
        connection,
        dead_letter_ids=ids,
        fingerprints=[_fingerprint(letter) for letter in letters],
        consumers=[letter.consumer for letter in letters],
        topics=[letter.record.topic for letter in letters],
        partitions=[letter.record.partition for letter in letters],
        offsets=[letter.record.offset for letter in letters],
        keys=[letter.record.key for letter in letters],
        bodies=[letter.record.value for letter in letters],
        headers=[_headers(letter.record) for letter in letters],
        reasons=[letter.reason for letter in letters],
        details=[_shown(letter.detail) for letter in letters],
        sources=[letter.source for letter in letters],
        event_ids=[letter.event_id for letter in letters],
        notice_ids=[new_id() for _ in letters],
        notice_topics=[TOPICS[letter.record.topic].dead_letters for letter in letters],
        notices=[_notice(letter, dead_letter_id) for letter, dead_letter_id in zip(letters, ids, strict=True)],
    )
    return recorded


async def list_dead_letters(
    connection: Any,
    *,
    limit: int = 50,
    after: tuple[datetime, UUID] | None = None,
    which: LetterFilter = _EVERY,
    include_replayed: bool = False,
    most: int = 2 * VALUE_LIMIT,
) -> list[DeadLetter]:
    """List letters that wait for a decision, newest first, with `most` bytes of each key and value; `after` is the
    time and id of the last one already listed.
    """
    at, letter_id = after or (None, None)
    given = {**asdict(which), "replayed": include_replayed, "most": most}
    rows = QUERIES.page(connection, before_at=at, before_id=letter_id, limit=limit, **given)
    return [_stored(row) async for row in rows]


async def oldest_dead_letters(connection: Any, which: LetterFilter, *, until: datetime, limit: int) -> list[UUID]:
    """List the ids of letters that wait since `until` or earlier, oldest first."""
    rows = QUERIES.oldest(connection, **asdict(which), until=until, limit=limit)
    return [row["dead_letter_id"] async for row in rows]


async def find_dead_letter(connection: Any, dead_letter_id: UUID) -> DeadLetter | None:
    """Return a whole letter."""
    row = await QUERIES.letter(connection, dead_letter_id=dead_letter_id)
    return None if row is None else _stored(row)


async def take_dead_letter(connection: Any, dead_letter_id: UUID) -> DeadLetter | None:
    """Count a letter's replay and make its event new to its consumer, in the caller's transaction; return the letter,
    or None if it does not wait.
    """
    row = await QUERIES.take(connection, dead_letter_id=dead_letter_id)
    if row is None:
        return None
    letter = _stored(row)
    if letter.consumer != EVERY_CONSUMER and letter.event is not None:
        source, event_id = letter.event
        await QUERIES.forget(connection, consumer=letter.consumer, source=source, event_id=event_id)
    return letter


async def reopen_dead_letter(connection: Any, letter: DeadLetter, reason: str, detail: str) -> bool:
    """Make a letter whose replay has failed wait again, in the caller's transaction; its event counts as consumed."""
    event = None if letter.consumer == EVERY_CONSUMER else letter.event
    source, event_id = event or (None, None)
    found: int = await QUERIES.reopen(
        connection,
        dead_letter_id=letter.dead_letter_id,
        consumer=letter.consumer,
        source=source,
        event_id=event_id,
        reason=reason,
        detail=_shown(detail),
    )
    return found > 0


async def drop_dead_letter(connection: Any, dead_letter_id: UUID) -> tuple[str, str] | None:
    """Delete a letter that waits, in the caller's transaction; return its topic and reason."""
    row = await QUERIES.drop_letter(connection, dead_letter_id=dead_letter_id)
    return row and (row["topic"], row["reason"])


def _stored(row: Any) -> DeadLetter:
    headers = msgspec.json.decode(row["headers"], type=list[tuple[str, str | None]])
    return DeadLetter(**{**dict(row), "headers": headers})


async def count(connection: Any) -> int:
    """Return how many letters wait for a decision."""
    waiting: int = await QUERIES.waiting(connection)
    return waiting


def _fingerprint(letter: Letter) -> bytes:
    record = letter.record
    place = (letter.consumer, record.topic, record.partition, record.offset, record.timestamp.isoformat(), record.value)
    return hashlib.sha256(msgspec.json.encode(place)).digest()


def _shown(detail: str) -> str:
    """Return the text without characters that PostgreSQL cannot store."""
    return detail.replace("\x00", " ").encode(errors="backslashreplace").decode()[:_DETAIL_LIMIT]


def _headers(record: Record) -> str:
    """Return JSON for jsonb, which cannot hold NUL in a name; values are base64, since they may be any bytes."""
    pairs = [
        (name.replace("\x00", "\\0"), None if value is None else base64.b64encode(value).decode())
        for name, value in record.headers
    ]
    return msgspec.json.encode(pairs).decode()


def _notice(letter: Letter, dead_letter_id: UUID) -> bytes:
    record = letter.record
    return msgspec.json.encode(
        DeadLetterNotice(
            dead_letter_id=dead_letter_id,
            consumer=letter.consumer,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=letter.reason,
            detail=_shown(letter.detail),
        )
    )
