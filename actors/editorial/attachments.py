"""Files of content and of users: uploads that are attached to an article, and avatars.

Attachments change only while the content is a draft, like its text: what an editor approves is what is published, and
who has changed them last does not approve them.
"""

from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.editorial.errors import (
    ATTACHMENTS_FULL,
    ATTACHMENTS_NOT_DRAFT,
    AVATARS_NOT_FOUND,
    AVATARS_NOT_IMAGE,
    CONTENT_FORBIDDEN,
    CONTENT_NOT_FOUND,
    UPLOADS_NOT_FOUND,
)
from callboard.actors.editorial.media_types import IMAGES
from callboard.actors.editorial.workflow_rules import Status, is_editor, may_see
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.principals import Principal
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)
PERSONAL_DATA = (
    PersonalData("attachments", {"content_attachments": ("content_id", "upload_id")}, QUERIES.export_attachments),
    PersonalData("avatars", {"avatars": ("user_id", "upload_id")}, QUERIES.export_avatars, QUERIES.erase_avatars),
)


class FileBounds(msgspec.Struct, frozen=True):
    """The attachments of an article, and the bytes of an avatar, at most."""

    attachments: int = 20
    avatar_bytes: int = 2 << 20


class StoredFile(msgspec.Struct, frozen=True):
    """A complete upload, which never changes. `filename` is what its client said."""

    object_id: UUID
    size: int
    media_type: str
    filename: str | None
    completed_at: UtcDatetime


class Attachment(msgspec.Struct, frozen=True):
    """A file of an article: `GET /uploads/{upload_id}/file` downloads it."""

    upload_id: UUID
    filename: str | None
    media_type: str
    size: int
    attached_at: UtcDatetime


class FindFile(Request[StoredFile], frozen=True):
    """Find a file that the caller may download. Raises Problem(UPLOADS_NOT_FOUND)."""

    upload_id: UUID
    caller: Principal | None


class FindAvatar(Request[StoredFile], frozen=True):
    """Find the avatar of a user, which everybody may see. Raises Problem(AVATARS_NOT_FOUND)."""

    user_id: UUID


class ListAttachments(Request[list[Attachment]], frozen=True):
    """List the files of an article, the oldest first. Raises Problem(CONTENT_NOT_FOUND)."""

    content_id: UUID
    caller: Principal | None


class AttachUpload(Request[list[Attachment]], frozen=True):
    """Attach an upload of the caller's; return all attachments. Attaching it again changes nothing.

    Raises Problem(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN, UPLOADS_NOT_FOUND, ATTACHMENTS_NOT_DRAFT, ATTACHMENTS_FULL).
    """

    content_id: UUID
    upload_id: UUID
    caller: Principal


class DetachUpload(Request[None], frozen=True):
    """Take an attachment from an article; the upload stays its owner's. Raises Problem like AttachUpload."""

    content_id: UUID
    upload_id: UUID
    caller: Principal


class SetAvatar(Request[None], frozen=True):
    """Make an upload of the user's the avatar. Raises Problem(UPLOADS_NOT_FOUND, AVATARS_NOT_IMAGE)."""

    user_id: UUID
    upload_id: UUID


class RemoveAvatar(Request[None], frozen=True):
    """Remove the avatar of a user. Raises Problem(AVATARS_NOT_FOUND)."""

    user_id: UUID


FileRequest = FindFile | FindAvatar | ListAttachments | AttachUpload | DetachUpload | SetAvatar | RemoveAvatar


class Attachments(Actor[FileRequest]):
    """All files of content and users. The workers of the pool share no state."""

    def __init__(self, database: Database, bounds: FileBounds) -> None:
        self.database = database
        self.bounds = bounds

    @on(FindFile)
    async def find_file(self, message: FindFile) -> StoredFile:
        """One query decides who sees it."""
        caller = message.caller
        async with self.database.acquire() as connection:
            row = await QUERIES.find_file(
                connection,
                upload_id=message.upload_id,
                caller_id=None if caller is None else caller.user_id,
                is_editor=is_editor(caller),
            )
        if row is None:
            raise Problem(UPLOADS_NOT_FOUND)
        return msgspec.convert(dict(row), StoredFile)

    @on(FindAvatar)
    async def find_avatar(self, message: FindAvatar) -> StoredFile:
        """Read the row."""
        async with self.database.acquire() as connection:
            row = await QUERIES.find_avatar(connection, user_id=message.user_id)
        if row is None:
            raise Problem(AVATARS_NOT_FOUND)
        return msgspec.convert(dict(row), StoredFile)

    @on(ListAttachments)
    async def list_attachments(self, message: ListAttachments) -> list[Attachment]:
        """Read the rows, of which there are few."""
        async with self.database.acquire() as connection:
            content = await QUERIES.content_of(connection, content_id=message.content_id)
            if content is None or not may_see(message.caller, content["author_id"], Status(content["status"])):
                raise Problem(CONTENT_NOT_FOUND)
            return await _attachments(connection, message.content_id)

    @on(AttachUpload)
    @retried
    async def attach(self, message: AttachUpload) -> list[Attachment]:
        """The lock on the article orders this and its transitions."""
        caller = message.caller
        async with self.database.transaction() as connection:
            await _lock_draft(connection, message.content_id, caller)
            if await QUERIES.own_upload(connection, upload_id=message.upload_id, user_id=caller.user_id) is None:
                raise Problem(UPLOADS_NOT_FOUND)
            await QUERIES.attach(connection, content_id=message.content_id, upload_id=message.upload_id)
            attached = await _attachments(connection, message.content_id)
            if len(attached) > self.bounds.attachments:
                raise Problem(ATTACHMENTS_FULL, f"An article may have {self.bounds.attachments} attachments.")
            await QUERIES.note_editor(connection, content_id=message.content_id, user_id=caller.user_id)
        return attached

    @on(DetachUpload)
    @retried
    async def detach(self, message: DetachUpload) -> None:
        """The lock on the article orders this and its transitions."""
        async with self.database.transaction() as connection:
            await _lock_draft(connection, message.content_id, message.caller)
            if await QUERIES.detach(connection, content_id=message.content_id, upload_id=message.upload_id) is None:
                raise Problem(UPLOADS_NOT_FOUND)
            await QUERIES.note_editor(connection, content_id=message.content_id, user_id=message.caller.user_id)

    @on(SetAvatar)
    @retried
    async def set_avatar(self, message: SetAvatar) -> None:
        """The bytes say whether it is an image."""
        async with self.database.transaction() as connection:
            upload = await QUERIES.own_upload(connection, upload_id=message.upload_id, user_id=message.user_id)
            if upload is None:
                raise Problem(UPLOADS_NOT_FOUND)
            if upload["media_type"] not in IMAGES or upload["size"] > self.bounds.avatar_bytes:
                raise Problem(AVATARS_NOT_IMAGE, allowed=tuple(sorted(IMAGES)))
            await QUERIES.set_avatar(connection, user_id=message.user_id, upload_id=message.upload_id)

    @on(RemoveAvatar)
    async def remove_avatar(self, message: RemoveAvatar) -> None:
        """The upload stays its owner's."""
        async with self.database.acquire() as connection:
            if await QUERIES.remove_avatar(connection, user_id=message.user_id) is None:
                raise Problem(AVATARS_NOT_FOUND)


async def _attachments(connection: Any, content_id: UUID) -> list[Attachment]:
    rows = QUERIES.list_attachments(connection, content_id=content_id)
    return [msgspec.convert(dict(row), Attachment) async for row in rows]


async def _lock_draft(connection: Any, content_id: UUID, caller: Principal) -> None:
    """Lock a draft that the caller may edit. Raises Problem."""
    row = await QUERIES.lock_content(connection, content_id=content_id)
    if row is None or not may_see(caller, row["author_id"], Status(row["status"])):
        raise Problem(CONTENT_NOT_FOUND)
    if caller.user_id != row["author_id"] and not is_editor(caller):
        raise Problem(CONTENT_FORBIDDEN)
    if row["status"] != Status.DRAFT:
        raise Problem(ATTACHMENTS_NOT_DRAFT)
