"""Dead letters of records: a replay is a job, which gives the record as it was read to its consumers again.

The record keeps its id, its signature and its bytes. Nothing is written to Kafka: other consumers do not see it again,
and no unsigned event becomes a signed one. Replays of one key run in their order.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.infrastructure.audit_actions import DEAD_LETTER_DROPPED, DEAD_LETTER_REPLAYED
from callboard.actors.infrastructure.audit_log import OPERATOR, record
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.dead_letters import (
    LISTED_BYTES,
    SHOWN_BYTES,
    DeadLetterFilter,
    DeadLetterView,
    Position,
    as_base64,
    as_text,
)
from callboard.actors.infrastructure.job_kinds import (
    EndedJob,
    Job,
    JobHandler,
    JobKind,
    Outcome,
    Permanent,
    job_pool,
    on_job,
)
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.runtime import Actor, Context, Props, use_context
from callboard.streams.consumers import Consumer
from callboard.streams.dead_letters import (
    EVERY_CONSUMER,
    DeadLetter,
    Letter,
    LetterFilter,
    drop_dead_letter,
    find_dead_letter,
    list_dead_letters,
    oldest_dead_letters,
    record_dead_letters,
    reopen_dead_letter,
    take_dead_letter,
)
from callboard.streams.record_processor import RecordProcessor
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics

SOURCE = "record"
ORDER_LENGTH = 200


class ReplayRecord(msgspec.Struct, frozen=True):
    """The job: give the record of a dead letter to its consumers."""

    dead_letter_id: UUID


async def _reopen(connection: Any, job: EndedJob[ReplayRecord]) -> None:
    """The letter waits again; so the job, which says the same, need not."""
    letter = await find_dead_letter(connection, job.payload.dead_letter_id)
    if letter is not None:
        await reopen_dead_letter(connection, letter, "failed", f"the replay: {job.error}")
    await connection.execute("update dead_jobs set discarded_at = clock_timestamp() where job_id = $1", job.job_id)


REPLAY_RECORD: JobKind[ReplayRecord] = JobKind(
    "dead_letter", ReplayRecord, slots=2, timeout_s=120.0, max_attempts=3, on_dead=_reopen
)


class RecordLetters:
    """The dead letters of records, as a source."""

    name = SOURCE

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self.database = database
        self.queue = queue

    async def page(
        self, which: DeadLetterFilter, *, replayed: bool, before: Position | None, limit: int
    ) -> list[DeadLetterView]:
        """See DeadLetterSource."""
        async with self.database.acquire() as connection:
            found = await list_dead_letters(
                connection,
                limit=limit,
                after=before,
                which=_filter(which),
                include_replayed=replayed,
                most=LISTED_BYTES,
            )
        return [_view(letter, LISTED_BYTES) for letter in found]

    async def find(self, key: str) -> DeadLetterView | None:
        """See DeadLetterSource."""
        if (letter_id := _uuid(key)) is None:
            return None
        async with self.database.acquire() as connection:
            letter = await find_dead_letter(connection, letter_id)
        return None if letter is None else _view(letter, SHOWN_BYTES)

    async def oldest(self, which: DeadLetterFilter, *, until: datetime, limit: int) -> list[str]:
        """See DeadLetterSource."""
        async with self.database.acquire() as connection:
            ids = await oldest_dead_letters(connection, _filter(which), until=until, limit=limit)
        return [str(each) for each in ids]

    @retried
    async def replay(self, key: str, *, delay_s: float) -> bool:
        """See DeadLetterSource."""
        if (letter_id := _uuid(key)) is None:
            return False
        async with self.database.transaction() as connection:
            letter = await take_dead_letter(connection, letter_id)
            if letter is None:
                return False
            order = f"{letter.topic}/{as_base64(letter.key)}"[:ORDER_LENGTH]
            with use_context(Context(letter.traceparent)):
                await self.queue.enqueue(connection, ReplayRecord(letter_id), delay_s=delay_s, order=order)
            facts: dict[str, Any] = {"topic": letter.topic, "reason": letter.reason, "replays": letter.replays}
            await record(connection, DEAD_LETTER_REPLAYED, by=OPERATOR, id=key, **facts)
        return True

    @retried
    async def drop(self, key: str) -> bool:
        """See DeadLetterSource."""
        if (letter_id := _uuid(key)) is None:
            return False
        async with self.database.transaction() as connection:
            dropped = await drop_dead_letter(connection, letter_id)
            if dropped is None:
                return False
            topic, reason = dropped
            await record(connection, DEAD_LETTER_DROPPED, by=OPERATOR, id=key, topic=topic, reason=reason)
        return True


class RecordReplayer(Actor[Job[ReplayRecord]]):
    """Runs replays. A record that fails again is the same dead letter again, with its new reason."""

    def __init__(
        self, database: Database, consumers: Sequence[Consumer], signer: EventSigner, metrics: StreamMetrics
    ) -> None:
        self.database = database
        self.consumers = consumers
        self.signer = signer
        self.metrics = metrics

    @on_job
    async def replay(self, job: Job[ReplayRecord]) -> Outcome:
        """Give the record to each consumer of the letter. A second attempt has no second effect."""
        async with self.database.acquire() as connection:
            letter = await find_dead_letter(connection, job.payload.dead_letter_id)
        if letter is None or letter.replayed_at is None:  # erased, or it waits again already
            return None
        consumers = [each for each in self.consumers if _concerns(each, letter)]
        if not consumers:
            return Permanent(f"no consumer {letter.consumer} reads {letter.topic} any more")
        store = _Reopening(letter)
        for consumer in consumers:
            processor = RecordProcessor(consumer, self.database, self.signer, self.metrics, store=store, replays=True)
            await processor.process([letter.record])
        self.metrics.replays[letter.topic, "dead" if store.failed else "done"] += 1
        return None


class _Reopening:
    """Stores the failures of a replay: of the letter's own consumer in the letter, of any other in a new one."""

    def __init__(self, letter: DeadLetter) -> None:
        self.letter = letter
        self.failed = False

    async def __call__(self, connection: Any, letters: Sequence[Letter], *, new_id: Callable[[], UUID]) -> int:
        self.failed = True
        own = [each for each in letters if each.consumer == self.letter.consumer]
        count = await record_dead_letters(connection, [each for each in letters if each not in own], new_id=new_id)
        for each in own:
            count += await reopen_dead_letter(connection, self.letter, each.reason, each.detail)
        return count


def replay_pool(
    database: Database, consumers: Sequence[Consumer], signer: EventSigner, metrics: StreamMetrics
) -> JobHandler[ReplayRecord]:
    """Return the pool of replays, for the consumers of all departments."""
    return job_pool(REPLAY_RECORD, Props(RecordReplayer, database, consumers, signer, metrics))


def _concerns(consumer: Consumer, letter: DeadLetter) -> bool:
    reads = any(topic.name == letter.topic for topic in consumer.topics)
    return reads and letter.consumer in (EVERY_CONSUMER, consumer.name)


def _filter(which: DeadLetterFilter) -> LetterFilter:
    return LetterFilter(which.name, which.reason, which.since)


def _uuid(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None


def _view(letter: DeadLetter, most: int) -> DeadLetterView:
    source, event_id = letter.event or (None, None)
    key, value = letter.key and letter.key[:most], letter.value and letter.value[:most]
    is_cut = letter.value_bytes > most or not letter.is_whole
    return DeadLetterView(
        id=f"{SOURCE}:{letter.dead_letter_id}",
        source=SOURCE,
        name=letter.topic,
        state="waiting" if letter.replayed_at is None else "replayed",
        reason=letter.reason,
        detail=letter.detail,
        attempts=letter.replays + 1,
        replays=letter.replays,
        created_at=letter.created_at,
        position=letter.dead_letter_id,
        key=as_text(key, is_cut=is_cut),
        key_base64=as_base64(key),
        value=as_text(value, is_cut=is_cut),
        value_base64=as_base64(value),
        value_bytes=letter.value_bytes,
        is_cut=is_cut,
        headers=letter.headers,
        traceparent=letter.traceparent,
        event_source=source,
        event_id=event_id,
        dead_letter_id=letter.dead_letter_id,
        consumer=letter.consumer,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
    )
