"""Publishes rows of the outbox: each topic in its own lane, so that one that refuses delays no other."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from msgspec import Struct

from callboard.runtime import SpanKind, begin_span
from callboard.streams.cloudevents import signed_headers
from callboard.streams.lease import LeaseLostError
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics
from callboard.streams.topics import full_name

_LOG = logging.getLogger(__name__)
_METADATA_S = 3.0
_CLOSED_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # how long a refusing topic is paused, by the number of refusals
_SHARED_BYTES = 16 << 10  # aiokafka's batches: a larger record never shares one
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_UNSENDABLE = (*_TOO_LARGE, ValueError, TypeError, AssertionError)  # else the topic is at fault, not the row
_SHOWN = 300

Row = Mapping[str, Any]


class Producer(Protocol):
    """The methods of aiokafka's producer that we use."""

    async def partitions_for(self, topic: str) -> Any:
        """Return when the topic is known."""

    async def send(self, topic: str, value: bytes, *, key: bytes, headers: Any) -> Any:
        """Send a record; return a future of its acknowledgement."""


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
        """Publish rows of one topic, each only after the one before it of its key, and record their outcomes."""
        acknowledged: list[int] = []
        refused: dict[int, str] = {}
        try:
            async with asyncio.timeout(_METADATA_S):
                await producer.partitions_for(full_name(self._prefix, topic))
            for wave in _waves(rows, refused):
                if failure := await self._send(producer, ledger, wave, acknowledged, refused):
                    self._close(topic, failure)
                    break
            else:
                self._open(topic)
        except (KafkaError, TimeoutError, ValueError) as error:
            self._close(topic, error)
        finally:
            if acknowledged:
                self._metrics.published[topic] += len(acknowledged)
                await ledger.mark(acknowledged)
            if refused:
                await ledger.refuse(refused)

    async def _send(
        self,
        producer: Producer,
        ledger: MessageAccounting,
        wave: Sequence[Row],
        acknowledged: list[int],
        refused: dict[int, str],
    ) -> BaseException | None:
        """Send rows of different keys at once; return the topic's error with one of them, if any."""
        outcomes = await self._send_together(producer, ledger, wave)
        failure: BaseException | None = None
        for row, outcome in zip(wave, outcomes, strict=True):
            if isinstance(outcome, LeaseLostError):  # not the topic's fault
                raise LeaseLostError(str(outcome)) from outcome
            result = outcome
            if isinstance(outcome, _TOO_LARGE) and len(wave) > 1 and len(row["value"]) < _SHARED_BYTES:
                (result,) = await self._send_together(
                    producer, ledger, [row]
                )  # its batch was too large, perhaps not this row
            if result is None:
                acknowledged.append(row["outbox_id"])
            elif isinstance(result, _UNSENDABLE):
                refused[row["outbox_id"]] = self._refused(row, result)
            else:
                failure = failure or result
        return failure

    async def _send_together(
        self, producer: Producer, ledger: MessageAccounting, rows: Sequence[Row]
    ) -> list[BaseException | None]:
        """Return each row's error, or None if the broker has it."""
        ledger.check()
        futures: list[asyncio.Future[Any]] = []
        for row in rows:
            try:
                futures.append(await self._hand_over(producer, row))
            except (KafkaError, ValueError, TypeError, AssertionError) as error:
                failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                failed.set_exception(error)
                futures.append(failed)
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        return [outcome if isinstance(outcome, BaseException) else None for outcome in outcomes]

    async def _hand_over(self, producer: Producer, row: Row) -> Any:
        attributes = {"messaging.system": "kafka", "messaging.destination.name": row["topic"]}
        span = row["traceparent"] and begin_span(
            "EXT kafka publish", SpanKind.PRODUCER, attributes, parent=row["traceparent"]
        )
        headers = signed_headers(
            self._signer,
            row["value"],
            event_id=row["event_id"],
            source=row["source"],
            type=row["type"],
            occurred_at=row["occurred_at"],
            traceparent=span.traceparent if span else row["traceparent"],
        )
        sent = await producer.send(
            full_name(self._prefix, row["topic"]), row["value"], key=row["key"].encode(), headers=headers
        )
        if span:
            sent.add_done_callback(span.end_with)
        return sent

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


def _waves(rows: Iterable[Row], refused: Mapping[int, str]) -> Iterator[list[Row]]:
    """Yield the first row of each key, then the second of each, and so on; a refused row stops those of its key behind
    it.
    """
    waves: list[list[Row]] = []
    seen: dict[str, list[int]] = {}
    for row in rows:
        before = seen.setdefault(row["key"], [])
        if len(before) == len(waves):
            waves.append([])
        waves[len(before)].append(row)
        before.append(row["outbox_id"])
    for wave in waves:
        allowed = [row for row in wave if not any(earlier in refused for earlier in seen[row["key"]])]
        if allowed:
            yield allowed
