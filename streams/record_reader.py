"""Parses the fetched bytes of one partition record by record: an unreadable record does not stop those behind it.

aiokafka raises for the first unreadable record or batch, and then fetches the same bytes again, for ever. Here each
unreadable record becomes an `UnreadableRecord`, and so does a batch that cannot be split.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import cramjam
from aiokafka import TopicPartition
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import ConsumerRecord
from msgspec import Struct

DECOMPRESSED_LIMIT = 32 << 20  # bytes of one batch; a broker accepts 1 MB by default, and JSON shrinks to a twentieth
_LENGTH = struct.Struct(">qi")
_HEADER = struct.Struct(">qiibIhiqqqhii")
_CRC_AT = 17
_ATTRIBUTES_AT = 21
_MAGIC_AT = 16
_MAGIC = 2
_CODECS, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20
_LOG_APPEND_TIME = 0x08
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER = 16
_VARINT_BITS = 70
_SHOWN = 200
_BUFFER_FULL = "failed to write whole buffer"  # cramjam's message, which a test checks


class UnreadableRecord(Struct, frozen=True):
    """An unreadable record, or batch of them up to `last_offset`: its raw bytes, and the reason."""

    topic: str
    partition: int
    offset: int
    last_offset: int
    timestamp: int
    value: bytes
    fault: str
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_type: int = 0


class _FaultError(Exception):
    """The reason why bytes cannot be read."""


class _Batch(Struct, frozen=True):
    """A batch's header and bytes."""

    base_offset: int
    next_offset: int
    attributes: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    count: int
    raw: memoryview


class FetchedRecords:
    """Iterates over the records of a fetch from `fetch_offset` on, committed ones only.

    It replaces aiokafka's PartitionRecords: `next_fetch_offset` is behind every record that was given or skipped.
    """

    def __init__(
        self, tp: TopicPartition, data: bytes, aborted: Sequence[tuple[int, int]] | None, fetch_offset: int
    ) -> None:
        self.next_fetch_offset = fetch_offset
        self._tp = tp
        self._aborted = sorted(aborted or (), key=lambda transaction: transaction[1])
        self._aborted_producers: set[int] = set()
        self._records = self._read(data)

    def __iter__(self) -> "FetchedRecords":
        return self

    def __next__(self) -> ConsumerRecord[Any, Any] | UnreadableRecord:
        return next(self._records)

    def _read(self, data: bytes) -> Iterator[ConsumerRecord[Any, Any] | UnreadableRecord]:
        began_at = self.next_fetch_offset
        for raw in _slices(data):
            if raw[_MAGIC_AT] < _MAGIC:
                records, next_offset = self._read_legacy(raw)
            else:
                batch = _parse_header(raw)
                next_offset = batch.next_offset
                records = [] if self._is_passed_over(batch) else self._read_batch(batch)
            for record in records:
                if last_offset(record) >= began_at:
                    self.next_fetch_offset = max(self.next_fetch_offset, last_offset(record) + 1)
                    yield record
            self.next_fetch_offset = max(self.next_fetch_offset, next_offset)
        if data and self.next_fetch_offset == began_at:  # truncated, or its offsets are wrong: it would come again
            self.next_fetch_offset += 1
            yield self._unreadable(began_at, began_at, 0, memoryview(data), "the bytes hold no whole batch")

    def _is_passed_over(self, batch: _Batch) -> bool:
        """Whether a batch is a control batch of the broker, or belongs to an aborted transaction."""
        while self._aborted and self._aborted[0][1] <= batch.base_offset:
            self._aborted_producers.add(self._aborted.pop(0)[0])
        if batch.attributes & _CONTROL:
            if _is_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            return True
        return bool(batch.attributes & _TRANSACTIONAL) and batch.producer_id in self._aborted_producers

    def _read_batch(self, batch: _Batch) -> list[ConsumerRecord[Any, Any] | UnreadableRecord]:
        if calc_crc32c(batch.raw[_ATTRIBUTES_AT:].tobytes()) != struct.unpack_from(">I", batch.raw, _CRC_AT)[0]:
            return [self._whole(batch, "invalid CRC")]
        try:
            plain = _decompress(batch)
        except _FaultError as fault:
            return [self._whole(batch, str(fault))]
        try:
            read = [self._record(record) for record in DefaultRecordBatch(plain)]
        except Exception:  # noqa: BLE001 - the reader in C raises what it likes; what is wrong is found out below
            read = []
        if len(read) == batch.count and all(batch.base_offset <= each.offset < batch.next_offset for each in read):
            return list(read)
        return list(self._read_one_by_one(batch, plain[_HEADER.size :]))

    def _read_one_by_one(
        self, batch: _Batch, plain: memoryview
    ) -> Iterator[ConsumerRecord[Any, Any] | UnreadableRecord]:
        """Yield each record by its own length: an unreadable one does not hide the next."""
        at, expected = 0, batch.base_offset
        for _ in range(batch.count):
            try:
                raw, at = _record_bytes(plain, at)
            except _FaultError as fault:
                rest, last = plain[at:], batch.next_offset - 1
                yield self._unreadable(expected, last, batch.max_timestamp, rest, str(fault))
                return
            try:
                record = self._parse(batch, raw)
                expected = record.offset
                yield record
            except _FaultError as fault:
                yield self._unreadable(expected, expected, batch.max_timestamp, raw, str(fault))
            expected += 1
        if at < len(plain) or batch.count < 0:
            rest, told = plain[at:], "there are more bytes than records"
            yield self._unreadable(expected, batch.next_offset - 1, batch.max_timestamp, rest, told)

    def _parse(self, batch: _Batch, raw: memoryview) -> ConsumerRecord[Any, Any]:
        """Raises _FaultError."""
        at = 1  # attributes: unused
        timestamp_delta, at = _varint(raw, at)
        offset_delta, at = _varint(raw, at)
        key, at = _bytes(raw, at)
        value, at = _bytes(raw, at)
        count, at = _varint(raw, at)
        headers: list[tuple[str, bytes | None]] = []
        for _ in range(count):
            name, at = _bytes(raw, at)
            held, at = _bytes(raw, at)
            headers.append((_header_name(name), held))
        offset = batch.base_offset + offset_delta
        if at != len(raw) or count < 0 or not batch.base_offset <= offset < batch.next_offset:
            raise _FaultError("a record's fields do not fit its length, or its offset its batch")
        at_broker = bool(batch.attributes & _LOG_APPEND_TIME)
        timestamp = batch.max_timestamp if at_broker else batch.first_timestamp + timestamp_delta
        sizes = (-1 if each is None else len(each) for each in (key, value))
        return ConsumerRecord(*self._tp, offset, timestamp, int(at_broker), key, value, None, *sizes, tuple(headers))

    def _read_legacy(self, raw: memoryview) -> tuple[list[ConsumerRecord[Any, Any] | UnreadableRecord], int]:
        """A batch of the formats before Kafka 0.11."""
        (offset, _) = _LENGTH.unpack_from(raw)
        try:
            batch = LegacyRecordBatch(raw, raw[_MAGIC_AT])
            if not batch.validate_crc():
                raise _FaultError("invalid CRC")  # noqa: TRY301 - one way for all that is wrong with it
            return [self._record(record) for record in batch], batch.next_offset
        except Exception as error:  # noqa: BLE001 - see _read_batch
            return [self._unreadable(offset, offset, 0, raw, f"a record of an old format: {error}")], offset + 1

    def _record(self, record: Any) -> ConsumerRecord[Any, Any]:
        sizes = (-1 if each is None else len(each) for each in (record.key, record.value))
        return ConsumerRecord(
            *self._tp,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            record.checksum,
            *sizes,
            tuple(record.headers),
        )

    def _whole(self, batch: _Batch, fault: str) -> UnreadableRecord:
        told = f"a batch of {batch.count} records, offsets {batch.base_offset} to {batch.next_offset - 1}: {fault}"
        last = max(batch.base_offset, batch.next_offset - 1)
        return self._unreadable(batch.base_offset, last, batch.max_timestamp, batch.raw, told)

    def _unreadable(self, offset: int, last: int, timestamp: int, raw: memoryview, fault: str) -> UnreadableRecord:
        tp = self._tp
        return UnreadableRecord(tp.topic, tp.partition, offset, max(offset, last), timestamp, bytes(raw), fault)


def last_offset(record: ConsumerRecord[Any, Any] | UnreadableRecord) -> int:
    """The offset of a record, or the last one of a batch that cannot be read."""
    return record.last_offset if isinstance(record, UnreadableRecord) else int(record.offset)


def _slices(data: bytes) -> Iterator[memoryview]:
    """Split off the whole batches; a fetch may end in the middle of one, which comes again."""
    view, at = memoryview(data), 0
    while at + _LENGTH.size <= len(data):
        _, length = _LENGTH.unpack_from(data, at)
        end = at + _LENGTH.size + length
        minimum = _HEADER.size if at + _MAGIC_AT < len(data) and data[at + _MAGIC_AT] >= _MAGIC else _MAGIC_AT + 1
        if end > len(data) or end - at < minimum:
            return
        yield view[at:end]
        at = end


def _parse_header(raw: memoryview) -> _Batch:
    base, _, _, _, _, attributes, last_delta, first_at, max_at, producer, _, _, count = _HEADER.unpack_from(raw)
    return _Batch(base, base + last_delta + 1, attributes, first_at, max_at, producer, count, raw)


def _is_abort_marker(batch: _Batch) -> bool:
    try:
        record = next(iter(DefaultRecordBatch(batch.raw.tobytes())))
        return bool(ControlRecord.parse(record.key) == ABORT_MARKER)
    except Exception:  # noqa: BLE001 - only a broker writes these; an odd one ends no transaction
        return False


def _decompress(batch: _Batch) -> memoryview:
    """Decompress the batch. Raises _FaultError."""
    codec = batch.attributes & _CODECS
    if not codec:
        return batch.raw
    packed = batch.raw[_HEADER.size :].tobytes()
    decompressors = {_GZIP: _gunzip, _SNAPPY: _unsnappy, _LZ4: _unlz4, _ZSTD: _unzstd}
    if codec not in decompressors:
        raise _FaultError(f"unknown compression codec {codec}")
    try:
        plain = decompressors[codec](packed)
    except (cramjam.DecompressionError, zlib.error, struct.error, ValueError, OSError) as error:
        raise _FaultError(f"bad compression: {str(error)[:_SHOWN]}") from error
    header = bytearray(batch.raw[: _HEADER.size])
    struct.pack_into(">h", header, _ATTRIBUTES_AT, batch.attributes & ~_CODECS)
    return memoryview(bytes(header) + plain)


def _too_large() -> _FaultError:
    return _FaultError(f"a batch takes more than {DECOMPRESSED_LIMIT >> 20} MiB without its compression")


def _gunzip(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    plain = unpacker.decompress(packed, DECOMPRESSED_LIMIT + 1)
    if len(plain) > DECOMPRESSED_LIMIT:
        raise _too_large()
    if not unpacker.eof:
        raise ValueError("the stream is cut short")
    return plain


def _unlz4(packed: bytes) -> bytes:
    return _bounded(cramjam.lz4.decompress_into, packed)


def _unzstd(packed: bytes) -> bytes:
    return _bounded(cramjam.zstd.decompress_into, packed)


def _bounded(decompress_into: Any, packed: bytes) -> bytes:
    """Decompress into buffers that grow to the limit: frames may omit their size, or state a wrong one."""
    size = min(DECOMPRESSED_LIMIT, max(1 << 16, len(packed) * 8))
    while True:
        buffer = bytearray(size)
        try:
            return bytes(memoryview(buffer)[: decompress_into(packed, buffer)])
        except cramjam.DecompressionError as error:
            if _BUFFER_FULL not in str(error):
                raise
            if size == DECOMPRESSED_LIMIT:
                raise _too_large() from None
        size = min(DECOMPRESSED_LIMIT, size * 8)


def _unsnappy(packed: bytes) -> bytes:
    """Decompress raw snappy, or the blocks of the xerial library, which Java's clients write."""
    if not packed.startswith(_XERIAL):
        return _unsnappy_block(packed, DECOMPRESSED_LIMIT)
    blocks, left, at = [], DECOMPRESSED_LIMIT, _XERIAL_HEADER
    while at < len(packed):
        (length,) = struct.unpack_from(">i", packed, at)
        at += 4
        if length < 0 or at + length > len(packed):
            raise ValueError("a block has a wrong length")
        blocks.append(_unsnappy_block(packed[at : at + length], left))
        left -= len(blocks[-1])
        at += length
    return b"".join(blocks)


def _unsnappy_block(packed: bytes, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(packed) > limit:
        raise _too_large()
    return bytes(cramjam.snappy.decompress_raw(packed))


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    """Return a zigzag varint and the position behind it. Raises _FaultError."""
    value = shift = 0
    while True:
        if at >= len(raw) or shift >= _VARINT_BITS:
            raise _FaultError("a record is cut short")
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _record_bytes(raw: memoryview, at: int) -> tuple[memoryview, int]:
    """Return the bytes of a record behind its length, and the position behind them. Raises _FaultError."""
    length, at = _varint(raw, at)
    if length < 1 or at + length > len(raw):
        raise _FaultError("a record has a wrong length")
    return raw[at : at + length], at + length


def _bytes(raw: memoryview, at: int) -> tuple[bytes | None, int]:
    """Return bytes after their length, None for a negative one, and the position behind them. Raises _FaultError."""
    length, at = _varint(raw, at)
    if length < 0:
        return None, at
    if at + length > len(raw):
        raise _FaultError("a field is cut short")
    return bytes(raw[at : at + length]), at + length


def _header_name(name: bytes | None) -> str:
    if name is None:
        raise _FaultError("a header has no name")
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise _FaultError(f"the header name {name[:_SHOWN]!r} is not UTF-8") from None
