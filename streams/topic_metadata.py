"""The state of topics as a broker describes it, with their ids: a topic that was deleted and created again has another.

aiokafka's request ends at version 5, which knows no ids; Kafka has them since 2.8.
"""

from io import BytesIO
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

NO_ID = bytes(16)
_KEY = 3
_VERSION = 10


class _Uuid:
    """Sixteen bytes."""

    @staticmethod
    def encode(value: bytes) -> bytes:
        return value

    @staticmethod
    def decode(data: BytesIO) -> bytes:
        return data.read(len(NO_ID))


class _Response(Response):  # type: ignore[misc]
    API_KEY = _KEY
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Request(RequestStruct):  # type: ignore[misc]
    API_KEY = _KEY
    API_VERSION = _VERSION
    RESPONSE_TYPE = _Response
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class DescribeTopics(Request[MetadataRequest_v5 | _Request]):  # type: ignore[misc]
    """Asks for the state of topics, and creates none."""

    API_KEY = _KEY

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request: Any) -> Any:
        """Return the request of this version, encodable."""
        if request is _Request:
            return request([(NO_ID, name, {}) for name in self._names], False, False, False, {})
        return request(self._names, False)


class TopicState(NamedTuple):
    """The error code of a topic, its number of partitions, and its id, where the broker gives one."""

    code: int
    partitions: int
    topic_id: bytes = NO_ID


def topic_states(response: Any) -> dict[str, TopicState]:
    """Return the states by the topics' names."""
    if response.API_VERSION == _VERSION:
        return {name: TopicState(code, len(parts), topic_id) for code, name, topic_id, _, parts, *_ in response.topics}
    return {name: TopicState(code, len(partitions)) for code, name, _, partitions in response.topics}


def partition_leaders(response: Any) -> dict[TopicPartition, int]:
    """Return the broker that leads each partition; -1 if none does."""
    at = 4 if response.API_VERSION == _VERSION else 3
    return {
        TopicPartition(topic[1], partition): leader
        for topic in response.topics
        for _, partition, leader, *_ in topic[at]
    }
