"""The watch over a cluster notices within a second what clients would notice after minutes."""

import asyncio
from typing import Any

import pytest

from callboard.ops.streams import kafka_breaker
from callboard.streams import cluster as cluster_module
from callboard.streams.cluster import BrokerLostError, KafkaCluster, compare_topics
from callboard.streams.topic_metadata import TopicState

UNKNOWN, LEADERLESS, FORBIDDEN = 3, 5, 29


@pytest.mark.parametrize(
    ("before", "now", "fault"),
    [
        ((0, 4), (0, 8), "has 8 partitions now, and had 4"),
        ((0, 4), (UNKNOWN, 0), "the broker has no topic"),
        ((0, 4), (FORBIDDEN, 0), "cannot be used now"),
        ((FORBIDDEN, 0), (0, 4), "can be used now"),
        ((0, 4, bytes(15) + b"1"), (0, 4, bytes(15) + b"2"), "was deleted and created again"),
    ],
)
def test_a_topic_that_is_not_as_it_was_ends_the_watch(before: Any, now: Any, fault: str) -> None:
    known: dict[str, TopicState] = {}
    compare_topics(known, {"t": TopicState(*before), "u": TopicState(0, 4)})
    with pytest.raises(BrokerLostError, match=fault):
        compare_topics(known, {"t": TopicState(*now), "u": TopicState(0, 4)})


@pytest.mark.parametrize("same", [(0, 4), (FORBIDDEN, 0), (LEADERLESS, 0), (0, 4, bytes(15) + b"1")])
def test_a_topic_that_is_as_it_was_does_not(same: Any) -> None:
    known: dict[str, TopicState] = {}
    for _ in range(3):
        compare_topics(known, {"t": TopicState(*same)})


def test_a_topic_without_a_leader_for_a_moment_is_no_change() -> None:
    known: dict[str, TopicState] = {}
    for state in ((0, 4), (LEADERLESS, 0), (0, 4)):
        compare_topics(known, {"t": TopicState(*state)})


def test_each_watch_sees_a_change_for_itself() -> None:
    first: dict[str, TopicState] = {}
    second: dict[str, TopicState] = {}
    for known in (first, second):
        compare_topics(known, {"t": TopicState(0, 4)})
    for known in (first, second):
        with pytest.raises(BrokerLostError):
            compare_topics(known, {"t": TopicState(0, 8)})


async def test_it_says_that_topics_have_changed_but_not_that_the_broker_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The embedded broker is replaced then: it would refuse a topic for ever that was deleted while we wrote to it."""
    states, said = iter([{"t": TopicState(0, 4)}, {"t": TopicState(UNKNOWN, 0)}]), []
    monkeypatch.setattr(cluster_module, "topic_states", lambda _: next(states))
    monkeypatch.setattr(cluster_module, "_BEAT_S", 0)
    answers = iter((b"first", b"second"))

    class Connection:
        def connected(self) -> bool:
            return True

        async def send(self, _: Any) -> bytes:
            return next(answers)

    monkeypatch.setattr(cluster_module.RawAnswer, "read", lambda *_: None)
    cluster = KafkaCluster("127.0.0.1:1", "t", breaker=kafka_breaker(), topics_changed=lambda: said.append("changed"))
    with pytest.raises(BrokerLostError):
        await cluster._hold(Connection(), {})  # type: ignore[arg-type]
    assert said == ["changed"]
    with pytest.raises(BrokerLostError, match="no broker responds"):
        await cluster.watch()
    assert said == ["changed"]


async def test_all_who_watch_share_one_connection_and_hear_of_its_loss_and_none_is_left_when_nobody_watches() -> None:
    met: list[asyncio.StreamWriter] = []
    asked, left = asyncio.Event(), asyncio.Event()

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(writer)
        asked.set()
        while await reader.read(1 << 16):
            pass
        left.set()
        writer.close()

    async with await asyncio.start_server(broker, "127.0.0.1", 0) as server:
        cluster = KafkaCluster(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "t", breaker=kafka_breaker())
        watches = [asyncio.create_task(cluster.watch()) for _ in range(2)]
        await asked.wait()
        watches[0].cancel()
        await asyncio.wait({watches[0]})
        watches.append(asyncio.create_task(cluster.watch()))
        await asyncio.sleep(0)
        assert len(met) == 1
        met[0].close()
        for watch in watches[1:]:
            with pytest.raises(BrokerLostError):
                await watch
        asked.clear()
        lost = asyncio.create_task(cluster.watch())
        await asked.wait()
        cluster.lose("a partition has lost records")
        with pytest.raises(BrokerLostError, match="lost records"):
            await lost
        asked.clear()
        left.clear()
        last = asyncio.create_task(cluster.watch())
        await asked.wait()
        last.cancel()
        await left.wait()
    assert len(met) == 3
