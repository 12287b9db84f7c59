"""Objects: every store keeps the same contract, through interruptions and repeats."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import pytest
from kit.domain import refused
from kit.s3 import PART

from callboard.actors.infrastructure.disk_store import DiskStore
from callboard.actors.infrastructure.errors import STORE_LOST
from callboard.actors.infrastructure.object_store import ObjectStore

UNIT = PART // 5


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    store = DiskStore(tmp_path / "uploads")
    await store.open()
    yield store
    await store.close()


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.servers)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    store: ObjectStore = request.getfixturevalue(request.param)
    return store


async def in_order(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def written(store: ObjectStore, *pieces: bytes, name: UUID | None = None) -> UUID:
    """A complete object of these pieces, each of which an append of its own has written."""
    name, offset = name or uuid4(), 0
    for piece in pieces:
        assert await store.append(name, offset, in_order([piece])) == len(piece)
        offset += len(piece)
    await store.finish(name, offset)
    return name


async def read(store: ObjectStore, name: UUID, start: int, stop: int) -> bytes:
    return b"".join([piece async for piece in store.read(name, start, stop)])


async def test_what_is_appended_in_pieces_of_any_size_is_read_whole_and_in_parts(store: ObjectStore) -> None:
    sizes = [1, 0, 5 * UNIT - 1, 1, 3 * UNIT, 12 * UNIT + 7]
    pieces = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    name = await written(store, *pieces)
    whole = b"".join(pieces)
    assert await store.size(name) == len(whole)
    assert await read(store, name, 0, len(whole)) == whole
    for start, stop in (
        (0, 0),
        (0, 1),
        (5 * UNIT - 2, 5 * UNIT + 3),
        (len(whole) - 1, len(whole)),
        (7 * UNIT, 9 * UNIT),
    ):
        assert await read(store, name, start, stop) == whole[start:stop]


async def test_an_append_of_many_chunks_counts_them_all(store: ObjectStore) -> None:
    name, chunks = uuid4(), [bytes([number % 251]) * 4_001 for number in range(300)]
    assert await store.append(name, 0, in_order(chunks)) == 300 * 4_001
    await store.finish(name, 300 * 4_001)
    assert await read(store, name, 0, 300 * 4_001) == b"".join(chunks)


async def test_bytes_beyond_the_offset_are_lost_first(store: ObjectStore) -> None:
    """The process was killed after the bytes were durable, and before its transaction said so."""
    for first, counted in ((3 * UNIT, 2 * UNIT), (11 * UNIT, 6 * UNIT), (20 * UNIT, 0), (17 * UNIT, 16 * UNIT)):
        name = uuid4()
        assert await store.append(name, 0, in_order([b"a" * counted])) == counted
        assert await store.append(name, counted, in_order([b"b" * (first - counted)])) == first - counted
        assert await store.append(name, counted, in_order([b"c" * UNIT])) == UNIT
        await store.finish(name, counted + UNIT)
        assert await store.size(name) == counted + UNIT
        assert await read(store, name, 0, counted + UNIT) == b"a" * counted + b"c" * UNIT


async def test_chunks_that_fail_leave_what_counted_before(store: ObjectStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"b" * (7 * UNIT)
        raise ConnectionResetError("the client has gone")

    name = uuid4()
    await store.append(name, 0, in_order([b"a" * (6 * UNIT)]))
    with pytest.raises(ConnectionResetError):
        await store.append(name, 6 * UNIT, broken())
    assert await store.append(name, 6 * UNIT, in_order([b"c"])) == 1
    await store.finish(name, 6 * UNIT + 1)
    assert await read(store, name, 0, 6 * UNIT + 1) == b"a" * (6 * UNIT) + b"c"


async def test_a_cancelled_append_leaves_what_counted_before(store: ObjectStore) -> None:
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"b" * (9 * UNIT)
        reached.set()
        await asyncio.Event().wait()

    name = uuid4()
    await store.append(name, 0, in_order([b"a"]))
    appending = asyncio.ensure_future(store.append(name, 1, endless()))
    await reached.wait()
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    assert await store.append(name, 1, in_order([b"c"])) == 1
    await store.finish(name, 2)
    assert await read(store, name, 0, 2) == b"ac"


async def test_an_object_without_bytes_is_complete_too(store: ObjectStore) -> None:
    name = uuid4()
    assert await store.append(name, 0, in_order([])) == 0
    await store.finish(name, 0)
    assert await store.size(name) == 0
    assert await read(store, name, 0, 0) == b""


async def test_it_may_be_finished_again(store: ObjectStore) -> None:
    for size in (1, 9 * UNIT):
        name = await written(store, b"a" * size)
        await store.finish(name, size)
        assert await read(store, name, 0, size) == b"a" * size


async def test_objects_are_concatenated_in_their_order_and_the_parts_stay(store: ObjectStore) -> None:
    small, large, tiny = b"a" * 17, b"b" * (13 * UNIT), b"c"
    parts = [await written(store, each) for each in (large, small, tiny, large)]
    for chosen, whole in (
        (parts, large + small + tiny + large),
        ([parts[0], parts[3], parts[1]], large + large + small),
        ([parts[1], parts[1]], small + small),
    ):
        name = uuid4()
        assert await store.concatenate(name, chosen) == len(whole)
        assert await store.concatenate(name, chosen) == len(whole)  # after a crash
        assert await store.size(name) == len(whole)
        assert await read(store, name, 0, len(whole)) == whole
    assert await read(store, parts[1], 0, 17) == small


async def test_nothing_is_taken_for_what_is_lost(store: ObjectStore) -> None:
    name = uuid4()
    assert await store.size(name) is None
    with refused(STORE_LOST):
        await store.append(name, 1, in_order([b"b"]))
    with refused(STORE_LOST):
        await store.append(name, 8 * UNIT, in_order([b"b"]))
    with refused(STORE_LOST):
        await store.finish(name, 1)
    with refused(STORE_LOST):
        await store.concatenate(name, [uuid4()])
    with refused(STORE_LOST):
        await read(store, uuid4(), 0, 1)
    await store.append(name, 0, in_order([b"abc"]))
    with refused(STORE_LOST):
        await store.append(name, 4, in_order([b"e"]))
    with refused(STORE_LOST):
        await store.finish(name, 4)
    assert await store.append(name, 3, in_order([b"d"])) == 1


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(store: ObjectStore) -> None:
    unfinished = uuid4()
    await store.append(unfinished, 0, in_order([b"a" * (9 * UNIT)]))
    for name in (await written(store, b"a"), await written(store, b"a" * (9 * UNIT)), unfinished, uuid4()):
        await store.delete(name)
        await store.delete(name)
        assert await store.size(name) is None
        with refused(STORE_LOST):
            await read(store, name, 0, 1)


@pytest.mark.parametrize("seed", range(6))
async def test_any_sequence_of_appends_that_count_or_do_not_ends_in_the_bytes_that_counted(
    store: ObjectStore, seed: int
) -> None:
    rng, name, counted = Random(seed), uuid4(), b""  # noqa: S311 - what it draws is no secret
    for _ in range(12):
        piece = rng.randbytes(rng.choice([0, 1, 100, PART - 1, PART, PART + 1, rng.randrange(3 * PART)]))
        assert await store.append(name, len(counted), in_order([piece])) == len(piece)
        if rng.random() < 0.6:  # else the process was killed before it was counted
            counted += piece
    await store.finish(name, len(counted)) if counted else await store.append(name, 0, in_order([]))
    assert await read(store, name, 0, len(counted)) == counted
