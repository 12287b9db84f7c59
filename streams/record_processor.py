r"""The processing of a record.

    records -> decode -> admitted, not expired -> ask the actor, in batches -> processed
                  \            \                       \
                   +------------+----- dead letters ----+  refused events, found by halving the batch

When `RecordProcessor.process` returns, every record is processed: its effect is committed, or it is a dead letter.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol
from uuid import UUID, uuid4

from msgspec import Struct
from msgspec.structs import replace

from callboard.runtime import (
    ActorStoppedError,
    AskTimeoutError,
    Context,
    MailboxFullError,
    Refusal,
    Span,
    SpanKind,
    begin_span,
    use_context,
)
from callboard.streams.adaptive_batch import AdaptiveBatch
from callboard.streams.cloudevents import Record, decode, needs_signature
from callboard.streams.consumers import Consumer, RejectedError
from callboard.streams.dead_letters import EVERY_CONSUMER, Letter, record_dead_letters
from callboard.streams.event_parts import InvalidRecordError
from callboard.streams.event_types import EVENTS, ConsumeEvents, Envelope
from callboard.streams.ports import Database, passes, timed_out
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics
from callboard.streams.topics import EVENT_LIFE_S, TOPICS

_LOG = logging.getLogger(__name__)
_ASK_S = 10.0
_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_TRIES = 3
_CRASH_RETRY_S = 1.0  # times the number of the attempt: the supervisor needs its restart, and has a budget for them
_BATCH = 2000
_LETTERS = 500
_LETTERS_BYTES = 4 << 20


class _Outcome(Enum):
    """The result of an ask."""

    DONE = auto()
    LATER = auto()  # a server that it needs is unavailable: the events are valid
    SLOW = auto()  # it ran out of time: fewer events may fit
    REFUSED = auto()
    CRASHED = auto()


class _Verdict(NamedTuple):
    """A result, the dead letter's reason if there must be one, and a sentence."""

    outcome: _Outcome
    reason: str = ""
    detail: str = ""


class _Item(Struct, frozen=True):
    """A readable record, and its event."""

    record: Record
    envelope: Envelope


class Store(Protocol):
    """Stores dead letters, in the caller's transaction; returns the number of new ones."""

    async def __call__(self, connection: Any, letters: Sequence[Letter], *, new_id: Callable[[], UUID]) -> int:
        """Store them."""


class RecordProcessor:
    """One consumer's processor: each record ends as processed or as a dead letter, which `store` stores.

    One that `replays` dead letters gives each the whole life of its topic again: an operator has decided.
    """

    def __init__(
        self,
        consumer: Consumer,
        database: Database,
        signer: EventSigner,
        metrics: StreamMetrics,
        *,
        new_id: Callable[[], UUID] = uuid4,
        store: Store = record_dead_letters,
        replays: bool = False,
    ) -> None:
        self._consumer = consumer
        self._database = database
        self._signer = signer
        self._metrics = metrics
        self._new_id = new_id
        self._store = store
        self._replays = replays
        self._batch = AdaptiveBatch(_BATCH)
        self._letter_batch = AdaptiveBatch(_LETTERS)

    async def process(self, records: Sequence[Record]) -> None:
        """Return when every record is processed. Waits as long as PostgreSQL or the actor is unavailable.

        A cancellation leaves records open: they are read again, and `deduplicate` drops those that are done.
        """
        items: list[_Item] = []
        letters: list[Letter] = []
        for record in records:
            try:
                envelope = decode(record, self._signer)
            except InvalidRecordError as bad:
                # Without a source or id: a forged event must not mark the true one as consumed.
                letters.append(Letter(record, EVERY_CONSUMER, bad.reason, bad.detail))
                continue
            if not isinstance(envelope.event, self._consumer.accepts):
                continue
            if self._replays and TOPICS[envelope.topic].deadline_s is not None:
                envelope = replace(envelope, occurred_at=await self._database_time())
            item = _Item(record, envelope)
            if rejection := self._consumer.admit(envelope):
                letters.append(self._letter(item, rejection.reason, rejection.detail))
            else:
                items.append(item)
        await self._dead_letter(letters)
        if items:
            await self._deliver(items)

    async def _deliver(self, items: list[_Item]) -> None:
        """Ask until all are done. A refused batch is divided until the bad event is alone."""
        waits = tries = 0
        while items := await self._without_expired(items):
            batch = items[: self._batch.size]
            verdict = await self._timed_ask(batch)
            if verdict.outcome is _Outcome.DONE:
                waits = tries = 0
                items = items[len(batch) :]
            elif verdict.outcome is _Outcome.SLOW and self._batch.timed_out():
                continue
            elif verdict.outcome in (_Outcome.LATER, _Outcome.SLOW):
                await self._wait(waits, verdict.detail)
                waits += 1
            elif len(batch) > 1:
                await self._deliver_parts(batch, verdict.outcome)
                items = items[len(batch) :]
            elif verdict.outcome is _Outcome.CRASHED and (tries := tries + 1) < _TRIES:
                await asyncio.sleep(_CRASH_RETRY_S * tries)
            else:
                await self._dead_letter([self._letter(batch[0], verdict.reason, verdict.detail)])
                tries = 0
                items = items[1:]

    async def _deliver_parts(self, batch: list[_Item], outcome: _Outcome) -> None:
        """Halving finds one bad event in a thousand with twenty asks; but a crash costs a restart, so after a crash
        each event is asked alone, and only the bad event's own attempts crash again.
        """
        size = (len(batch) + 1) // 2 if outcome is _Outcome.REFUSED else 1
        for start in range(0, len(batch), size):
            await self._deliver(batch[start : start + size])

    async def _wait(self, waits: int, why: str) -> None:
        if self._metrics.is_news("waits", self._consumer.name, why):
            _LOG.warning("%s waits: %s", self._consumer.name, why)
        await asyncio.sleep(_RETRY_S[min(waits, len(_RETRY_S) - 1)])

    async def _timed_ask(self, batch: Sequence[_Item]) -> _Verdict:
        began = asyncio.get_running_loop().time()
        verdict = await self._ask(batch)
        if verdict.outcome is _Outcome.DONE:
            self._batch.succeeded(len(batch), asyncio.get_running_loop().time() - began)
        return verdict

    async def _ask(self, items: Sequence[_Item]) -> _Verdict:
        """Ask the actor to consume these, in their common trace; events of several traces have none in common."""
        spans = self._begin_spans(items)
        envelopes = [item.envelope for item in items]
        if spans:
            envelopes = [
                replace(each, traceparent=spans[each.traceparent].traceparent) if each.traceparent in spans else each
                for each in envelopes
            ]
        traces = {each.traceparent for each in envelopes}
        context = Context(traceparent=traces.pop() if len(traces) == 1 else None)
        failure = None
        try:
            with use_context(context):
                await self._consumer.ref.ask(ConsumeEvents(tuple(envelopes)), timeout_s=_ASK_S)
        except Exception as error:  # noqa: BLE001 - the actor may crash of any kind: its asker decides the events' fate
            failure = error
        for span in spans.values():
            span.end(failure)
        return _Verdict(_Outcome.DONE) if failure is None else _verdict_of(failure)

    def _begin_spans(self, items: Sequence[_Item]) -> dict[str | None, Span]:
        """Begin a span for each cause of these events whose trace is recorded, by its traceparent."""
        spans: dict[str | None, Span] = {}
        for parent, count in Counter(item.envelope.traceparent for item in items).items():
            attributes = {
                "messaging.system": "kafka",
                "messaging.consumer.group.name": self._consumer.name,
                "messaging.destination.name": items[0].envelope.topic,
                "messaging.batch.message_count": count,
            }
            if parent is not None and (
                span := begin_span("EXT kafka process", SpanKind.CONSUMER, attributes, parent=parent)
            ):
                spans[parent] = span
        return spans

    async def _without_expired(self, items: list[_Item]) -> list[_Item]:
        """Return those that are not expired; the others become dead letters. Only the database's clock counts."""
        limits = [_life_s(item.envelope) for item in items]
        if self._replays or all(limit is None for limit in limits):
            return items
        now = await self._database_time()
        items = [_not_after(item, now) for item in items]
        expired = [
            item
            for item, limit in zip(items, limits, strict=True)
            if limit is not None and now - item.envelope.occurred_at > timedelta(seconds=limit)
        ]
        if not expired:
            return items
        await self._dead_letter(
            [self._letter(item, "expired", f"it is of {item.envelope.occurred_at}") for item in expired]
        )
        gone = set(map(id, expired))
        return [item for item in items if id(item) not in gone]

    async def _database_time(self) -> datetime:
        """Return PostgreSQL's time; waits as long as it is unavailable."""
        waits = 0
        while True:
            try:
                async with self._database.acquire() as connection:
                    now: datetime = await connection.fetchval("select now()")
            except Refusal as refusal:
                if not passes(refusal):
                    raise
                await self._wait(waits, str(refusal))
                waits += 1
            else:
                return now

    def _letter(self, item: _Item, reason: str, detail: str) -> Letter:
        envelope = item.envelope
        return Letter(item.record, self._consumer.name, reason, detail, envelope.source, envelope.event_id)

    async def _dead_letter(self, letters: Sequence[Letter]) -> None:
        """Store dead letters, in batches that PostgreSQL can handle; waits as long as it is unavailable."""
        waits = 0
        while letters:
            part = _first(letters, self._letter_batch.size)
            began = asyncio.get_running_loop().time()
            try:
                async with self._database.transaction() as connection:
                    await self._store(connection, part, new_id=self._new_id)
            except Refusal as refusal:
                if not passes(refusal):
                    raise
                if timed_out(refusal) and self._letter_batch.timed_out():
                    continue
                await self._wait(waits, str(refusal))
                waits += 1
            else:
                self._letter_batch.succeeded(len(part), asyncio.get_running_loop().time() - began)
                self._tell(part)
                letters = letters[len(part) :]
                waits = 0

    def _tell(self, letters: Sequence[Letter]) -> None:
        """Count dead letters, and log the first of each new reason."""
        counts = Counter((letter.record.topic, letter.reason) for letter in letters)
        self._metrics.dead_letters.update(counts)
        for letter in letters:
            record, key = letter.record, (letter.record.topic, letter.reason)
            count = counts.pop(key, 0)
            if count and self._metrics.is_news("dead letter", *key):
                _LOG.warning(
                    "%d dead letters from %s, the first %s[%d]@%d: %s, %s",
                    count,
                    record.topic,
                    record.topic,
                    record.partition,
                    record.offset,
                    letter.reason,
                    letter.detail,
                )


def _verdict_of(error: Exception) -> _Verdict:
    """Classify the error of an ask by its consequence for the events."""
    if isinstance(error, AskTimeoutError) or timed_out(error):
        return _Verdict(_Outcome.SLOW, detail=str(error))
    if isinstance(error, ActorStoppedError | MailboxFullError) or passes(error):
        return _Verdict(_Outcome.LATER, detail=str(error))
    if isinstance(error, RejectedError):
        return _Verdict(_Outcome.REFUSED, error.rejection.reason, error.rejection.detail)
    if isinstance(error, Refusal):
        return _Verdict(_Outcome.REFUSED, "refused", str(error))
    return _Verdict(_Outcome.CRASHED, "failed", f"{type(error).__name__}: {error}")


def _first(letters: Sequence[Letter], count: int) -> Sequence[Letter]:
    """Return the first letters, at most `count` and about 4 MiB, but at least one."""
    total = 0
    for number, letter in enumerate(letters[:count]):
        total += len(letter.record.value or b"")
        if number and total > _LETTERS_BYTES:
            return letters[:number]
    return letters[:count]


def _not_after(item: _Item, now: datetime) -> _Item:
    """Return the item; a message with a deadline begins its life when Kafka took it, if its producer says later."""
    envelope, received = item.envelope, item.record.timestamp
    received = min(received, now) if received.timestamp() > 0 else now  # a record may have no time
    if TOPICS[envelope.topic].deadline_s is None or envelope.occurred_at <= received:
        return item
    return _Item(item.record, replace(envelope, occurred_at=received))


def _life_s(envelope: Envelope) -> float | None:
    """Return the life of an event: its topic's deadline, and for an event of ours no longer than its id is
    remembered.
    """
    deadline_s = TOPICS[envelope.topic].deadline_s
    if deadline_s is None and needs_signature(EVENTS[envelope.type], envelope.source):
        return EVENT_LIFE_S
    return deadline_s
