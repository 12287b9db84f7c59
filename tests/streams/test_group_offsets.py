"""The lag of the group is what the brokers say, whoever reads, and is known of partitions that nobody reads."""

import asyncio
import signal
from typing import Any

import pytest

from callboard.actors.analytics.events import ACTIVITY
from callboard.ops.streams import kafka_breaker
from callboard.streams.cluster import BrokerLostError, KafkaCluster
from callboard.streams.group_offsets import UNREACHABLE, GroupOffsets, PartitionOffsets
from callboard.streams.topics import full_name

EFFECTS = "select count(*) from effects"


async def read(stage: Any) -> list[PartitionOffsets]:
    offsets = GroupOffsets(stage.broker, [full_name(stage.broker.prefix, ACTIVITY)])
    try:
        return await offsets.read()
    finally:
        await offsets.close()


async def until_read(stage: Any) -> list[PartitionOffsets]:
    """Wait until the group has committed everything."""
    async with asyncio.timeout(40):
        found = await read(stage)
        while any(each.lag for each in found):
            found = await read(stage)
    return found


async def test_records_that_nobody_has_read_are_lag_from_the_first_offset_and_none_once_they_are_read(
    stage: Any,
) -> None:
    sent: list[Any] = []
    async with stage.producer() as send:
        for number in range(20):
            value, headers = stage.encoded(stage.view(f"s{number}"))
            sent.append(await send(value, headers, key=f"s{number}"))  # together: batches of several
        await asyncio.gather(*sent)
        found = await read(stage)
        assert [each.partition for each in found] == [0, 1, 2, 3]
        assert sum(each.lag or 0 for each in found) == 20
        assert {each.committed for each in found} == {None}
        async with stage.playing("streams"):
            await stage.until(20, EFFECTS)
            found = await until_read(stage)
    assert sum(each.end for each in found) == 20
    assert all(each.committed == each.end for each in found if each.end)


async def test_a_topic_that_is_not_there_is_shown_with_the_reason(stage: Any) -> None:
    await stage.broker.wait("the test")
    offsets = GroupOffsets(stage.broker, ["no.such.topic"])
    (found,) = await offsets.read()
    await offsets.close()
    assert found.lag is None
    assert "UnknownTopic" in found.error


async def test_a_broker_that_is_frozen_says_nothing_in_time_and_is_asked_anew_once_it_goes_on(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.streams.group_offsets._READ_S", 0.5)
    await stage.broker.wait("the test")
    offsets = GroupOffsets(stage.broker, [full_name(stage.broker.prefix, ACTIVITY)])
    await offsets.read()
    stage.signal(signal.SIGSTOP)
    try:
        with pytest.raises(UNREACHABLE):
            await offsets.read()
    finally:
        stage.signal(signal.SIGCONT)
    monkeypatch.undo()
    assert len(await offsets.read()) == 4
    await offsets.close()


async def test_one_dead_address_beside_a_good_one_costs_nothing_but_the_first_attempt(stage: Any) -> None:
    stage.broker = KafkaCluster(
        f"127.0.0.1:1, {stage.server.url}",
        stage.broker.prefix,
        breaker=kafka_breaker(),
        holds_no_fetch=stage.broker.holds_no_fetch,
    )
    async with stage.playing("relay", "streams"):
        await stage.emit(stage.view())
        await stage.until(1, EFFECTS)
        assert stage.broker.bootstrap == [stage.server.url]
        assert len(await read(stage)) == 4


async def test_why_no_broker_is_reached_is_said() -> None:
    offsets = GroupOffsets(KafkaCluster("127.0.0.1:1", "t", breaker=kafka_breaker()), ["t.activity.v1"])
    with pytest.raises(BrokerLostError, match=r"127\.0\.0\.1:1"):
        await offsets.read()


def test_what_was_committed_past_the_end_or_before_the_first_offset_counts_as_nothing() -> None:
    lags = [PartitionOffsets("t", 0, 10, 20, committed).lag for committed in (None, 5, 10, 15, 20, 25)]
    assert lags == [10, 10, 10, 5, 0, 10]
