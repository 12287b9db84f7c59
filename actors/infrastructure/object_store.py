"""Stores of objects: the bytes of uploads, by an id of ours. On a disk (`disk_store`) or in a bucket (`s3_store`).

An object is written by `append`, piece by piece, and complete with `finish`; then it never changes. A store keeps no
state of its own in memory: any process may write the next piece, one at a time. The caller stores how many bytes count,
in the transaction after `append` has returned them; a crash in between leaves bytes that the next `append` overwrites.
"""

import errno
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol
from uuid import UUID

from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.errors import STORE_FULL
from callboard.runtime import Actor

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
REPEAT_S = 60.0  # the least time between two log lines with one reason

log = logging.getLogger(__name__)


class ObjectStore(Protocol):
    """Every method raises Problem(SERVER_UNAVAILABLE) if the store is unavailable.

    A cancelled call has ended when it raises: nothing of it is written later.
    """

    async def append(self, name: UUID, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Write chunks from `offset` on; return how many bytes have been written, which are durable.

        Bytes beyond `offset` are lost first. If `chunks` raises, or the call is cancelled, no byte of this call counts:
        end the chunks in order to keep what has come. Raises Problem(STORE_FULL), and then takes no more room than
        before; Problem(STORE_LOST) if the object has fewer bytes than `offset`; Problem(STORE_BUSY) if another call,
        of any process on the same machine, is appending.
        """
        ...

    async def finish(self, name: UUID, size: int) -> None:
        """Complete the object of `size` bytes: it can be read, and no longer appended to. It may be called again.

        Bytes beyond `size` did not count, and are lost. Raises Problem(STORE_LOST, STORE_FULL, STORE_BUSY).
        """

    async def concatenate(self, name: UUID, parts: Sequence[UUID]) -> int:
        """Make a complete object of the bytes of complete ones; return its size. The parts stay.

        Raises Problem(STORE_FULL, STORE_LOST).
        """
        ...

    def read(self, name: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """Read bytes of a complete object in pieces, of which one is in memory at a time. Raises Problem(STORE_LOST).

        Between two pieces nothing is held, neither a thread nor a file nor a connection of a disk.
        """
        ...

    async def size(self, name: UUID) -> int | None:
        """Return the number of bytes that are stored of an object, complete or not; None if there is none."""
        ...

    async def delete(self, name: UUID) -> None:
        """Delete an object, complete or not, or nothing."""

    async def check(self) -> None:
        """Raise DegradedError if the store cannot be written to: everything else still works."""

    async def open(self) -> None:
        """Prepare the first use. It does not fail if the store is unavailable."""

    async def close(self) -> None:
        """Free threads and connections; the store can be opened again."""


async def no_chunks() -> AsyncIterator[bytes]:
    """Append nothing: it only cuts what lies beyond the offset."""
    return
    yield b""


class ObjectStoreKeeper(Actor[None]):
    """Opens the store with the process, and closes it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def on_start(self) -> None:
        """Open the store."""
        await self._store.open()

    async def on_stop(self) -> None:
        """Close the store."""
        await self._store.close()


class StoreFaults:
    """Turns faults of a store into problems, and logs each new reason once a minute."""

    def __init__(self, store: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._told: dict[str, float] = {}

    def unavailable(self, reason: str) -> Problem:
        """Return the problem of a store that cannot be reached or used."""
        now = self._clock()
        self._told = {each: at for each, at in self._told.items() if now - at < REPEAT_S}
        if reason not in self._told:
            self._told[reason] = now
            log.warning("%s is unavailable: %s", self._store, reason)
        return Problem(SERVER_UNAVAILABLE)

    def of_disk(self, error: OSError) -> Problem:
        """Return the problem of a file."""
        problem = self.unavailable(error.strerror or type(error).__name__)
        return Problem(STORE_FULL) if error.errno in FULL else problem
