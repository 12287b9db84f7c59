"""How far the consumer group has read each partition, as the brokers say: whoever reads it, and if nobody does.

A consumer that counts its own lag says nothing of partitions that it does not get, that a broker refuses, or that
nobody reads. So the committed offsets are compared with the ends of the partitions, over connections of their own.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, NoError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from msgspec import Struct

from callboard.streams.cluster import BrokerLostError, KafkaCluster
from callboard.streams.topic_metadata import DescribeTopics, partition_leaders, topic_states
from callboard.streams.topics import short_name

_READ_S = 5.0
_ANSWER_MS = 3000
_FETCH_MS = 1  # the embedded broker answers nothing to a fetch that may not wait at all
_EARLIEST, _LATEST = -2, -1
_COMMITTED_ONLY = 1  # the isolation level
UNREACHABLE = (BrokerLostError, KafkaError, OSError, TimeoutError)


class PartitionOffsets(Struct, frozen=True):
    """The first offset of a partition, the one behind its last record, and the one that the group has committed.

    Records of open transactions do not count.
    `error` says why they are not known. `topic` is without the prefix.
    """

    topic: str
    partition: int
    begin: int = 0
    end: int = 0
    committed: int | None = None
    error: str = ""

    @property
    def position(self) -> int:
        """Return the next offset that the group reads."""
        # A group that has committed nothing, or past the end of a topic that was created again, reads from the first.
        return self.begin if self.committed is None or not self.begin <= self.committed <= self.end else self.committed

    @property
    def lag(self) -> int | None:
        """Return the number of offsets that the group has not passed; None if it is not known."""
        return None if self.error else max(0, self.end - self.position)


class GroupOffsets:
    """Reads the offsets of one installation's consumer group. Its connections last until `close`, or an error."""

    def __init__(self, cluster: KafkaCluster, topics: Iterable[str]) -> None:
        self._cluster = cluster
        self._topics = sorted(topics)
        self._client: AIOKafkaClient | None = None

    async def read(self) -> list[PartitionOffsets]:
        """Return the offsets of every partition. Raises an error of UNREACHABLE."""
        try:
            client = await self._connected()
            async with asyncio.timeout(_READ_S):
                return await self._read(client)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            await self._cluster.reach()
            self._client = AIOKafkaClient(
                bootstrap_servers=self._cluster.bootstrap,
                request_timeout_ms=_ANSWER_MS,
                **self._cluster.security.client_options(),
            )
            await self._client.bootstrap()
        return self._client

    async def _read(self, client: AIOKafkaClient) -> list[PartitionOffsets]:
        found = _Found()
        described = await client.send(client.get_random_node(), DescribeTopics(self._topics))
        leaders = partition_leaders(described)
        for name, state in topic_states(described).items():
            if not state.partitions:
                found.errors[TopicPartition(name, 0)] = for_code(state.code).__name__
        if any(leader != -1 and client.cluster.broker_metadata(leader) is None for leader in leaders.values()):
            await client.force_metadata_update()  # a broker has joined
        by_node: dict[int, list[TopicPartition]] = defaultdict(list)
        for tp, leader in leaders.items():
            if client.cluster.broker_metadata(leader) is None:
                found.errors[tp] = "no broker leads it"
            else:
                by_node[leader].append(tp)
        asking = [_ask_leader(client, leader, tps, found) for leader, tps in by_node.items()]
        await asyncio.gather(*asking, self._ask_coordinator(client, leaders, found))
        return [self._offsets(tp, found) for tp in sorted(leaders.keys() | found.errors.keys())]

    async def _ask_coordinator(self, client: AIOKafkaClient, tps: Iterable[TopicPartition], found: "_Found") -> None:
        """Ask for the committed offsets."""
        group = self._cluster.group
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        asked = OffsetFetchRequest(group, _by_topic((tp, tp.partition) for tp in tps))
        answer = await client.send(coordinator, asked, group=ConnectionGroup.COORDINATION)
        if code := getattr(answer, "error_code", NoError.errno):
            raise for_code(code)(group)
        for topic, partitions in answer.topics:
            for partition, offset, _, code in partitions:
                tp = TopicPartition(topic, partition)
                if found.is_good(tp, code) and offset >= 0:
                    found.committed[tp] = offset

    def _offsets(self, tp: TopicPartition, found: "_Found") -> PartitionOffsets:
        place = short_name(self._cluster.prefix, tp.topic), tp.partition
        if tp in found.errors or tp not in found.begins or tp not in found.ends:
            return PartitionOffsets(*place, error=found.errors.get(tp, "its leader does not answer"))
        return PartitionOffsets(*place, found.begins[tp], found.ends[tp], found.committed.get(tp))


class _Found(Struct):
    """The answers of all brokers to one read."""

    begins: dict[TopicPartition, int] = {}
    ends: dict[TopicPartition, int] = {}
    committed: dict[TopicPartition, int] = {}
    errors: dict[TopicPartition, str] = {}

    def is_good(self, tp: TopicPartition, code: int) -> bool:
        """Whether a broker answers for a partition; note its error if not."""
        if code:
            self.errors[tp] = for_code(code).__name__
        return not code


async def _ask_leader(client: AIOKafkaClient, node: int, tps: list[TopicPartition], found: _Found) -> None:
    """Ask one broker for the bounds of its partitions. One that does not answer leaves them unknown."""
    try:
        for which, offsets in ((_EARLIEST, found.begins), (_LATEST, found.ends)):
            asked = _by_topic((tp, (tp.partition, which)) for tp in tps)
            for tp, code, *rest in _answered(await client.send(node, OffsetRequest(-1, _COMMITTED_ONLY, asked))):
                if found.is_good(tp, code):
                    offsets[tp] = rest[1]
        # The embedded broker answers with the beginning of the last batch; the answer to a fetch has the end.
        asked = _by_topic((tp, (tp.partition, found.ends[tp], 1)) for tp in tps if tp in found.ends)
        fetch = FetchRequest(_FETCH_MS, 1, 1, _COMMITTED_ONLY, asked)
        for tp, code, highwater, last_stable, *_ in _answered(await client.send(node, fetch)):
            if found.is_good(tp, code):
                found.ends[tp] = highwater if last_stable < 0 else last_stable
    except UNREACHABLE as error:
        found.errors.update(dict.fromkeys(tps, f"its leader does not answer: {error or type(error).__name__}"))


def _by_topic(pairs: Iterable[tuple[TopicPartition, Any]]) -> list[tuple[str, list[Any]]]:
    grouped: dict[str, list[Any]] = defaultdict(list)
    for tp, asked in pairs:
        grouped[tp.topic].append(asked)
    return list(grouped.items())


def _answered(response: Any) -> Iterable[tuple[Any, ...]]:
    """Yield each partition of a response, with the fields behind its number."""
    for topic, partitions in response.topics:
        for partition, *rest in partitions:
            yield TopicPartition(topic, partition), *rest
