"""Batches of Kafka records as bytes, good ones and bad ones, and a way to have a broker keep them as they are."""

import struct
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import NotLeaderForPartitionError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

Header = tuple[str, bytes | None]
Fields = tuple[bytes | None, bytes | None, Sequence[Header]]
CODEC_AT, ATTRIBUTES_AT, CRC_AT, HEADER_BYTES = 22, 21, 17, 61
CONTROL, TRANSACTIONAL = 0x20, 0x10


def batch(*records: Fields, codec: int = 0, base_offset: int = 0, timestamp: int = 1) -> bytes:
    """A batch of records of key, value and headers."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 24)
    for number, (key, value, headers) in enumerate(records):
        assert builder.append(number, timestamp, key, value, list(headers)) is not None
    return struct.pack(">q", base_offset) + bytes(builder.build())[8:]


def sealed(data: bytes) -> bytes:
    """The same with a CRC that is right."""
    crc = calc_crc32c(data[ATTRIBUTES_AT:])
    return data[:CRC_AT] + struct.pack(">I", crc) + data[ATTRIBUTES_AT:]


def marked(data: bytes, *, producer_id: int, flags: int) -> bytes:
    """The same, written by a producer with an id, with flags among its attributes."""
    changed = bytearray(data)
    changed[CODEC_AT] |= flags
    changed[43:51] = struct.pack(">q", producer_id)
    return sealed(bytes(changed))


def repacked(data: bytes, packed: bytes, codec: int) -> bytes:
    """The batch's header, its records replaced by bytes that claim to be of a codec."""
    changed = bytearray(data[:HEADER_BYTES] + packed)
    changed[8:12] = struct.pack(">i", len(changed) - 12)
    changed[CODEC_AT] = codec
    return sealed(bytes(changed))


async def produce_raw(producer: AIOKafkaProducer, topic: str, partition: int, data: bytes) -> None:
    """Have the broker keep a batch as it is."""
    await producer.partitions_for(topic)
    request = ProduceRequest(
        required_acks=-1, timeout=5000, topics=[(topic, [(partition, data)])], transactional_id=None
    )
    code = NotLeaderForPartitionError.errno
    while code == NotLeaderForPartitionError.errno:  # the topic is new
        node = producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        response: Any = await producer.client.send(node, request)
        code = response.topics[0][1][0][1]
    if code:
        raise for_code(code)
