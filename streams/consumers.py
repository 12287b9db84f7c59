r"""Consumers: who wants which events, and the way of a record from the broker to its fate.

    records -> decode -> not past its deadline -> ask the actor, as one batch -> settled
                  \            \                       \
                   +------------+----- dead letters ----+  what is refused, found by halving the batch

When `Desk.settle` returns, every record has its fate: its effect is committed, or it is a dead letter.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from msgspec import Struct

from callboard.actors.errors import Kind, Problem
from callboard.runtime import (
    ActorStoppedError,
    AskTimeoutError,
    Context,
    MailboxFullError,
    Message,
    Ref,
    Refusal,
    use_context,
)
from callboard.streams.codec import BadRecord, Record, decode
from callboard.streams.dead_letters import EVERY_CONSUMER, Letter, bury
from callboard.streams.events import Consume, Envelope, type_of
from callboard.streams.topics import TOPICS, Topic

if TYPE_CHECKING:
    from callboard.actors.database import Database

_LOG = logging.getLogger(__name__)
_ASK_S = 10.0
_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_TRIES = 3
_CRASH_RETRY_S = 1.0  # times the number of the try: the supervisor needs its restart, and has a budget for them


class Consumer(Struct, frozen=True):
    """Who wants which events: `ref` takes `Consume` with those of `topics` whose Struct is among `accepts`.

    `name` is what the actor passes to `fresh`, and what the reconciler looks for: it must never change.
    """

    name: str
    topics: tuple[Topic, ...]
    accepts: tuple[type[Message], ...]
    ref: Ref[Consume]


class Expected(Struct, frozen=True):
    """That `consumer` records every event of `type` on `topic`; the reconciler sees to it."""

    topic: str
    type: str
    consumer: str


def expected(consumers: Iterable[Consumer]) -> tuple[Expected, ...]:
    """What the consumers together are to record."""
    return tuple(
        Expected(topic.name, declared.name, consumer.name)
        for consumer in consumers
        for declared in map(type_of, consumer.accepts)
        for topic in declared.topics
        if topic in consumer.topics
    )


class _Verdict(Enum):
    """How an ask ended."""

    DONE = auto()
    LATER = auto()  # something it needs is away: nothing is wrong with the events
    REFUSED = auto()
    CRASHED = auto()


class _Item(Struct, frozen=True):
    """A record that could be read, and the event in it."""

    record: Record
    envelope: Envelope


def _now() -> datetime:
    return datetime.now(UTC)


class Desk:
    """One consumer's desk: records come in, and leave with their fate."""

    def __init__(
        self,
        consumer: Consumer,
        database: "Database",
        *,
        now: Callable[[], datetime] = _now,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self._consumer = consumer
        self._database = database
        self._now = now
        self._new_id = new_id

    async def settle(self, records: Sequence[Record]) -> None:
        """Return when every record has its fate. Waits as long as PostgreSQL or the actor is away.

        To be cancelled leaves the fates open: the records are read again, and `fresh` drops what was done.
        """
        items: list[_Item] = []
        unreadable: list[Letter] = []
        for record in records:
            try:
                envelope = decode(record)
            except BadRecord as bad:
                unreadable.append(Letter(record, EVERY_CONSUMER, bad.reason, bad.detail))
            else:
                if isinstance(envelope.event, self._consumer.accepts):
                    items.append(_Item(record, envelope))
        await self._bury(unreadable)
        if items:
            await self._deliver(items)

    async def _deliver(self, items: list[_Item], tries: int = 0) -> None:
        """Ask until there is an answer. A batch that is not taken is divided until the poison stands alone."""
        waits = 0
        while items := await self._without_expired(items):
            verdict, detail = await self._ask(items)
            if verdict is _Verdict.DONE:
                return
            if verdict is _Verdict.LATER:
                if waits == 0:
                    _LOG.warning("%s waits: %s", self._consumer.name, detail)
                await asyncio.sleep(_RETRY_S[min(waits, len(_RETRY_S) - 1)])
                waits += 1
                continue
            if len(items) > 1:
                # Halves find one poison in a thousand with twenty asks; but a crash costs a restart, so then each
                # event is asked alone, and only the poison's own tries crash again.
                size = (len(items) + 1) // 2 if verdict is _Verdict.REFUSED else 1
                for start in range(0, len(items), size):
                    await self._deliver(items[start : start + size])
                return
            tries += 1
            if verdict is _Verdict.CRASHED and tries < _TRIES:
                await asyncio.sleep(_CRASH_RETRY_S * tries)
                continue
            await self._bury([self._letter(items[0], "refused" if verdict is _Verdict.REFUSED else "failed", detail)])
            return

    async def _ask(self, items: Sequence[_Item]) -> tuple[_Verdict, str]:
        """Ask the actor to consume these, in the trace that they share; events of several traces share none."""
        traces = {item.envelope.traceparent for item in items}
        context = Context(traceparent=traces.pop() if len(traces) == 1 else None)
        try:
            with use_context(context):
                await self._consumer.ref.ask(Consume(tuple(item.envelope for item in items)), timeout_s=_ASK_S)
        except Problem as problem:
            later = problem.code.kind in (Kind.UNAVAILABLE, Kind.LIMITED)
            return _Verdict.LATER if later else _Verdict.REFUSED, str(problem)
        except Refusal as refusal:
            return _Verdict.REFUSED, str(refusal)
        except (AskTimeoutError, ActorStoppedError, MailboxFullError) as fault:
            return _Verdict.LATER, str(fault)
        except Exception as crash:  # noqa: BLE001 - the actor crashed, of whatever kind: its asker decides the event's fate
            return _Verdict.CRASHED, f"{type(crash).__name__}: {crash}"
        return _Verdict.DONE, ""

    async def _without_expired(self, items: list[_Item]) -> list[_Item]:
        """Those still worth acting on; the others go to the dead letters."""
        now = self._now()
        expired = [item for item in items if _is_expired(item, now)]
        if not expired:
            return items
        await self._bury([self._letter(item, "expired", f"it is of {item.envelope.occurred_at}") for item in expired])
        return [item for item in items if not _is_expired(item, now)]

    def _letter(self, item: _Item, reason: str, detail: str) -> Letter:
        envelope = item.envelope
        return Letter(item.record, self._consumer.name, reason, detail, envelope.source, envelope.event_id)

    async def _bury(self, letters: Sequence[Letter]) -> None:
        """Keep dead letters, waiting for PostgreSQL if need be."""
        waits = 0
        while letters:
            try:
                async with self._database.transaction() as connection:
                    await bury(connection, letters, new_id=self._new_id)
            except Problem as problem:
                if problem.code.kind is not Kind.UNAVAILABLE:
                    raise
                await asyncio.sleep(_RETRY_S[min(waits, len(_RETRY_S) - 1)])
                waits += 1
            else:
                for letter in letters:
                    _LOG.warning(
                        "dead letter from %s[%d]@%d: %s, %s",
                        letter.record.topic,
                        letter.record.partition,
                        letter.record.offset,
                        letter.reason,
                        letter.detail,
                    )
                return


def _is_expired(item: _Item, now: datetime) -> bool:
    deadline_s = TOPICS[item.envelope.topic].deadline_s
    return deadline_s is not None and now - item.envelope.occurred_at > timedelta(seconds=deadline_s)
