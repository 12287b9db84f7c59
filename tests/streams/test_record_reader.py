"""Whatever bytes a broker gives us, each record is read or told of, and none is asked for again for ever."""

import gzip
import struct
import tracemalloc
from typing import Any

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.codec import snappy_encode
from hypothesis import given
from hypothesis import strategies as st
from kit.batches import CONTROL, CRC_AT, HEADER_BYTES, TRANSACTIONAL, batch, marked, repacked, sealed

from callboard.streams import decompression
from callboard.streams.decompression import DECOMPRESSED_LIMIT
from callboard.streams.record_reader import RECORD_LIMIT, FetchedRecords, Skipped, UnreadableRecord, last_offset

TP = TopicPartition("t", 3)
GOOD = batch((b"k0", b"v0", []), (None, b"v1", [("a", b"1"), ("b", None)]), (b"k2", None, []))
PLAIN = GOOD[HEADER_BYTES:]
BAD_NAME = batch((b"k", b"v0", []), (b"k", b"v1", [("zz", b"")]), (b"k", b"v2", []))


def read(data: bytes, offset: int = 0, aborted: Any = None) -> tuple[list[Any], int]:
    records = FetchedRecords(TP, data, aborted, offset)
    return list(records), records.next_fetch_offset


def values(data: bytes, offset: int = 0, aborted: Any = None) -> list[bytes | str | None]:
    return [each.fault if isinstance(each, UnreadableRecord) else each.value for each in read(data, offset, aborted)[0]]


def at(offset: int, data: bytes) -> bytes:
    return struct.pack(">q", offset) + data[8:]


def test_a_good_batch_is_read_whole() -> None:
    records, next_offset = read(at(7, GOOD), 7)
    assert [(each.offset, each.key, each.value) for each in records] == [
        (7, b"k0", b"v0"),
        (8, None, b"v1"),
        (9, b"k2", None),
    ]
    assert records[1].headers == (("a", b"1"), ("b", None))
    assert next_offset == 10


def test_a_fetch_in_the_middle_of_a_batch_begins_there() -> None:
    assert values(GOOD, 1) == [b"v1", None]


def test_a_header_name_that_is_not_utf8_costs_that_record_alone() -> None:
    records, next_offset = read(sealed(BAD_NAME.replace(b"zz", b"\xff\xfe")))
    assert [each.offset for each in records] == [0, 1, 2]
    assert [isinstance(each, UnreadableRecord) for each in records] == [False, True, False]
    assert "not UTF-8" in records[1].fault
    assert b"\xff\xfe" in records[1].value
    assert next_offset == 3


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("invalid CRC", GOOD[:CRC_AT] + b"\0\0\0\0" + GOOD[CRC_AT + 4 :]),
        ("unknown compression codec 7", repacked(GOOD, PLAIN, 7)),
        ("bad compression", repacked(GOOD, b"no gzip", 1)),
        ("bad compression", repacked(GOOD, gzip.compress(PLAIN)[:-9], 1)),
        ("bad compression", repacked(GOOD, b"\xff" * 30, 2)),
        ("bad compression", repacked(GOOD, snappy_encode(PLAIN)[:-3], 2)),
        ("bad compression", repacked(GOOD, b"no lz4", 3)),
        ("bad compression", repacked(GOOD, b"no zstd", 4)),
        ("bad compression", repacked(GOOD, bytes(cramjam.zstd.compress(PLAIN))[:-3], 4)),
    ],
)
def test_a_batch_that_nobody_can_read_is_told_of_whole_and_its_neighbours_are_read(name: str, bad: bytes) -> None:
    records, next_offset = read(GOOD + at(3, bad) + at(6, GOOD))
    assert [last_offset(each) for each in records] == [0, 1, 2, 5, 6, 7, 8]
    told = records[3]
    assert (told.offset, told.topic, told.partition, told.value) == (3, "t", 3, at(3, bad))
    assert name in told.fault
    assert "offsets 3 to 5" in told.fault
    assert next_offset == 9


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_every_codec_is_read(codec: int) -> None:
    records = [(b"k", bytes([n % 7]) * 400, [("h", b"x")]) for n in range(300)]
    assert values(batch(*records, codec=codec)) == [value for _, value, _ in records]


def test_snappy_is_read_raw_and_in_blocks() -> None:
    for packed in (bytes(cramjam.snappy.compress_raw(PLAIN)), snappy_encode(PLAIN, xerial_blocksize=5)):
        assert values(repacked(GOOD, packed, 2)) == [b"v0", b"v1", None]


@pytest.mark.parametrize(
    ("codec", "pack"),
    [
        (1, gzip.compress),
        (2, cramjam.snappy.compress_raw),
        (2, snappy_encode),
        (3, cramjam.lz4.compress),
        (4, cramjam.zstd.compress),
    ],
)
def test_a_batch_that_swells_beyond_the_bound_is_told_of(codec: int, pack: Any) -> None:
    bomb = repacked(GOOD, bytes(pack(bytes(DECOMPRESSED_LIMIT + 1))), codec)
    (told,) = read(bomb)[0]
    assert "32 MiB" in told.fault
    assert len(told.value) < 4_000_000


def test_a_batch_cut_short_is_no_batch_yet_but_alone_it_is_told_of() -> None:
    records, next_offset = read(GOOD + at(3, GOOD)[:-1])
    assert (len(records), next_offset) == (3, 3)
    (told,), next_offset = read(GOOD[:-1], 5)
    assert (told.offset, next_offset) == (5, 6)


def test_a_record_whose_length_lies_hides_only_those_behind_it_in_its_batch() -> None:
    changed = bytearray(GOOD)
    third = len(GOOD) - PLAIN[::-1].index(b"k"[0]) - 1  # within the third record: its length stands six bytes before
    assert changed[third - 5] // 2 == len(GOOD) - third + 4
    changed[third - 5] += 40
    records, next_offset = read(sealed(bytes(changed)) + at(3, GOOD))
    assert [isinstance(each, UnreadableRecord) for each in records] == [False, False, True, False, False, False]
    assert next_offset == 6


@pytest.mark.parametrize("count", [-1, 2, 9, 2**31 - 1])
def test_a_count_that_lies_is_told_of(count: int) -> None:
    lying = sealed(GOOD[:57] + struct.pack(">i", count) + PLAIN)
    records, next_offset = read(lying + at(3, GOOD))
    assert any(isinstance(each, UnreadableRecord) for each in records)
    assert [each.value for each in records[-3:]] == [b"v0", b"v1", None]
    assert next_offset == 6


def test_a_batch_whose_end_lies_before_its_beginning_does_not_come_again_for_ever() -> None:
    lying = sealed(GOOD[:23] + struct.pack(">i", -5) + GOOD[27:])
    records, next_offset = read(lying, 0)
    assert records
    assert next_offset > 0


def test_transactions_that_were_aborted_and_markers_are_passed_over() -> None:
    def transaction(offset: int, producer_id: int) -> bytes:
        return marked(at(offset, GOOD), producer_id=producer_id, flags=TRANSACTIONAL)

    def marker(offset: int, producer_id: int, kind: int) -> bytes:
        control = batch((struct.pack(">hh", 0, kind), b"\0" * 6, []), base_offset=offset)
        return marked(control, producer_id=producer_id, flags=TRANSACTIONAL | CONTROL)

    data = b"".join(
        [
            transaction(0, 1), transaction(3, 2), marker(6, 1, 0), marker(7, 2, 1),
            transaction(8, 1), marker(11, 1, 1), at(12, GOOD),
        ]
    )  # fmt: skip
    records, next_offset = read(data, aborted=[(1, 0)])
    assert [each.offset for each in records] == [3, 4, 5, 8, 9, 10, 12, 13, 14]
    assert next_offset == 15


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_told_of_and_never_stand_still(data: bytes) -> None:
    _, next_offset = read(data, 5)
    assert not data or next_offset > 5


@given(st.integers(12, len(GOOD) - 1), st.integers(0, 255), st.booleans())
def test_a_changed_byte_stops_nobody_behind_it(place: int, byte: int, seal: bool) -> None:
    changed = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    if seal and changed[16] >= 2:
        changed = sealed(changed)
    _, next_offset = read(changed + at(1000, GOOD))
    assert next_offset >= 1003


def test_the_word_by_which_a_full_buffer_is_known() -> None:
    packed = bytes(cramjam.zstd.compress(bytes(1000)))
    with pytest.raises(cramjam.DecompressionError, match=decompression._BUFFER_FULL):
        cramjam.zstd.decompress_into(packed, bytearray(10))


def drained(data: bytes, end: int) -> list[Any]:
    """All records before an offset, by one fetch after another, each of which gets the same bytes."""
    found: list[Any] = []
    offset = 0
    while offset < end:
        records, offset = read(data, offset)
        found += records
    return found


def test_a_fetch_yields_a_bounded_number_of_bytes_and_the_rest_comes_by_the_next() -> None:
    records = [(b"k", bytes([n % 7]) * 10_000, []) for n in range(1500)]
    packed = batch(*records, codec=4)
    assert len(packed) < 50_000
    first, next_offset = read(packed)
    assert sum(len(each.value) for each in first) < 2 * RECORD_LIMIT
    assert next_offset == len(first)
    assert [each.value for each in drained(packed, 1500)] == [value for _, value, _ in records]


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_a_record_that_swells_is_a_dead_letter_with_its_first_bytes_and_its_neighbours_are_read(codec: int) -> None:
    data = batch((b"k", b"v0", []), (b"k", bytes(RECORD_LIMIT + 1), []), (b"k", b"v2", []), codec=codec)
    first, large, *rest = drained(data, 3)
    assert first.value == b"v0"
    assert (large.offset, large.reason, len(large.value)) == (1, "too_large", RECORD_LIMIT)
    assert [each.value for each in rest] == [b"v2"]


@pytest.mark.parametrize("part", [(bytes(RECORD_LIMIT + 1), b"", []), (b"", b"", [("h", bytes(RECORD_LIMIT))])])
def test_a_key_or_header_that_swells_counts_too(part: Any) -> None:
    (large,) = read(batch(part, codec=4))[0]
    assert large.reason == "too_large"


def test_many_bombs_in_one_fetch_are_unpacked_by_one_fetch_after_another() -> None:
    bomb = repacked(GOOD, bytes(cramjam.zstd.compress(bytes(DECOMPRESSED_LIMIT + 1))), 4)
    bombs = b"".join(at(3 * n, bomb) for n in range(50))
    records, next_offset = read(bombs)
    assert len(records) == 1
    assert next_offset == 3


def test_millions_of_empty_records_take_no_memory_before_they_are_asked_for() -> None:
    count = 2_000_000
    record = b"\x0c" + bytes(6)  # its length, and six fields of zero
    empty = sealed(GOOD[:57] + struct.pack(">i", count) + record * count)
    many = repacked(empty, bytes(cramjam.zstd.compress(empty[HEADER_BYTES:])), 4)
    tracemalloc.start()
    try:
        records = FetchedRecords(TP, many, None, 0)
        for _ in range(1000):
            next(records)
        assert tracemalloc.get_traced_memory()[1] < 80_000_000
    finally:
        tracemalloc.stop()


def test_the_end_of_a_fetch_without_records_is_passed_on_so_that_it_is_committed() -> None:
    def transaction(offset: int) -> bytes:
        return marked(at(offset, GOOD), producer_id=1, flags=TRANSACTIONAL)

    records, next_offset = read(at(0, GOOD) + transaction(3), aborted=[(1, 3)])
    assert isinstance(records[-1], Skipped)
    assert (len(records), last_offset(records[-1]), next_offset) == (4, 5, 6)
    assert not any(isinstance(each, Skipped) for each in read(GOOD)[0])
