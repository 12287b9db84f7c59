"""A row that no broker takes waits alone, and so does a topic that refuses."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from callboard.streams.lease import LeaseLostError
from callboard.streams.publisher import Publisher
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics

Verdict = Callable[[bytes, bytes], BaseException | None]


class Batch:
    """Records that a broker takes together, or none of them."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Any) -> object:
        assert timestamp is None
        assert dict(headers)["ce_signature"]
        self.records.append((key, value))
        return self


class KafkaCluster:
    """A producer whose broker judges each record."""

    def __init__(self, verdict: Verdict, *, unknown: BaseException | None = None, partitions: int = 100) -> None:
        self.verdict = verdict
        self.unknown = unknown
        self.partitions = partitions
        self.taken: list[bytes] = []
        self.batches: list[int] = []

    async def partitions_for(self, _topic: str) -> set[int]:
        if self.unknown is not None:
            raise self.unknown
        return set(range(self.partitions))

    async def send(self, topic: str, value: bytes, *, key: bytes, partition: int, headers: Any) -> asyncio.Future[None]:
        batch = Batch()
        batch.append(timestamp=None, key=key, value=value, headers=headers)
        return await self.send_batch(batch, topic, partition=partition)

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, _topic: str, *, partition: int) -> asyncio.Future[None]:
        assert partition in range(self.partitions)
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        errors = [error for key, value in batch.records if (error := self.verdict(key, value))]
        if errors:
            outcome.set_exception(errors[0])
        else:
            self.batches.append(len(batch.records))
            self.taken += [value for _, value in batch.records]
            outcome.set_result(None)
        return outcome


class MessageAccounting:
    """What was noted."""

    def __init__(self) -> None:
        self.marked: list[int] = []
        self.refused: dict[int, str] = {}
        self.lost = False

    def check(self) -> None:
        if self.lost:
            raise LeaseLostError("lost")

    async def mark(self, outbox_ids: Sequence[int]) -> None:
        self.marked += outbox_ids

    async def refuse(self, errors: Mapping[int, str]) -> None:
        self.refused |= errors


def row(outbox_id: int, key: str, value: bytes = b"{}", topic: str = "t.v1") -> dict[str, Any]:
    facts = {
        "event_id": str(uuid4()),
        "source": "callboard",
        "type": "t",
        "traceparent": None,
        "occurred_at": datetime.now(UTC),
    }
    return {"outbox_id": outbox_id, "topic": topic, "key": key, "value": value, **facts}


@pytest.fixture
def publisher() -> Publisher:
    return Publisher("p", EventSigner(["a secret"]), StreamMetrics())


def too_large(_key: bytes, value: bytes) -> BaseException | None:
    return MessageSizeTooLargeError() if len(value) > 100 else None


async def test_a_row_that_is_too_large_waits_with_those_of_its_key_and_no_other(publisher: Publisher) -> None:
    ledger = MessageAccounting()
    rows = [row(1, "a"), row(2, "b", b"x" * 200), row(3, "a"), row(4, "b"), row(5, "c")]
    await publisher.publish(KafkaCluster(too_large), ledger, "t.v1", rows)
    assert sorted(ledger.marked) == [1, 3, 5]
    assert list(ledger.refused) == [2]
    assert publisher.closed_topics() == []


async def test_of_a_batch_with_a_row_that_is_too_large_the_others_are_sent(publisher: Publisher) -> None:
    ledger, broker = MessageAccounting(), KafkaCluster(too_large, partitions=1)
    rows = [row(1, "a", b"1"), row(2, "b", b"x" * 200), row(3, "c", b"3"), row(4, "b", b"4"), row(5, "a", b"5")]
    await publisher.publish(broker, ledger, "t.v1", rows)
    assert broker.taken == [b"1", b"3", b"5"]
    assert (ledger.marked, list(ledger.refused)) == ([1, 3, 5], [2])


async def test_the_rows_of_one_key_are_sent_in_batches_and_in_order(publisher: Publisher) -> None:
    ledger, broker = MessageAccounting(), KafkaCluster(lambda _key, _value: None)
    await publisher.publish(broker, ledger, "t.v1", [row(n, "a", b"%d" % n) for n in range(200)])
    assert broker.taken == [b"%d" % n for n in range(200)]
    assert ledger.marked == list(range(200))
    assert len(broker.batches) <= 4


async def test_a_topic_that_refuses_a_batch_gets_none_of_its_rows_and_none_behind_them(publisher: Publisher) -> None:
    ledger = MessageAccounting()
    broker = KafkaCluster(lambda _key, value: KafkaTimeoutError() if value == b"100" else None, partitions=1)
    await publisher.publish(broker, ledger, "t.v1", [row(n, "a", b"%d" % n) for n in range(200)])
    assert ledger.marked == list(range(len(ledger.marked)))
    assert 0 < len(ledger.marked) <= 100
    assert broker.taken == [b"%d" % n for n in ledger.marked]
    assert publisher.closed_topics() == ["t.v1"]


@pytest.mark.parametrize("error", [ValueError("no"), TypeError("no"), AssertionError("no")])
async def test_a_row_that_the_client_itself_refuses_waits_alone(publisher: Publisher, error: Exception) -> None:
    ledger = MessageAccounting()
    broker = KafkaCluster(lambda key, _value: error if key == b"bad" else None)
    await publisher.publish(broker, ledger, "t.v1", [row(1, "bad"), row(2, "good")])
    assert (ledger.marked, list(ledger.refused)) == ([2], [1])


async def test_a_key_that_is_no_utf8_waits_alone(publisher: Publisher) -> None:
    ledger = MessageAccounting()
    await publisher.publish(KafkaCluster(too_large), ledger, "t.v1", [row(1, "\ud800"), row(2, "good")])
    assert (ledger.marked, list(ledger.refused)) == ([2], [1])


@pytest.mark.parametrize("error", [TopicAuthorizationFailedError(), KafkaTimeoutError()])
async def test_a_topic_that_refuses_is_left_alone_for_a_while_and_no_row_is_blamed(
    publisher: Publisher, error: Exception
) -> None:
    ledger = MessageAccounting()
    await publisher.publish(KafkaCluster(lambda _key, _value: error), ledger, "t.v1", [row(1, "a"), row(2, "a")])
    assert (ledger.marked, ledger.refused) == ([], {})
    assert publisher.closed_topics() == ["t.v1"]
    await publisher.publish(KafkaCluster(too_large), ledger, "u.v1", [row(3, "a", topic="u.v1")])
    assert ledger.marked == [3]


async def test_a_topic_that_is_unknown_is_left_alone(publisher: Publisher) -> None:
    ledger = MessageAccounting()
    broker = KafkaCluster(too_large, unknown=TopicAuthorizationFailedError())
    await publisher.publish(broker, ledger, "t.v1", [row(1, "a")])
    assert publisher.closed_topics() == ["t.v1"]
    assert broker.taken == []


async def test_behind_a_row_that_the_topic_refuses_those_of_its_key_are_not_sent(publisher: Publisher) -> None:
    ledger = MessageAccounting()
    broker = KafkaCluster(lambda _key, value: KafkaTimeoutError() if value == b"1" else None)
    await publisher.publish(broker, ledger, "t.v1", [row(1, "a", b"1"), row(2, "b", b"2"), row(3, "a", b"3")])
    assert (broker.taken, ledger.marked) == ([b"2"], [2])


async def test_who_lost_the_lease_sends_nothing(publisher: Publisher) -> None:
    ledger, broker = MessageAccounting(), KafkaCluster(too_large)
    ledger.lost = True
    with pytest.raises(LeaseLostError):
        await publisher.publish(broker, ledger, "t.v1", [row(1, "a")])
    assert broker.taken == []
