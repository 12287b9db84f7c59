"""Uploads: their records, and the requests to the actor that keeps them."""

from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from callboard.runtime import Request
from callboard.streams.event_types import UtcDatetime

LATEST = datetime(9999, 12, 31, tzinfo=UTC)
LAST_ID = UUID(int=2**128 - 1)


class UploadBounds(msgspec.Struct, frozen=True):
    """The limits on uploads: the size of one, the rows and bytes of a user, creations an hour, the life of an
    incomplete one.
    """

    max_bytes: int = 10 << 20
    user_rows: int = 1_000
    user_bytes: int = 1 << 30
    per_hour: int = 600
    life_s: float = 24 * 3600.0


class UploadKind(StrEnum):
    """A part of the concatenation extension: partial uploads become one final upload."""

    WHOLE = "whole"
    PARTIAL = "partial"
    FINAL = "final"


class UploadState(msgspec.Struct, frozen=True, kw_only=True):
    """An upload. `size` is None until its client knows it; `received` bytes are durable.

    `filename` and `declared_type` are what the client said, `media_type` what the bytes of a complete upload are.
    """

    upload_id: UUID
    kind: UploadKind
    size: int | None
    received: int
    metadata: str
    filename: str | None
    declared_type: str | None
    media_type: str | None
    parts: tuple[UUID, ...]
    created_at: UtcDatetime
    expires_at: UtcDatetime | None
    completed_at: UtcDatetime | None


class Upload(UploadState, frozen=True, kw_only=True):
    """An upload and the object of the store that has its bytes, which no client needs."""

    object_id: UUID

    @property
    def shown(self) -> UploadState:
        """Return it as its owner sees it."""
        return msgspec.convert(self, UploadState, from_attributes=True)


class Lease(msgspec.Struct, frozen=True):
    """The right to write to an upload, as long as `fence` is the row's, and until it has `room` bytes. After a holder
    that has not released it, the writing goes on in the object `copy_to`.
    """

    upload: Upload
    fence: int
    room: int
    copy_to: UUID | None = None


class NewUpload(msgspec.Struct, frozen=True):
    """The fields that a client gives to a new upload. `parts` are the partial uploads of a final one."""

    kind: UploadKind = UploadKind.WHOLE
    size: int | None = None
    metadata: str = ""
    filename: str | None = None
    declared_type: str | None = None
    parts: tuple[UUID, ...] = ()


class CreateUpload(Request[Upload], frozen=True):
    """Create an upload; a repeated request with the same id returns the owner's upload of this id.

    Raises Problem(UPLOADS_TOO_LARGE, UPLOADS_QUOTA, UPLOADS_PARTS, QUOTA_RATE, UPLOADS_NOT_FOUND if the id is
    another's).
    """

    upload_id: UUID
    user_id: UUID
    new: NewUpload


class GetUpload(Request[Upload], frozen=True):
    """Read an upload of a user. Raises Problem(UPLOADS_NOT_FOUND)."""

    upload_id: UUID
    user_id: UUID


class ListUploads(Request[list[Upload]], frozen=True):
    """List a user's uploads, newest first, after a position."""

    user_id: UUID
    limit: int
    before: datetime = LATEST
    before_id: UUID = LAST_ID


class FindParts(Request[list[UUID]], frozen=True):
    """Return the objects of a final upload's parts, in order. Raises Problem(UPLOADS_PARTS)."""

    user_id: UUID
    parts: tuple[UUID, ...]


class TakeLease(Request[Lease | None], frozen=True):
    """Take the lease of an upload, to write at `offset`; None if it is held, and then its holder is asked for it.

    `size` is the size of an upload that was created without one, `coming` the number of bytes that will come if that is
    known. Raises Problem(UPLOADS_NOT_FOUND, UPLOADS_OFFSET, UPLOADS_FINAL, UPLOADS_SIZE, UPLOADS_TOO_LARGE), and
    ATTACHMENTS_NOT_DRAFT for the removal of a file that belongs to content which is no draft any more.
    """

    upload_id: UUID
    user_id: UUID
    offset: int | None  # None: to remove it, or to make a final upload
    size: int | None = None
    coming: int | None = None


class SaveProgress(Request[bool], frozen=True):
    """Store the number of durable bytes, and renew the lease; whether another request waits for it.

    Raises Problem(UPLOADS_LOCKED) if the lease is lost.
    """

    lease: Lease
    received: int


class ReplaceObject(Request[None], frozen=True):
    """Go on in the copy of an object, which has `received` bytes. Raises Problem(UPLOADS_LOCKED)."""

    lease: Lease
    object_id: UUID
    received: int


class ReleaseLease(Request[None], frozen=True):
    """Release the lease, if it is still held."""

    lease: Lease


class CompleteUpload(Request[Upload], frozen=True):
    """Complete an upload, all of whose bytes are in the store. Raises Problem(UPLOADS_LOCKED)."""

    lease: Lease
    media_type: str


class RemoveUpload(Request[None], frozen=True):
    """Remove an upload; its object is discarded. Raises Problem(UPLOADS_LOCKED) if the lease is lost, and
    ATTACHMENTS_NOT_DRAFT.
    """

    lease: Lease


class ForgetObject(Request[None], frozen=True):
    """Note that a discarded object has been deleted."""

    object_id: UUID


Uploading = (
    CreateUpload
    | GetUpload
    | ListUploads
    | FindParts
    | TakeLease
    | SaveProgress
    | ReplaceObject
    | ReleaseLease
    | CompleteUpload
    | RemoveUpload
    | ForgetObject
)
