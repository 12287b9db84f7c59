"""Parses the fetched bytes of one partition record by record: an unreadable record does not stop those behind it.

aiokafka raises for the first unreadable record or batch, and then fetches the same bytes again, for ever. Here each
unreadable record becomes an `UnreadableRecord`, and so does a batch that cannot be split. Memory is bounded, however
small the packed bytes are: one fetch yields and unpacks only so much, and the rest is fetched again.
"""

import contextlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, TypeAlias

from aiokafka import TopicPartition
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import ConsumerRecord
from msgspec import Struct

from callboard.streams.decompression import DECOMPRESSED_LIMIT, FaultError, TooLargeError, decompress

RECORD_LIMIT = 1 << 20  # bytes of a record; a broker accepts no more by default, but packed it may hold more
_KEPT = 2 << 20  # bytes that are kept of what is unreadable
_YIELD_LIMIT = 1 << 20  # bytes of the records of one fetch
_BAD_BATCH = 1 << 20  # bytes that count as unpacked for a batch that cannot be
_OVERHEAD = 100  # bytes of a record beside its fields
_LENGTH = struct.Struct(">qi")
_HEADER = struct.Struct(">qiibIhiqqqhii")
_CRC_AT = 17
_ATTRIBUTES_AT = 21
_MAGIC_AT = 16
_MAGIC = 2
_CODECS, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20
_LOG_APPEND_TIME = 0x08
_VARINT_BITS = 70
_SHOWN = 200


class UnreadableRecord(Struct, frozen=True):
    """An unreadable record, or batch of them up to `last_offset`: its raw bytes, 2 MiB at most, and the fault."""

    topic: str
    partition: int
    offset: int
    last_offset: int
    timestamp: int
    value: bytes
    fault: str
    reason: Literal["unreadable", "too_large"] = "unreadable"
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_type: int = 0


class Skipped(Struct, frozen=True):
    """The end of a fetch without a committed record up to `last_offset`: that offset is committed, and nothing more."""

    topic: str
    partition: int
    offset: int
    last_offset: int
    timestamp: int = 0
    timestamp_type: int = 0


Fetched: TypeAlias = ConsumerRecord[Any, Any] | UnreadableRecord | Skipped


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
        self._yielded = self._unpacked = 0  # bytes
        self._records = self._read(data)

    def __iter__(self) -> "FetchedRecords":
        return self

    def __next__(self) -> Fetched:
        return next(self._records)

    def _read(self, data: bytes) -> Iterator[Fetched]:
        began_at = handed_out = self.next_fetch_offset
        for raw in _slices(data):
            records, next_offset = self._read_slice(raw)
            for record in records:
                if last_offset(record) >= began_at:
                    self.next_fetch_offset = handed_out = max(handed_out, last_offset(record) + 1)
                    yield record
                    self._yielded += _OVERHEAD + _size(record)
                    if self._yielded >= _YIELD_LIMIT:
                        return
            self.next_fetch_offset = max(self.next_fetch_offset, next_offset)
            if self._unpacked >= DECOMPRESSED_LIMIT:
                break
        if self.next_fetch_offset > handed_out:
            yield Skipped(self._tp.topic, self._tp.partition, handed_out, self.next_fetch_offset - 1)
        elif data and self.next_fetch_offset == began_at:  # truncated, or its offsets are wrong: it would come again
            self.next_fetch_offset += 1
            yield self._unreadable(began_at, began_at, 0, memoryview(data), "the bytes hold no whole batch")

    def _read_slice(self, raw: memoryview) -> tuple[Iterable[Fetched], int]:
        """Return the records of a batch, and the offset behind it."""
        if raw[_MAGIC_AT] < _MAGIC:
            return self._read_legacy(raw)
        batch = _parse_header(raw)
        return (() if self._is_passed_over(batch) else self._read_batch(batch)), batch.next_offset

    def _is_passed_over(self, batch: _Batch) -> bool:
        """Whether a batch is a control batch of the broker, or belongs to an aborted transaction."""
        while self._aborted and self._aborted[0][1] <= batch.base_offset:
            self._aborted_producers.add(self._aborted.pop(0)[0])
        if batch.attributes & _CONTROL:
            if _is_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            return True
        return bool(batch.attributes & _TRANSACTIONAL) and batch.producer_id in self._aborted_producers

    def _read_batch(self, batch: _Batch) -> Iterator[Fetched]:
        if calc_crc32c(batch.raw[_ATTRIBUTES_AT:].tobytes()) != struct.unpack_from(">I", batch.raw, _CRC_AT)[0]:
            yield self._whole(batch, "invalid CRC")
            return
        try:
            plain = _decompress(batch)
        except FaultError as fault:
            self._unpacked += DECOMPRESSED_LIMIT if isinstance(fault, TooLargeError) else _BAD_BATCH
            yield self._whole(batch, str(fault))
            return
        self._unpacked += len(plain) if batch.attributes & _CODECS else 0
        done = 0
        with contextlib.suppress(Exception):  # the reader in C raises what it likes; what is wrong is found out below
            for record in DefaultRecordBatch(plain):
                if not batch.base_offset <= record.offset < batch.next_offset:
                    break
                done += 1
                yield self._record(record)
            else:
                if done == batch.count:
                    return
        yield from islice(self._read_one_by_one(batch, plain[_HEADER.size :]), done, None)

    def _read_one_by_one(self, batch: _Batch, plain: memoryview) -> Iterator[Fetched]:
        """Yield each record by its own length: an unreadable one does not hide the next."""
        at, expected = 0, batch.base_offset
        for _ in range(batch.count):
            try:
                raw, at = _record_bytes(plain, at)
            except FaultError as fault:
                rest, last = plain[at:], batch.next_offset - 1
                yield self._unreadable(expected, last, batch.max_timestamp, rest, str(fault))
                return
            try:
                record = self._parse(batch, raw)
                expected = record.offset
                yield self._bounded(record)
            except FaultError as fault:
                yield self._unreadable(expected, expected, batch.max_timestamp, raw, str(fault))
            expected += 1
        if at < len(plain) or batch.count < 0:
            rest, told = plain[at:], "there are more bytes than records"
            yield self._unreadable(expected, batch.next_offset - 1, batch.max_timestamp, rest, told)

    def _parse(self, batch: _Batch, raw: memoryview) -> ConsumerRecord[Any, Any]:
        """Raises FaultError."""
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
            raise FaultError("a record's fields do not fit its length, or its offset its batch")
        at_broker = bool(batch.attributes & _LOG_APPEND_TIME)
        timestamp = batch.max_timestamp if at_broker else batch.first_timestamp + timestamp_delta
        sizes = (-1 if each is None else len(each) for each in (key, value))
        return ConsumerRecord(*self._tp, offset, timestamp, int(at_broker), key, value, None, *sizes, tuple(headers))

    def _read_legacy(self, raw: memoryview) -> tuple[Iterable[Fetched], int]:
        """A batch of the formats before Kafka 0.11."""
        (offset, _) = _LENGTH.unpack_from(raw)
        try:
            batch = LegacyRecordBatch(raw, raw[_MAGIC_AT])
            if not batch.validate_crc():
                raise FaultError("invalid CRC")  # noqa: TRY301 - one way for all that is wrong with it
            return [self._record(record) for record in batch], batch.next_offset
        except Exception as error:  # noqa: BLE001 - see _read_batch
            return [self._unreadable(offset, offset, 0, raw, f"a record of an old format: {error}")], offset + 1

    def _record(self, record: Any) -> Fetched:
        sizes = (-1 if each is None else len(each) for each in (record.key, record.value))
        return self._bounded(
            ConsumerRecord(
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
        )

    def _bounded(self, record: ConsumerRecord[Any, Any]) -> Fetched:
        """Return the record, or what is kept of one that is too large."""
        size = _size(record)
        if size <= RECORD_LIMIT:
            return record
        value, offset = (record.value or b"")[:RECORD_LIMIT], record.offset
        told = f"the record takes {size} bytes, more than {RECORD_LIMIT}; of its value the first {len(value)} are kept"
        topic, partition = self._tp
        return UnreadableRecord(topic, partition, offset, offset, record.timestamp, value, told, "too_large")

    def _whole(self, batch: _Batch, fault: str) -> UnreadableRecord:
        told = f"a batch of {batch.count} records, offsets {batch.base_offset} to {batch.next_offset - 1}: {fault}"
        last = max(batch.base_offset, batch.next_offset - 1)
        return self._unreadable(batch.base_offset, last, batch.max_timestamp, batch.raw, told)

    def _unreadable(self, offset: int, last: int, timestamp: int, raw: memoryview, fault: str) -> UnreadableRecord:
        tp = self._tp
        return UnreadableRecord(tp.topic, tp.partition, offset, max(offset, last), timestamp, bytes(raw[:_KEPT]), fault)


def last_offset(record: Fetched) -> int:
    """The offset of a record, or the last one of a batch that cannot be read, or of skipped ones."""
    return int(record.offset if isinstance(record, ConsumerRecord) else record.last_offset)


def _size(record: Any) -> int:
    """Return the bytes of a record's key, value and headers."""
    if isinstance(record, Skipped):
        return 0
    headers = sum(len(name) + len(held or b"") for name, held in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


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
    """Return the batch as it was before its compression. Raises FaultError."""
    codec = batch.attributes & _CODECS
    if not codec:
        return batch.raw
    header = bytearray(batch.raw[: _HEADER.size])
    struct.pack_into(">h", header, _ATTRIBUTES_AT, batch.attributes & ~_CODECS)
    return memoryview(b"".join((header, decompress(codec, batch.raw[_HEADER.size :].tobytes()))))


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    """Return a zigzag varint and the position behind it. Raises FaultError."""
    value = shift = 0
    while True:
        if at >= len(raw) or shift >= _VARINT_BITS:
            raise FaultError("a record is cut short")
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _record_bytes(raw: memoryview, at: int) -> tuple[memoryview, int]:
    """Return the bytes of a record behind its length, and the position behind them. Raises FaultError."""
    length, at = _varint(raw, at)
    if length < 1 or at + length > len(raw):
        raise FaultError("a record has a wrong length")
    return raw[at : at + length], at + length


def _bytes(raw: memoryview, at: int) -> tuple[bytes | None, int]:
    """Return bytes after their length, None for a negative one, and the position behind them. Raises FaultError."""
    length, at = _varint(raw, at)
    if length < 0:
        return None, at
    if at + length > len(raw):
        raise FaultError("a field is cut short")
    return bytes(raw[at : at + length]), at + length


def _header_name(name: bytes | None) -> str:
    if name is None:
        raise FaultError("a header has no name")
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise FaultError(f"the header name {name[:_SHOWN]!r} is not UTF-8") from None
