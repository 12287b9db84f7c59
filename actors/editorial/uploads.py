"""Uploads: their state in PostgreSQL, under a lease with a fence, and their progress in Redis.

One request at a time writes to an upload. It takes a lease, renews it with its progress, and loses it as soon as its
fence is no longer the row's. A request that finds the lease held asks its holder to release it.
"""

from typing import Any
from uuid import UUID, uuid4

import msgspec

from callboard.actors.editorial.errors import (
    ATTACHMENTS_NOT_DRAFT,
    UPLOADS_FINAL,
    UPLOADS_LOCKED,
    UPLOADS_NOT_FOUND,
    UPLOADS_OFFSET,
    UPLOADS_PARTS,
    UPLOADS_QUOTA,
    UPLOADS_SIZE,
    UPLOADS_TOO_LARGE,
)
from callboard.actors.editorial.upload_records import (
    CompleteUpload,
    CreateUpload,
    FindParts,
    ForgetObject,
    GetUpload,
    Lease,
    ListUploads,
    ReleaseLease,
    RemoveUpload,
    ReplaceObject,
    SaveProgress,
    TakeLease,
    Upload,
    UploadBounds,
    Uploading,
    UploadKind,
)
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.quotas import count_use
from callboard.actors.infrastructure.redis import RedisClient
from callboard.runtime import Actor, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERSONAL_DATA = PersonalData(
    "uploads",
    {"uploads": ("user_id", "metadata", "filename", "declared_type", "media_type")},
    QUERIES.export_uploads,
    QUERIES.erase_uploads,
)

LEASE_S = 6.0  # a holder renews its lease each second; after a crash the next one waits this long


class Uploads(Actor[Uploading]):
    """All changes of uploads. The workers of the pool share no state: the rows decide between them and processes."""

    def __init__(self, database: Database, cache: RedisClient, bounds: UploadBounds) -> None:
        self.database = database
        self.cache = cache
        self.bounds = bounds

    @on(CreateUpload)
    @retried
    async def create(self, message: CreateUpload) -> Upload:
        """Add the row, within the quotas."""
        new, bounds, user_id = message.new, self.bounds, message.user_id
        async with self.database.transaction() as connection:
            size = new.size
            if new.kind is UploadKind.FINAL:
                size = sum(each["size"] for each in await _parts(connection, user_id, new.parts))
            if size is not None and size > bounds.max_bytes:
                raise Problem(UPLOADS_TOO_LARGE, f"An upload may have {bounds.max_bytes} bytes.")
            row = await QUERIES.add_upload(
                connection,
                upload_id=message.upload_id,
                user_id=user_id,
                reserved=bounds.max_bytes if size is None else size,
                life_s=bounds.life_s,
                **(msgspec.structs.asdict(new) | {"size": size}),
            )
            if row is None:
                return await _upload(connection, message.upload_id, user_id)
            await count_use(connection, "uploads", user_id, most=bounds.per_hour)
            usage = await QUERIES.usage(connection, user_id=user_id)
            if usage["upload_rows"] > bounds.user_rows or usage["upload_bytes"] > bounds.user_bytes:
                raise Problem(UPLOADS_QUOTA)
        return self._shown(msgspec.convert(dict(row), Upload))

    @on(GetUpload)
    async def get(self, message: GetUpload) -> Upload:
        """Read the row: Redis may be behind."""
        async with self.database.acquire() as connection:
            return await _upload(connection, message.upload_id, message.user_id)

    @on(ListUploads)
    async def list_uploads(self, message: ListUploads) -> list[Upload]:
        """Read one page by the index of the user."""
        async with self.database.acquire() as connection:
            rows = QUERIES.list_uploads(connection, **msgspec.structs.asdict(message))
            return [msgspec.convert(dict(row), Upload) async for row in rows]

    @on(FindParts)
    async def find_parts(self, message: FindParts) -> list[UUID]:
        """Read the parts' rows."""
        async with self.database.acquire() as connection:
            return [each["object_id"] for each in await _parts(connection, message.user_id, message.parts)]

    @on(TakeLease)
    @retried
    async def take_lease(self, message: TakeLease) -> Lease | None:
        """The lock on the row orders those who come at once."""
        async with self.database.transaction() as connection:
            row = await QUERIES.lock_upload(connection, upload_id=message.upload_id, user_id=message.user_id)
            if row is None:
                raise Problem(UPLOADS_NOT_FOUND)
            upload = msgspec.convert(dict(row), Upload)
            if row["is_leased"]:
                await QUERIES.want_upload(connection, upload_id=upload.upload_id)
                return None
            if message.offset is None and await QUERIES.is_shown(connection, upload_id=upload.upload_id):
                raise Problem(ATTACHMENTS_NOT_DRAFT)
            size, reserved = self._sizes(message, upload, row["reserved"])
            if message.offset is not None and upload.completed_at is not None:
                return Lease(upload, row["fence"], reserved)  # there is nothing to write
            copy_to = None
            if message.offset is not None and not row["is_released"]:  # its last holder may still write to the object
                copy_to = uuid4()
                await QUERIES.discard_object(connection, object_id=copy_to)  # until it is in use
            fence = await QUERIES.take_lease(
                connection, upload_id=upload.upload_id, size=size, reserved=reserved, lease_s=LEASE_S
            )
        return Lease(msgspec.structs.replace(upload, size=size), fence, reserved, copy_to)

    @on(SaveProgress)
    async def save_progress(self, message: SaveProgress) -> bool:
        """One guarded statement."""
        lease = message.lease
        async with self.database.acquire() as connection:
            row = await QUERIES.save_progress(
                connection,
                upload_id=lease.upload.upload_id,
                fence=lease.fence,
                received=message.received,
                lease_s=LEASE_S,
            )
        if row is None:
            raise Problem(UPLOADS_LOCKED, retry_after_s=1)
        self._shown(msgspec.structs.replace(lease.upload, received=message.received))
        return bool(row["is_wanted"])

    @on(ReplaceObject)
    async def replace_object(self, message: ReplaceObject) -> None:
        """One guarded statement; a trigger discards the object that was in use."""
        lease = message.lease
        async with self.database.acquire() as connection:
            row = await QUERIES.replace_object(
                connection,
                upload_id=lease.upload.upload_id,
                fence=lease.fence,
                object_id=message.object_id,
                received=message.received,
            )
        if row is None:
            raise Problem(UPLOADS_LOCKED, retry_after_s=1)

    @on(ReleaseLease)
    async def release(self, message: ReleaseLease) -> None:
        """A released lease says that nobody writes to the object."""
        lease = message.lease
        async with self.database.acquire() as connection:
            await QUERIES.release_lease(connection, upload_id=lease.upload.upload_id, fence=lease.fence)

    @on(CompleteUpload)
    async def complete(self, message: CompleteUpload) -> Upload:
        """One guarded statement."""
        lease = message.lease
        async with self.database.acquire() as connection:
            row = await QUERIES.complete_upload(
                connection, upload_id=lease.upload.upload_id, fence=lease.fence, media_type=message.media_type
            )
        if row is None:
            raise Problem(UPLOADS_LOCKED, retry_after_s=1)
        return self._shown(msgspec.convert(dict(row), Upload))

    @on(RemoveUpload)
    @retried
    async def remove(self, message: RemoveUpload) -> None:
        """A trigger discards the object. The locks on the articles order this and their transitions."""
        lease = message.lease
        async with self.database.transaction() as connection:
            if await QUERIES.note_removal(connection, upload_id=lease.upload.upload_id):
                raise Problem(ATTACHMENTS_NOT_DRAFT)
            removed = await QUERIES.remove_upload(connection, upload_id=lease.upload.upload_id, fence=lease.fence)
            if removed is None:
                raise Problem(UPLOADS_LOCKED, retry_after_s=1)
        _unheard(self.cache.send("DEL", self._key(lease.upload)))

    @on(ForgetObject)
    async def forget_object(self, message: ForgetObject) -> None:
        """The purge need not delete it again."""
        async with self.database.acquire() as connection:
            await QUERIES.forget_object(connection, object_id=message.object_id)

    def _sizes(self, asked: TakeLease, upload: Upload, reserved: int) -> tuple[int | None, int]:
        """Return the size of an upload and its share of the quota. Raises Problem for bytes that do not fit."""
        if asked.offset is None:
            return upload.size, reserved
        if upload.kind is UploadKind.FINAL:
            raise Problem(UPLOADS_FINAL)
        if asked.offset != upload.received:
            raise Problem(UPLOADS_OFFSET, f"The upload has {upload.received} bytes; go on from there.")
        size = upload.size
        if asked.size is not None:
            if size not in (None, asked.size) or asked.size < upload.received:
                raise Problem(UPLOADS_SIZE)
            if asked.size > self.bounds.max_bytes:
                raise Problem(UPLOADS_TOO_LARGE, f"An upload may have {self.bounds.max_bytes} bytes.")
            size = reserved = asked.size
        if asked.offset + (asked.coming or 0) > reserved:
            raise Problem(UPLOADS_TOO_LARGE, f"The upload has room for {reserved - upload.received} more bytes.")
        return size, reserved

    def _key(self, upload: Upload) -> str:
        return self.cache.keys.key("uploads", str(upload.upload_id), "progress")

    def _shown(self, upload: Upload) -> Upload:
        """Show the progress in Redis, for whoever polls it; nothing waits for that."""
        state = "complete" if upload.completed_at else "incomplete"
        shown = {"offset": upload.received, "length": upload.size, "state": state}
        _unheard(self.cache.send("SET", self._key(upload), msgspec.json.encode(shown), "EX", round(self.bounds.life_s)))
        return upload


def _unheard(reply: Any) -> None:
    """Ignore whether Redis has done it: the client logs its absence."""
    reply.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _upload(connection: Any, upload_id: UUID, user_id: UUID) -> Upload:
    row = await QUERIES.upload(connection, upload_id=upload_id, user_id=user_id)
    if row is None:
        raise Problem(UPLOADS_NOT_FOUND)
    return msgspec.convert(dict(row), Upload)


async def _parts(connection: Any, user_id: UUID, parts: tuple[UUID, ...]) -> list[Any]:
    """Return the rows of a final upload's parts, in their order. Raises Problem(UPLOADS_PARTS)."""
    rows = QUERIES.complete_parts(connection, user_id=user_id, upload_ids=list(parts))
    found = {row["upload_id"]: row async for row in rows}
    if not parts or any(part not in found for part in parts):
        raise Problem(UPLOADS_PARTS)
    return [found[part] for part in parts]
