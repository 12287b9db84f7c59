"""Files over HTTP: downloads of uploads, attachments of content, and avatars.

A download is always an attachment of a type that we have seen in its bytes, and no browser may guess another one.
"""

from typing import Any
from uuid import UUID

from callboard.actors.editorial.attachments import (
    Attachment,
    AttachUpload,
    DetachUpload,
    FindAvatar,
    FindFile,
    ListAttachments,
    RemoveAvatar,
    SetAvatar,
    StoredFile,
)
from callboard.actors.editorial.errors import (
    ATTACHMENTS_FULL,
    ATTACHMENTS_NOT_DRAFT,
    AVATARS_NOT_FOUND,
    AVATARS_NOT_IMAGE,
    CONTENT_FORBIDDEN,
    CONTENT_NOT_FOUND,
    UPLOADS_NOT_FOUND,
)
from callboard.actors.editorial.refs import EditorialRefs
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.errors import STORE_LOST
from callboard.http.server.byte_ranges import RangedBody
from callboard.http.server.content_disposition import attachment
from callboard.http.server.request import Body, HttpRequest, RawReply, Reply
from callboard.http.server.routing import Access, RequestHeader, Route, Routes


class AvatarBody(Body, frozen=True, kw_only=True):
    """A complete upload of yours: a GIF, JPEG, PNG, WebP or AVIF image."""

    upload_id: UUID


async def download(request: HttpRequest[None, None, EditorialRefs]) -> RawReply:
    """Download a file: your own, or of content that you may see."""
    found = await request.refs.attachments.ask(FindFile(request.uuid("upload_id"), request.caller))
    return await _reply(request.refs, found)


async def avatar(request: HttpRequest[None, None, EditorialRefs]) -> RawReply:
    """Download a user's avatar."""
    return await _reply(request.refs, await request.refs.attachments.ask(FindAvatar(request.uuid("user_id"))))


async def _reply(refs: EditorialRefs, file: StoredFile) -> RawReply:
    """Reply with the bytes, unless they are lost: that can be said only before the first of them is sent."""
    store = refs.uploads.writer.store
    if await store.size(file.object_id) != file.size:
        raise Problem(STORE_LOST)
    return RawReply(
        RangedBody(file.size, lambda start, stop: store.read(file.object_id, start, stop)),
        file.media_type,
        headers={"Content-Disposition": attachment(file.filename)},
        etag=file.object_id.hex,
        modified=file.completed_at,
        is_public=True,
    )


async def list_attachments(request: HttpRequest[None, None, EditorialRefs]) -> Reply[list[Attachment]]:
    """List the attachments of content that you may see."""
    asked = ListAttachments(request.uuid("content_id"), request.caller)
    return Reply(await request.refs.attachments.ask(asked))


async def attach(request: HttpRequest[None, None, EditorialRefs]) -> Reply[list[Attachment]]:
    """Attach an upload of yours to a draft; the reply lists all attachments."""
    asked = AttachUpload(request.uuid("content_id"), request.uuid("upload_id"), request.identity)
    return Reply(await request.refs.attachments.ask(asked))


async def detach(request: HttpRequest[None, None, EditorialRefs]) -> Reply[None]:
    """Take an attachment from a draft; the upload stays."""
    asked = DetachUpload(request.uuid("content_id"), request.uuid("upload_id"), request.identity)
    await request.refs.attachments.ask(asked)
    return Reply(None)


async def set_avatar(request: HttpRequest[AvatarBody, None, EditorialRefs]) -> Reply[None]:
    """Make an upload of yours your avatar."""
    await request.refs.attachments.ask(SetAvatar(request.identity.user_id, request.body.upload_id))
    return Reply(None)


async def remove_avatar(request: HttpRequest[None, None, EditorialRefs]) -> Reply[None]:
    """Remove your avatar; the upload stays."""
    await request.refs.attachments.ask(RemoveAvatar(request.identity.user_id))
    return Reply(None)


RANGES = {
    "Range": RequestHeader("One range of bytes, such as `bytes=0-1023`; several are answered with the whole file."),
    "If-Range": RequestHeader("The ETag or the Last-Modified of the parts that you have: else you get the whole file."),
}
FILE: dict[str, Any] = {
    "has_etag": True,
    "has_date": True,
    "serves_ranges": True,
    "headers": RANGES,
    "gives": {"Content-Disposition": "`attachment`, with the name of the file."},
}
OF_CHANGES = (CONTENT_NOT_FOUND, UPLOADS_NOT_FOUND, CONTENT_FORBIDDEN, ATTACHMENTS_NOT_DRAFT)
FILES = "/content/{content_id}/attachments"

ROUTES = Routes(
    EditorialRefs,
    Route(
        *("GET", "/uploads/{upload_id}/file", download, "Download a file", "uploads", Access.OPTIONAL),
        errors=(UPLOADS_NOT_FOUND, STORE_LOST),
        **FILE,
    ),
    Route(
        *("GET", "/users/{user_id}/avatar", avatar, "Download an avatar", "accounts", Access.PUBLIC),
        errors=(AVATARS_NOT_FOUND, STORE_LOST),
        **FILE,
    ),
    Route(
        *("PUT", "/users/me/avatar", set_avatar, "Set your avatar", "accounts", Access.USER),
        status=204,
        errors=(UPLOADS_NOT_FOUND, AVATARS_NOT_IMAGE),
    ),
    Route(
        *("DELETE", "/users/me/avatar", remove_avatar, "Remove your avatar", "accounts", Access.USER),
        status=204,
        errors=(AVATARS_NOT_FOUND,),
    ),
    Route(
        *("GET", FILES, list_attachments, "List the attachments of content", "content", Access.OPTIONAL),
        errors=(CONTENT_NOT_FOUND,),
    ),
    Route(
        *("PUT", f"{FILES}/{{upload_id}}", attach, "Attach a file", "content", Access.USER),
        errors=(*OF_CHANGES, ATTACHMENTS_FULL),
    ),
    Route(
        *("DELETE", f"{FILES}/{{upload_id}}", detach, "Detach a file", "content", Access.USER),
        status=204,
        errors=OF_CHANGES,
    ),
)
