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


class KafkaCluster:
    """A producer whose broker judges each record; those handed over together share a batch."""

    def __init__(self, verdict: Verdict, *, unknown: BaseException | None = None) -> None:
        self.verdict = verdict
        self.unknown = unknown
        self.taken: list[bytes] = []

    async def partitions_for(self, _topic: str) -> None:
        if self.unknown is not None:
            raise self.unknown

    async def send(self, _topic: str, value: bytes, *, key: bytes, headers: Any) -> asyncio.Future[None]:
        assert dict(headers)["ce_signature"]
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if error := self.verdict(key, value):
            outcome.set_exception(error)
        else:
            self.taken.append(value)
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


async def test_small_rows_that_shared_a_batch_with_one_too_large_are_sent_alone(publisher: Publisher) -> None:
    ledger, broker = MessageAccounting(), KafkaCluster(lambda _key, _value: None)
    seen: list[bytes] = []

    def verdict(key: bytes, _value: bytes) -> BaseException | None:
        seen.append(key)
        return MessageSizeTooLargeError() if len(seen) <= 3 or key == b"b" else None  # the first three share a batch

    broker.verdict = verdict
    await publisher.publish(broker, ledger, "t.v1", [row(1, "a"), row(2, "b"), row(3, "c")])
    assert sorted(ledger.marked) == [1, 3]
    assert list(ledger.refused) == [2]


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
    ledger, answers = MessageAccounting(), iter([KafkaTimeoutError(), None])
    broker = KafkaCluster(lambda _key, _value: next(answers))
    await publisher.publish(broker, ledger, "t.v1", [row(1, "a", b"1"), row(2, "b", b"2"), row(3, "a", b"3")])
    assert (broker.taken, ledger.marked) == ([b"2"], [2])


async def test_who_lost_the_lease_sends_nothing(publisher: Publisher) -> None:
    ledger, broker = MessageAccounting(), KafkaCluster(too_large)
    ledger.lost = True
    with pytest.raises(LeaseLostError):
        await publisher.publish(broker, ledger, "t.v1", [row(1, "a")])
    assert broker.taken == []
