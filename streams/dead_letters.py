"""Dead letters: the records that no consumer can act on.

They are stored whole, with the reason, and announced on their topic's `.dlq`; the partition goes on at once.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from callboard.streams.cloudevents import Record
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
    """A stored dead letter. `headers` are pairs of name and base64; the topic is without its prefix."""

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
    connection: Any, *, limit: int = 50, after: tuple[datetime, UUID] | None = None
) -> list[DeadLetter]:
    """List letters that wait for a decision, newest first; `after` is the time and id of the last one already
    listed.
    """
    after_at, after_id = after or (None, None)
    rows = QUERIES.page(connection, after_at=after_at, after_id=after_id, limit=limit)
    return [
        DeadLetter(**{**dict(row), "headers": msgspec.json.decode(row["headers"], type=list[tuple[str, str | None]])})
        async for row in rows
    ]


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
