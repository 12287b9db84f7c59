"""Publishes rows of the outbox: each topic in its own lane, so that one that refuses delays no other."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Protocol

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import DefaultPartitioner
from msgspec import Struct

from callboard.runtime import Span, SpanKind, begin_span
from callboard.streams.cloudevents import signed_headers
from callboard.streams.lease import LeaseLostError
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics
from callboard.streams.topics import full_name

_LOG = logging.getLogger(__name__)
_METADATA_S = 3.0
_CLOSED_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # how long a refusing topic is paused, by the number of refusals
BATCH_BYTES = 64 << 10  # of records that are sent together
_HEADER_BYTES = 1 << 10  # more than a record's headers have, as a rule: the signature, the trace, the source
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_UNSENDABLE = (*_TOO_LARGE, ValueError, TypeError, AssertionError)  # else the topic is at fault, not the row
_SHOWN = 300

Row = Mapping[str, Any]


class Producer(Protocol):
    """The methods of aiokafka's producer that we use."""

    async def partitions_for(self, topic: str) -> Any:
        """Return the partitions when the topic is known."""

    async def send(self, topic: str, value: bytes, *, key: bytes, partition: int, headers: Any) -> Any:
        """Send a record; return a future of its acknowledgement."""

    def create_batch(self) -> Any:
        """Return an empty batch."""

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        """Send a batch; return a future of its acknowledgement: of all its records, or of none."""


class MessageAccounting(Protocol):
    """The recorder of outcomes of rows; both calls raise LeaseLostError once another process leads."""

    def check(self) -> None:
        """Raise LeaseLostError if nothing more may be sent."""

    async def mark(self, outbox_ids: Sequence[int]) -> None:
        """Record rows as published."""

    async def refuse(self, errors: Mapping[int, str]) -> None:
        """Record rows as refused, by id, with the reason."""


class _Closed(Struct):
    """A topic that refuses: the end of its pause, and the number of refusals in a row."""

    until: float
    times: int


class Publisher:
    """Publishes through one producer. Paused topics are remembered from one producer to the next."""

    def __init__(self, prefix: str, signer: EventSigner, metrics: StreamMetrics) -> None:
        self._prefix = prefix
        self._signer = signer
        self._metrics = metrics
        self._closed: dict[str, _Closed] = {}

    def closed_topics(self) -> list[str]:
        """Return the topics that are paused now."""
        now = asyncio.get_running_loop().time()
        return [topic for topic, closed in self._closed.items() if now < closed.until]

    async def publish(self, producer: Producer, ledger: MessageAccounting, topic: str, rows: Sequence[Row]) -> None:
        """Publish rows of one topic, those of a partition in batches, one after the other; record their outcomes.

        A batch is taken whole or not at all, so the order of its keys is kept.
        """
        outcomes = _Outcomes()
        name = full_name(self._prefix, topic)
        try:
            async with asyncio.timeout(_METADATA_S):
                partitions = sorted(await producer.partitions_for(name))
            for wave in _waves(rows, partitions, outcomes):
                if failure := await self._send(producer, ledger, name, wave, outcomes):
                    self._close(topic, failure)
                    break
            else:
                self._open(topic)
        except (KafkaError, TimeoutError, ValueError) as error:
            self._close(topic, error)
        finally:
            if outcomes.acknowledged:
                self._metrics.published[topic] += len(outcomes.acknowledged)
                await ledger.mark(outcomes.acknowledged)
            if outcomes.refused:
                await ledger.refuse(outcomes.refused)

    async def _send(
        self, producer: Producer, ledger: MessageAccounting, name: str, wave: "Sequence[_Batch]", outcomes: "_Outcomes"
    ) -> BaseException | None:
        """Send batches of different partitions at once; return the topic's error with one of them, if any.

        The rows of a batch with one that cannot be sent are sent one by one.
        """
        failure: BaseException | None = None
        for batch, result in zip(wave, await self._send_together(producer, ledger, name, wave), strict=True):
            if isinstance(result, LeaseLostError):  # not the topic's fault
                raise LeaseLostError(str(result)) from result
            if result is None:
                outcomes.acknowledged += [row["outbox_id"] for row in batch.rows]
            elif not isinstance(result, _UNSENDABLE):
                failure = failure or result
            elif len(batch.rows) == 1:
                outcomes.refuse(batch.rows[0], self._refused(batch.rows[0], result))
            else:
                for row in batch.rows:
                    if failure is None and row["key"] not in outcomes.stopped:
                        alone = [_Batch(batch.partition, [row])]
                        failure = await self._send(producer, ledger, name, alone, outcomes)
        return failure

    async def _send_together(
        self, producer: Producer, ledger: MessageAccounting, name: str, batches: "Sequence[_Batch]"
    ) -> list[BaseException | None]:
        """Return each batch's error, or None if the broker has it."""
        ledger.check()
        futures: list[asyncio.Future[Any]] = []
        for batch in batches:
            try:
                futures.append(await self._hand_over(producer, name, batch))
            except (KafkaError, ValueError, TypeError, AssertionError) as error:
                failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                failed.set_exception(error)
                futures.append(failed)
        results = await asyncio.gather(*futures, return_exceptions=True)
        return [result if isinstance(result, BaseException) else None for result in results]

    async def _hand_over(self, producer: Producer, name: str, batch: "_Batch") -> Any:
        spans: list[Span] = []
        records = [(row["key"].encode(), row["value"], self._headers(row, spans)) for row in batch.rows]
        if len(records) == 1:
            key, value, headers = records[0]
            sent = await producer.send(name, value, key=key, partition=batch.partition, headers=headers)
        else:
            builder = producer.create_batch()
            for key, value, headers in records:
                if builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
                    raise ValueError("these rows are too large for one batch")
            sent = await producer.send_batch(builder, name, partition=batch.partition)
        for span in spans:
            sent.add_done_callback(span.end_with)
        return sent

    def _headers(self, row: Row, spans: list[Span]) -> Any:
        attributes = {"messaging.system": "kafka", "messaging.destination.name": row["topic"]}
        span = row["traceparent"] and begin_span(
            "EXT kafka publish", SpanKind.PRODUCER, attributes, parent=row["traceparent"]
        )
        if span:
            spans.append(span)
        return signed_headers(
            self._signer,
            row["value"],
            event_id=row["event_id"],
            source=row["source"],
            type=row["type"],
            occurred_at=row["occurred_at"],
            traceparent=span.traceparent if span else row["traceparent"],
        )

    def _refused(self, row: Row, error: BaseException) -> str:
        told = f"{type(error).__name__}: {error}".replace("\x00", " ")[:_SHOWN]
        self._metrics.publish_refusals[row["topic"], type(error).__name__] += 1
        if self._metrics.is_news("refused row", row["topic"], type(error).__name__):
            _LOG.warning("event %s of %s waits because no broker accepts it: %s", row["event_id"], row["topic"], told)
        return told

    def _close(self, topic: str, error: BaseException) -> None:
        """Pause a topic, longer each time."""
        times = self._closed[topic].times + 1 if topic in self._closed else 0
        pause_s = _CLOSED_S[min(times, len(_CLOSED_S) - 1)]
        self._closed[topic] = _Closed(asyncio.get_running_loop().time() + pause_s, times)
        why = "no answer" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"[:_SHOWN]
        self._metrics.refusing_topics[topic] = why
        self._metrics.publish_refusals[topic, type(error).__name__] += 1
        if self._metrics.is_news("refusing topic", topic, why):
            _LOG.warning("the topic %s accepts no events; they wait: %s", topic, why)

    def _open(self, topic: str) -> None:
        if self._closed.pop(topic, None) is not None:
            self._metrics.refusing_topics.pop(topic, None)
            _LOG.info("the topic %s accepts events again", topic)


class _Batch(Struct):
    """Rows of a partition, in order."""

    partition: int
    rows: list[Row]


class _Outcomes:
    """The outcomes of rows so far."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.refused: dict[int, str] = {}  # by id, with the reason
        self.stopped: set[str] = set()  # keys of refused rows: those behind them wait

    def refuse(self, row: Row, why: str) -> None:
        """Note a row that no broker takes."""
        self.refused[row["outbox_id"]] = why
        self.stopped.add(row["key"])


def _waves(rows: Iterable[Row], partitions: Sequence[int], outcomes: _Outcomes) -> Iterator[list[_Batch]]:
    """Yield the first batch of each partition, then the second of each, and so on; a refused row stops those of its key
    behind it.
    """
    queues: dict[int, list[_Batch]] = {}
    rooms: dict[int, int] = {}  # bytes that the last batch of a partition still takes
    choose = DefaultPartitioner()
    for row in rows:
        partition = choose(row["key"].encode(errors="replace"), partitions, partitions)
        queue = queues.setdefault(partition, [])
        size = len(row["value"]) + len(row["key"]) + _HEADER_BYTES
        room = rooms.get(partition, 0) - size
        if room < 0:
            queue.append(_Batch(partition, []))
            room = BATCH_BYTES - size
        queue[-1].rows.append(row)
        rooms[partition] = room
    for wave in zip_longest(*queues.values()):
        allowed = [
            _Batch(batch.partition, [row for row in batch.rows if row["key"] not in outcomes.stopped])
            for batch in wave
            if batch
        ]
        if sendable := [batch for batch in allowed if batch.rows]:
            yield sendable
