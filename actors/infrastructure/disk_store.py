"""Objects as files on a disk, or on a disk that several machines share.

`FOLDER/3f/3f2a…`: the file of an object, in one of 256 folders by the first byte of its random id. No name of a client
is in a path. A few threads read and write, each for one piece: a slow client holds neither a thread nor a file.
"""

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from callboard.actors.errors import DegradedError, Problem
from callboard.actors.infrastructure.errors import STORE_BUSY, STORE_LOST
from callboard.actors.infrastructure.object_store import StoreFaults, no_chunks

THREADS = 4
WRITTEN = 1 << 18  # bytes that are gathered for one write
PIECE = 1 << 16  # bytes of one read

T = TypeVar("T")


class DiskStore:
    """An ObjectStore on a disk. A byte counts when fsync has returned, of its file and of the folders above it."""

    def __init__(self, folder: Path, *, threads: int = THREADS) -> None:
        self.folder = folder
        self._most = threads
        self._turns = asyncio.Semaphore(threads)
        self._threads: ThreadPoolExecutor | None = None
        self._faults = StoreFaults(f"the folder of uploads, {folder},")

    async def append(self, name: UUID, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """See ObjectStore."""
        file = _Appending(self.folder, self.path(name), offset)
        try:
            await self._run(file.open)
            gathered = bytearray()
            async for chunk in chunks:
                gathered += chunk
                if len(gathered) >= WRITTEN:
                    await self._run(file.write, gathered)
                    gathered = bytearray()
            await self._run(file.write, gathered)
            return await self._run(file.keep)
        finally:
            file.close()

    async def finish(self, name: UUID, size: int) -> None:
        """See ObjectStore: nothing remains to be done, but to cut bytes that did not count."""
        stored = await self.size(name)
        if stored is None or stored < size:
            raise Problem(STORE_LOST)
        if stored > size:
            await self.append(name, size, no_chunks())

    async def concatenate(self, name: UUID, parts: Sequence[UUID]) -> int:
        """See ObjectStore."""
        sizes = [await self.size(part) for part in parts]

        async def chunks() -> AsyncIterator[bytes]:
            for part, size in zip(parts, sizes, strict=True):
                if size is None:
                    raise Problem(STORE_LOST)
                async for piece in self.read(part, 0, size):
                    yield piece

        return await self.append(name, 0, chunks())

    async def read(self, name: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """See ObjectStore."""
        path = self.path(name)
        while start < stop:
            piece = await self._run(_read, path, start, min(PIECE, stop - start))
            start += len(piece)
            yield piece

    async def size(self, name: UUID) -> int | None:
        """See ObjectStore."""
        return await self._run(_size, self.folder, self.path(name))

    async def delete(self, name: UUID) -> None:
        """See ObjectStore."""
        await self._run(self.path(name).unlink, True)

    async def check(self) -> None:
        """See ObjectStore."""
        await self._run(_check, self.folder)

    async def open(self) -> None:
        """See ObjectStore: make the folder. Later it must be there, since without its disk nothing may seem lost."""
        with suppress(Problem):  # which is logged, and which `check` shows
            await self._run(_make_folder, self.folder)

    async def close(self) -> None:
        """See ObjectStore. A thread that is writing ends with its piece."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    def path(self, name: UUID) -> Path:
        """Return the path of an object's file."""
        return self.folder / name.hex[:2] / str(name)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in a thread. A cancelled call waits until the thread is done. Raises Problem."""
        async with self._turns:  # a call that is cancelled here has nothing to wait for
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._most, "object_store")
            working = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                while not working.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait((working,))
                working.exception()
                raise
            except FileNotFoundError as error:
                raise Problem(STORE_LOST) from error
            except OSError as error:
                raise self._faults.of_disk(error) from error


class _Appending:
    """A file while it is written to: locked, since two processes that write to one file would mix their bytes.

    Unless it is kept, it is cut back to its beginning. Each method but `close` may block.
    """

    def __init__(self, folder: Path, path: Path, offset: int) -> None:
        self._folder = folder
        self._path = path
        self._offset = self._end = offset
        self._descriptor = -1
        self._is_kept = False

    def open(self) -> None:
        """Open the file, made if the offset is 0, and cut it at the offset. Raises OSError, Problem."""
        if not self._offset:
            _make_folder(self._path.parent)
        elif not self._folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "the folder is not there", str(self._folder))
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | (0 if self._offset else os.O_CREAT)
        self._descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._is_kept = True  # by the other call
            raise Problem(STORE_BUSY) from None
        if os.fstat(self._descriptor).st_size < self._offset:
            self._is_kept = True
            raise Problem(STORE_LOST)
        os.ftruncate(self._descriptor, self._offset)

    def write(self, data: bytes | bytearray) -> None:
        """Write at the end. Raises OSError."""
        left = memoryview(data)
        while left:
            written = os.pwrite(self._descriptor, left, self._end)
            self._end += written
            left = left[written:]

    def keep(self) -> int:
        """Make the bytes durable, and return how many there are. Raises OSError."""
        os.fsync(self._descriptor)
        if not self._offset:
            for folder in (self._path.parent, self._folder):
                _sync_folder(folder)
        self._is_kept = True
        return self._end - self._offset

    def close(self) -> None:
        """Close the file; what is not kept gives its room back."""
        if self._descriptor < 0:
            return
        try:
            if not self._is_kept:
                with suppress(OSError):  # the next append cuts it
                    os.ftruncate(self._descriptor, self._offset)
        finally:
            os.close(self._descriptor)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing. Raises OSError."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(0o700, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, start: int, size: int) -> bytes:
    """Read bytes of a file, at least one. Raises OSError, Problem."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        piece = os.pread(descriptor, size, start)
    finally:
        os.close(descriptor)
    if not piece:
        raise Problem(STORE_LOST)
    return piece


def _size(folder: Path, path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "the folder is not there", str(folder)) from None
        return None


def _check(folder: Path) -> None:
    """Check that files can be made in a folder, or the folder itself. Raises DegradedError."""
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise DegradedError(f"{folder} cannot be written to")
