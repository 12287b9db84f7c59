"""The store on a disk: durable, bounded in threads and files, and clean after a fault."""

import asyncio
import os
import resource
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from kit.domain import refused

from callboard.actors.errors import SERVER_UNAVAILABLE, DegradedError
from callboard.actors.infrastructure import disk_store
from callboard.actors.infrastructure.disk_store import DiskStore
from callboard.actors.infrastructure.errors import STORE_BUSY, STORE_FULL

MIB = 1 << 20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    store = DiskStore(tmp_path / "not" / "there")
    await store.open()
    yield store
    await store.close()


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


def open_files(folder: Path) -> list[str]:
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()))
    return [each for each in found if each.startswith(str(folder))]


async def test_the_file_and_its_folders_are_synced_before_a_byte_counts(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []

    def sync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, os.fstat(descriptor).st_size))

    name = uuid4()
    monkeypatch.setattr(os, "fsync", sync)
    await store.append(name, 0, pieces(b"a" * MIB, b"b"))
    assert synced[-3][:2] == (str(name), MIB + 1)
    assert [each for each, _ in synced[-2:]] == [name.hex[:2], "there"]
    synced.clear()
    await store.append(name, MIB + 1, pieces(b"c"))
    assert synced == [(str(name), MIB + 2)]


async def test_new_folders_are_synced_and_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    store = DiskStore(tmp_path / "not" / "there")
    monkeypatch.setattr(os, "fsync", lambda each: synced.append(str(Path(f"/proc/self/fd/{each}").readlink())))
    await store.open()
    name = uuid4()
    await store.append(name, 0, pieces(b"a"))
    await store.close()
    path = store.path(name)
    for folder in path.parents[:3]:
        assert str(folder.parent) in synced
        assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.parent == store.folder


async def test_a_full_disk_is_one_error_and_gives_the_room_back(store: DiskStore) -> None:
    name = uuid4()
    await store.append(name, 0, pieces(b"a" * MIB))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB + 5, hard))
    try:
        chunks = pieces(*[b"b" * 100_000] * 40)
        with refused(STORE_FULL):
            await store.append(name, MIB, chunks)
        await chunks.aclose()
        assert store.path(name).stat().st_size == MIB
        assert await store.append(name, MIB, pieces(b"c" * MIB)) == MIB
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert b"".join([piece async for piece in store.read(name, 0, 2 * MIB)]) == b"a" * MIB + b"c" * MIB


async def test_a_cancelled_write_has_ended_when_its_call_ends(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would write into the bytes of whoever holds the upload's lock next."""
    loop = asyncio.get_running_loop()
    begun, go_on, pwrite = asyncio.Event(), threading.Event(), os.pwrite

    def slow(descriptor: int, data: bytes, position: int) -> int:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(10)
        return pwrite(descriptor, data, position)

    name = uuid4()
    await store.append(name, 0, pieces(b"a"))
    monkeypatch.setattr(os, "pwrite", slow)
    writing = asyncio.ensure_future(store.append(name, 1, pieces(b"b")))
    await begun.wait()
    for _ in range(3):  # the deadline, the end of the connection, the stop of the server
        writing.cancel()
        done, _ = await asyncio.wait((writing,), timeout=0.01)
        assert not done
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert store.path(name).read_bytes() == b"a"
    assert not open_files(store.folder)


async def test_of_two_appends_to_one_object_the_second_is_refused_and_harms_nothing(store: DiskStore) -> None:
    go_on, begun, name = asyncio.Event(), asyncio.Event(), uuid4()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a" * MIB
        begun.set()
        await go_on.wait()
        yield b"b"

    first = asyncio.ensure_future(store.append(name, 0, slow()))
    await begun.wait()
    other = DiskStore(store.folder)  # as another process has it
    with refused(STORE_BUSY):
        await other.append(name, 0, pieces(b"c"))
    await other.close()
    go_on.set()
    assert await first == MIB + 1
    assert store.path(name).read_bytes() == b"a" * MIB + b"b"


async def test_a_reader_that_waits_holds_no_file_and_no_thread(store: DiskStore) -> None:
    name = uuid4()
    await store.append(name, 0, pieces(b"a" * MIB))
    readers = [store.read(name, 0, MIB) for _ in range(50)]
    for reader in readers:
        assert await anext(reader) == b"a" * disk_store.PIECE
    assert not open_files(store.folder)
    assert await asyncio.wait_for(store.size(name), 5) == MIB


async def test_its_threads_are_bounded_and_end_with_it(store: DiskStore) -> None:
    names, before = [uuid4() for _ in range(30)], threading.enumerate()
    await asyncio.gather(*(store.append(name, 0, pieces(*[b"a" * 300_000] * 3)) for name in names))
    threads = [each for each in threading.enumerate() if each.name.startswith("object_store") and each not in before]
    assert 0 < len(threads) <= disk_store.THREADS
    await store.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert await store.size(names[0]) == 900_000  # it has opened again


async def test_a_folder_that_is_not_there_is_unavailable_and_no_object_is_lost(
    store: DiskStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Its disk is not mounted: a client that was told of a loss would throw its upload away."""
    name = uuid4()
    store.folder.rmdir()
    for _ in range(3):
        with refused(SERVER_UNAVAILABLE):
            await store.append(name, 5, pieces(b"a"))
        with refused(SERVER_UNAVAILABLE):
            await store.size(name)
        with refused(SERVER_UNAVAILABLE):
            await store.finish(name, 5)
    assert [record.message for record in caplog.records] == [
        f"the folder of uploads, {store.folder}, is unavailable: the folder is not there"
    ]


async def test_the_check_says_whether_something_can_be_written(store: DiskStore, tmp_path: Path) -> None:
    await store.check()
    store.folder.rmdir()
    await store.check()
    (tmp_path / "file").touch()
    blocked = DiskStore(tmp_path / "file" / "uploads")
    await blocked.open()
    with pytest.raises(DegradedError, match="uploads cannot be written to"):
        await blocked.check()
    with refused(SERVER_UNAVAILABLE):
        await blocked.append(uuid4(), 0, pieces(b"a"))
    await blocked.close()
