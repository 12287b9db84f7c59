"""Dead letters in one place: what failed for good, until an operator replays or drops it, or its time is over.

There are two sources: records that no consumer could act on, and jobs, of which mails are one kind. An id is that of
its source with the source's name before it: `record:<uuid>`, `job:17`.
"""

import base64
import codecs
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.errors import DEAD_LETTERS_NOT_FOUND

SHOWN_BYTES = 65_536  # of a value, and of a key
LISTED_BYTES = 2_048

State = Literal["waiting", "replayed", "dropped"]
Position = tuple[datetime, UUID]  # a job's number counts as a UUID


class DeadLetterFilter(msgspec.Struct, frozen=True):
    """Selects dead letters that wait; `name` is a topic or a kind of jobs. None selects all."""

    source: str | None = None
    name: str | None = None
    reason: str | None = None
    since: datetime | None = None


class DeadLetterView(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter. Key and value are text if they are UTF-8, and always base64; `is_cut` says that a long one is
    cut, `value_bytes` is the whole size of the value. Values of headers are base64. `attempts` are those of the last
    job, or the deliveries of a record; `replays` were asked for by operators.
    """

    id: str
    source: str
    name: str
    state: State
    reason: str
    detail: str
    attempts: int
    replays: int
    created_at: datetime
    position: UUID
    key: str | None = None
    key_base64: str | None = None
    value: str | None = None
    value_base64: str | None = None
    value_bytes: int = 0
    is_cut: bool = False
    headers: list[tuple[str, str | None]] = []
    traceparent: str | None = None
    event_source: str | None = None
    event_id: str | None = None
    dead_letter_id: UUID | None = None
    consumer: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    job_id: int | None = None
    replayed_as: int | None = None


class DeadLetterChange(msgspec.Struct, frozen=True):
    """The result of a replay or a drop: of so many letters so many are changed; the others did not wait any more."""

    found: int
    changed: int


class DeadLetterSource(Protocol):
    """A kind of dead letters; `key` is an id without the name of the source. Each change is audited."""

    name: str

    async def page(
        self, which: DeadLetterFilter, *, replayed: bool, before: Position | None, limit: int
    ) -> list[DeadLetterView]:
        """List letters, newest first, before a position."""

    async def find(self, key: str) -> DeadLetterView | None:
        """Return a letter with as much of its bytes as is shown."""

    async def oldest(self, which: DeadLetterFilter, *, until: datetime, limit: int) -> list[str]:
        """List the keys of letters that wait since `until` or earlier, oldest first."""

    async def replay(self, key: str, *, delay_s: float) -> bool:
        """Replay a letter; False if it does not wait."""

    async def drop(self, key: str) -> bool:
        """Drop a letter; False if it does not wait."""


class DeadLetters:
    """All dead letters of an installation, for operators."""

    def __init__(self, database: Database, *sources: DeadLetterSource) -> None:
        self.database = database
        self.sources: Mapping[str, DeadLetterSource] = {source.name: source for source in sources}

    async def page(
        self, which: DeadLetterFilter, *, replayed: bool = False, before: Position | None = None, limit: int
    ) -> list[DeadLetterView]:
        """List letters that wait, or with those that were replayed, newest first, before a position."""
        found = [
            letter
            for source in self._selected(which)
            for letter in await source.page(which, replayed=replayed, before=before, limit=limit)
        ]
        return sorted(found, key=lambda letter: (letter.created_at, letter.position), reverse=True)[:limit]

    async def show(self, letter_id: str) -> DeadLetterView:
        """Return a letter. Raises Problem(DEAD_LETTERS_NOT_FOUND)."""
        source, key = self._named(letter_id)
        letter = await source.find(key)
        if letter is None:
            raise Problem(DEAD_LETTERS_NOT_FOUND)
        return letter

    async def time(self) -> datetime:
        """Return the database's time: letters that die later are not of a change that begins now."""
        async with self.database.acquire() as connection:
            now: datetime = await connection.fetchval("select clock_timestamp()")
            return now

    async def select(self, which: DeadLetterFilter, *, until: datetime, limit: int) -> list[str]:
        """List the ids of letters that wait since `until` or earlier, of each source the oldest first."""
        ids: list[str] = []
        for source in self._selected(which):
            keys = await source.oldest(which, until=until, limit=limit - len(ids))
            ids += [f"{source.name}:{key}" for key in keys]
        return ids

    async def expect(self, ids: Sequence[str]) -> None:
        """Raise Problem(DEAD_LETTERS_NOT_FOUND) if one of these does not exist."""
        for letter_id in ids:
            await self.show(letter_id)

    async def replay(self, ids: Sequence[str], *, after: int = 0, per_second: float) -> DeadLetterChange:
        """Replay letters, in this order, so many a second; `after` so many others that are replayed with them."""
        changed = 0
        for source, key in map(self._named, ids):
            changed += await source.replay(key, delay_s=(after + changed) / per_second)
        return DeadLetterChange(len(ids), changed)

    async def drop(self, ids: Sequence[str]) -> DeadLetterChange:
        """Drop letters: they are not replayed any more."""
        changed = 0
        for source, key in map(self._named, ids):
            changed += await source.drop(key)
        return DeadLetterChange(len(ids), changed)

    def _selected(self, which: DeadLetterFilter) -> list[DeadLetterSource]:
        return [source for source in self.sources.values() if which.source in (None, source.name)]

    def _named(self, letter_id: str) -> tuple[DeadLetterSource, str]:
        """Return the source of an id, and its key there. Raises Problem(DEAD_LETTERS_NOT_FOUND)."""
        name, _, key = letter_id.partition(":")
        if name not in self.sources:
            raise Problem(DEAD_LETTERS_NOT_FOUND)
        return self.sources[name], key


def as_text(value: bytes | None, *, is_cut: bool) -> str | None:
    """Return bytes that are UTF-8 as text; cut ones may end within a character."""
    try:
        return None if value is None else codecs.getincrementaldecoder("utf-8")().decode(value, final=not is_cut)
    except UnicodeDecodeError:
        return None


def as_base64(value: bytes | None) -> str | None:
    """Return bytes as base64."""
    return None if value is None else base64.b64encode(value).decode()
