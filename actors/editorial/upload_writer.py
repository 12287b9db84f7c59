"""Writes uploads to the store as they arrive: in segments, each durable and counted before the next begins.

A segment ends after SEGMENT bytes or a second. Then the lease is renewed with the progress in one guarded statement, so
a crash loses a second at most. A holder that was frozen learns that its lease is lost before its next segment; what it
still writes goes into an object that nobody uses any more, since the next holder went on in a copy.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol
from uuid import UUID

import msgspec

from callboard.actors.editorial.errors import (
    UPLOADS_CHECKSUM,
    UPLOADS_LOCKED,
    UPLOADS_NOT_FOUND,
    UPLOADS_OFFSET,
    UPLOADS_TOO_LARGE,
    UPLOADS_TYPE,
    UPLOADS_VIDEO,
)
from callboard.actors.editorial.media_types import HEAD, OCTETS, is_among
from callboard.actors.editorial.upload_records import (
    CompleteUpload,
    CreateUpload,
    FindParts,
    ForgetObject,
    GetUpload,
    Lease,
    NewUpload,
    ReleaseLease,
    RemoveUpload,
    ReplaceObject,
    SaveProgress,
    TakeLease,
    Upload,
    Uploading,
    UploadKind,
)
from callboard.actors.errors import SERVER_OVERLOADED, Problem
from callboard.actors.infrastructure.errors import STORE_LOST
from callboard.actors.infrastructure.object_store import ObjectStore, no_chunks
from callboard.runtime import Ref, RuntimeFault

SEGMENT = 8 << 20  # bytes
LOOK_S = 1.0  # the longest time between two renewals of a lease
WAIT_S, POLL_S = 1.2, 0.1  # how long, and how often, a lease is asked for that another request holds

TypeOf = Callable[[bytes, str | None], str]  # the type of a file by its first bytes, and the declared one


class Incoming(Protocol):
    """The body of a request. `declared` is its length in bytes, if that is known."""

    declared: int | None

    @property
    def at_end(self) -> bool:
        """Whether every byte has been read."""

    async def read(self, timeout_s: float = ...) -> bytes:
        """Return the next bytes; none at the end, and none if nothing arrives in time. Raises Problem."""

    def keep_working(self) -> None:
        """Extend the time limit of the request: work goes on."""


class Checksum(msgspec.Struct, frozen=True):
    """The digest that the bytes of a request must have."""

    algorithm: str
    digest: bytes


class UploadWriter:
    """Writes, completes and removes uploads, in the task of a request. At most `most_at_once` write in this process, an
    eighth of them for one user.
    """

    def __init__(
        self,
        uploads: Ref[Uploading],
        store: ObjectStore,
        *,
        type_of: TypeOf,
        types: tuple[str, ...] = ("*/*",),
        allows_video: Callable[[UUID], bool],
        most_at_once: int,
    ) -> None:
        self.uploads = uploads
        self.store = store
        self._type_of = type_of
        self._types = types
        self._allows_video = allows_video
        self._most = most_at_once
        self._most_of_user = max(1, most_at_once // 8)
        self._writing: Counter[UUID] = Counter()  # by user

    async def write(
        self,
        upload_id: UUID,
        user_id: UUID,
        offset: int,
        body: Incoming,
        *,
        size: int | None = None,
        checksum: Checksum | None = None,
    ) -> Upload:
        """Append a body at `offset`; return the upload with its new offset. What has arrived of a body that breaks off
        is kept, unless it has a checksum.

        Raises Problem as TakeLease does, UPLOADS_LOCKED, UPLOADS_CHECKSUM, UPLOADS_VIDEO, UPLOADS_TYPE,
        SERVER_OVERLOADED, and those of the body and the store.
        """
        with self._place(user_id):
            lease = await self._lease(TakeLease(upload_id, user_id, offset, size, body.declared))
            if lease.upload.completed_at is not None:
                return lease.upload
            writing = _Writing(self.uploads, self.store, lease, body, checksum)
            try:
                received = await writing.run()
                if received == lease.upload.size:
                    return await self._complete(writing, user_id)
                return msgspec.structs.replace(lease.upload, received=received)
            except Problem as problem:
                if problem.code is UPLOADS_LOCKED and writing.is_lost:
                    await self._delete_if_removed(writing, user_id)
                raise
            finally:
                await writing.release()

    async def concatenate(self, upload_id: UUID, user_id: UUID, new: NewUpload, body: Incoming) -> Upload:
        """Make a final upload of its parts. Raises Problem as CreateUpload and TakeLease do, and those of the store."""
        with self._place(user_id):
            upload = await self.uploads.ask(CreateUpload(upload_id, user_id, new))
            if upload.completed_at is not None:
                return upload
            lease = await self._lease(TakeLease(upload_id, user_id, None))
            writing = _Writing(self.uploads, self.store, lease, body, None)
            try:
                objects = await self.uploads.ask(FindParts(user_id, new.parts))
                await writing.concatenate(objects)
                return await self._complete(writing, user_id)
            except Problem:
                with suppress(Problem, RuntimeFault):
                    await self._remove(lease, writing.object_id)
                raise

    async def remove(self, upload_id: UUID, user_id: UUID) -> None:
        """Remove an upload and its bytes. Raises Problem as TakeLease does, and UPLOADS_LOCKED."""
        lease = await self._lease(TakeLease(upload_id, user_id, None))
        await self._remove(lease, lease.upload.object_id)

    @contextmanager
    def _place(self, user_id: UUID) -> Iterator[None]:
        """Count a request that writes. Raises Problem(SERVER_OVERLOADED)."""
        if self._writing.total() >= self._most or self._writing[user_id] >= self._most_of_user:
            raise Problem(SERVER_OVERLOADED, retry_after_s=1)
        self._writing[user_id] += 1
        try:
            yield
        finally:
            self._writing[user_id] -= 1
            if not self._writing[user_id]:
                del self._writing[user_id]

    async def _lease(self, message: TakeLease) -> Lease:
        """Wait a while for the holder of a lease to release it. Raises Problem(UPLOADS_LOCKED)."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + WAIT_S
        while (lease := await self.uploads.ask(message)) is None:
            if loop.time() > ends_at:
                raise Problem(UPLOADS_LOCKED, retry_after_s=1)
            await asyncio.sleep(POLL_S)
        return lease

    async def _complete(self, writing: "_Writing", user_id: UUID) -> Upload:
        """Complete an upload whose bytes are all there; one of a type that is not allowed is removed."""
        upload = writing.lease.upload
        head = await writing.finish()
        media_type = OCTETS if upload.kind is UploadKind.PARTIAL else self._type_of(head, upload.declared_type)
        if media_type.startswith("video/") and not self._allows_video(user_id):
            await self._remove(writing.lease, writing.object_id)
            raise Problem(UPLOADS_VIDEO)
        if upload.kind is not UploadKind.PARTIAL and not is_among(media_type, self._types):
            await self._remove(writing.lease, writing.object_id)
            raise Problem(UPLOADS_TYPE, allowed=self._types)
        completed = await self.uploads.ask(CompleteUpload(writing.lease, media_type))
        writing.is_held = False
        return completed

    async def _remove(self, lease: Lease, object_id: UUID) -> None:
        """Remove the row, and then the object: the purge deletes what a crash leaves in between."""
        await self.uploads.ask(RemoveUpload(lease))
        with suppress(Problem, RuntimeFault):
            await self.store.delete(object_id)
            await self.uploads.ask(ForgetObject(object_id))

    async def _delete_if_removed(self, writing: "_Writing", user_id: UUID) -> None:
        """Delete what was written to the object of an upload after its removal: nobody else would."""
        try:
            await self.uploads.ask(GetUpload(writing.lease.upload.upload_id, user_id))
        except Problem as problem:
            if problem.code is UPLOADS_NOT_FOUND:
                with suppress(Problem):
                    await self.store.delete(writing.object_id)


class _Writing:
    """One request that writes to an upload."""

    def __init__(
        self, uploads: Ref[Uploading], store: ObjectStore, lease: Lease, body: Incoming, checksum: Checksum | None
    ) -> None:
        upload = lease.upload
        self.lease = lease
        self.object_id = upload.object_id
        self.is_held = lease.copy_to is None  # then this request may release it: its object is in order
        self.is_lost = False
        self._uploads = uploads
        self._store = store
        self._body = body
        self._checksum = checksum
        self._hash = None if checksum is None else hashlib.new(checksum.algorithm, usedforsecurity=False)
        self._saved = self._position = upload.received
        self._room = lease.room - upload.received
        self._broken: Problem | None = None

    async def run(self) -> int:
        """Write the body; return the upload's new offset. The last bytes of an upload are counted as it is completed.

        Raises Problem.
        """
        if self.lease.copy_to is not None:
            await self._go_on_in(self.lease.copy_to)
        body = self._body
        while self._broken is None and not body.at_end:
            await self._write_segment()
            if await self._save() and not body.at_end:
                self._broken = Problem(UPLOADS_LOCKED, "Another request goes on with this upload.", retry_after_s=1)
        if self._broken is not None:
            raise self._broken
        if self._checksum is not None and self._hash is not None and self._hash.digest() != self._checksum.digest:
            await self._cut()
            raise Problem(UPLOADS_CHECKSUM)
        if self._position not in (self._saved, self.lease.upload.size):
            await self._save(is_verified=True)
        return self._position

    async def finish(self) -> bytes:
        """Complete the object; return its first bytes."""
        size = self.lease.upload.size or 0
        if not size and self.lease.upload.kind is not UploadKind.FINAL:
            await self._store.append(self.object_id, 0, no_chunks())
        await self._store.finish(self.object_id, size)
        return b"".join([piece async for piece in self._store.read(self.object_id, 0, min(size, HEAD))])

    async def concatenate(self, objects: list[UUID]) -> None:
        """Make the object of others, while the lease and the request are kept alive. Raises Problem."""
        work = asyncio.ensure_future(self._store.concatenate(self.object_id, objects))
        try:
            while not (await asyncio.wait((work,), timeout=LOOK_S))[0]:
                self._body.keep_working()
                await self._save()
        finally:
            work.cancel()
        if await work != self.lease.upload.size:
            raise Problem(STORE_LOST)

    async def release(self) -> None:
        """Release the lease, unless the object may be in disorder: then it expires, and the next holder copies."""
        if self.is_held:
            self.is_held = False
            with suppress(Problem, RuntimeFault):
                await self._uploads.ask(ReleaseLease(self.lease))

    async def _write_segment(self) -> None:
        """Append what arrives within a second; a silent client costs the store nothing."""
        try:
            first = await self._read(LOOK_S)
        except Problem as problem:
            self._broken = problem
            return
        if first:
            self._position += await self._store.append(self.object_id, self._position, self._segment(first))

    async def _segment(self, piece: bytes) -> AsyncIterator[bytes]:
        """Yield the pieces of one segment, until it is full, its time is over, or the body ends in any way."""
        loop = asyncio.get_running_loop()
        ends_at, left = loop.time() + LOOK_S, SEGMENT
        while piece:
            yield piece
            left -= len(piece)
            wait_s = ends_at - loop.time()
            if left <= 0 or wait_s <= 0:
                return
            try:
                piece = await self._read(wait_s)
            except Problem as problem:
                self._broken = problem
                return

    async def _read(self, timeout_s: float) -> bytes:
        """Return the next bytes of the body. Raises Problem, UPLOADS_TOO_LARGE for more than there is room for."""
        piece = await self._body.read(timeout_s)
        self._room -= len(piece)
        if self._room < 0:
            raise Problem(UPLOADS_TOO_LARGE)
        if self._hash is not None:
            self._hash.update(piece)
        return piece

    async def _save(self, *, is_verified: bool = False) -> bool:
        """Renew the lease, and count the durable bytes unless their checksum or the completion is to come; whether
        another request waits. Raises Problem(UPLOADS_LOCKED) if the lease is lost.
        """
        if (self._checksum is None or is_verified) and self._position != self.lease.upload.size:
            self._saved = self._position
        try:
            return await self._uploads.ask(SaveProgress(self.lease, self._saved))
        except Problem as problem:
            if problem.code is UPLOADS_LOCKED:
                self.is_held, self.is_lost = False, True
            raise

    async def _cut(self) -> None:
        """Give the room of refused bytes back; the next append would do so too."""
        with suppress(Problem):
            await self._store.append(self.object_id, self._saved, no_chunks())

    async def _go_on_in(self, copy: UUID) -> None:
        """Copy the bytes that count: the last holder may still write to its object. If they are lost, the upload
        begins again. Raises Problem(UPLOADS_OFFSET) then.
        """
        size, position = self._saved, 0
        with suppress(Problem):
            await self._store.finish(self.object_id, size)  # so that a store of parts can be read, and takes no more
        try:
            while position < size:
                pieces = self._store.read(self.object_id, position, min(position + SEGMENT, size))
                position += await self._store.append(copy, position, pieces)
                self._body.keep_working()
                await self._uploads.ask(SaveProgress(self.lease, size))
        except Problem as problem:
            if problem.code is not STORE_LOST:
                raise
            position = 0
        await self._uploads.ask(ReplaceObject(self.lease, copy, position))
        self.object_id, self.is_held = copy, True
        if position != size:
            raise Problem(UPLOADS_OFFSET, "The upload has lost its bytes; begin again.")
