"""Uploads over HTTP: a tus 1.0.0 server. A body is written to the store while it arrives."""

from typing import Annotated

from callboard.actors.editorial.errors import (
    ATTACHMENTS_NOT_DRAFT,
    UPLOADS_CHECKSUM,
    UPLOADS_FINAL,
    UPLOADS_LOCKED,
    UPLOADS_NOT_FOUND,
    UPLOADS_OFFSET,
    UPLOADS_PARTS,
    UPLOADS_QUOTA,
    UPLOADS_SIZE,
    UPLOADS_TOO_LARGE,
    UPLOADS_TYPE,
    UPLOADS_VERSION,
    UPLOADS_VIDEO,
)
from callboard.actors.editorial.refs import UPLOADS, EditorialRefs
from callboard.actors.editorial.upload_records import (
    LAST_ID,
    LATEST,
    CreateUpload,
    GetUpload,
    ListUploads,
    NewUpload,
    Upload,
    UploadKind,
    UploadState,
)
from callboard.actors.errors import REQUEST_CURSOR_INVALID, REQUEST_INVALID, FieldError, Problem
from callboard.actors.infrastructure.errors import QUOTA_RATE, STORE_BUSY, STORE_FULL, STORE_LOST
from callboard.actors.infrastructure.feature_flags import FlagName
from callboard.http.api import tus_headers as tus
from callboard.http.server.pagination import BY_TIME
from callboard.http.server.request import HttpRequest, Page, PageReply, Reply
from callboard.http.server.routing import Access, RequestHeader, Route, Routes
from callboard.http.server.streamed_body import StreamedBody

Written = HttpRequest[StreamedBody, None, EditorialRefs]


class Filter(Page, frozen=True, kw_only=True):
    """The query of the list."""

    cursor: Annotated[str, BY_TIME.meta] | None = None


def capabilities(refs: EditorialRefs) -> dict[str, str]:
    """Return the headers of a response to OPTIONS."""
    return {
        tus.RESUMABLE: tus.VERSION,
        "Tus-Version": tus.VERSION,
        "Tus-Extension": ",".join(tus.EXTENSIONS),
        "Tus-Max-Size": str(refs.uploads.bounds.max_bytes),
        "Tus-Checksum-Algorithm": ",".join(tus.CHECKSUMS),
    }


async def create(request: Written) -> Reply[UploadState]:
    """Create an upload, perhaps with its first bytes; or a final upload, of complete partial ones."""
    tus.check_version(request.headers)
    new, refs, body = tus.new_upload(request.headers), request.refs, request.body
    owner_id = request.identity.user_id
    _check_video(request, new)
    if new.kind is UploadKind.FINAL:
        upload = await refs.uploads.writer.concatenate(request.new_id, owner_id, new, body)
    else:
        tus.check_type(request.headers, body=body, is_needed=False)
        checksum = tus.checksum_of(request.headers)
        upload = await refs.uploads.records.ask(CreateUpload(request.new_id, owner_id, new))
        if (body.declared != 0 or new.size == 0) and upload.received == 0:
            upload = await refs.uploads.writer.write(upload.upload_id, owner_id, 0, body, checksum=checksum)
    headers = {tus.OFFSET: str(upload.received)} | tus.expiry(upload)
    location = f"{refs.site}/api/v1/uploads/{upload.upload_id}"  # absolute: aiotus takes no other
    return Reply(upload.shown, location=location, headers=headers)


async def append(request: Written) -> Reply[None]:
    """Append the body to an upload, at its offset."""
    tus.check_version(request.headers)
    tus.check_type(request.headers, body=request.body, is_needed=True)
    upload = await request.refs.uploads.writer.write(
        request.uuid("upload_id"),
        request.identity.user_id,
        tus.offset_of(request.headers),
        request.body,
        size=tus.number(request.headers, tus.LENGTH),
        checksum=tus.checksum_of(request.headers),
    )
    return Reply(None, headers={tus.OFFSET: str(upload.received)} | tus.expiry(upload))


async def state(request: HttpRequest[None, None, EditorialRefs]) -> Reply[None]:
    """Return the offset of an upload, in the headers."""
    tus.check_version(request.headers)
    return Reply(None, headers=tus.answer_headers(await _read(request)))


async def read(request: HttpRequest[None, None, EditorialRefs]) -> Reply[UploadState]:
    """Read the state of an upload."""
    return Reply((await _read(request)).shown)


async def remove(request: HttpRequest[None, None, EditorialRefs]) -> Reply[None]:
    """Remove an upload, complete or not, and its bytes."""
    tus.check_version(request.headers)
    await request.refs.uploads.writer.remove(request.uuid("upload_id"), request.identity.user_id)
    return Reply(None)


async def override(request: Written) -> Reply[None]:
    """Append or remove, for clients that can only POST: X-HTTP-Method-Override names the method."""
    method = (request.header(tus.OVERRIDE) or "").upper()
    if method == "PATCH":
        return await append(request)
    if method == "DELETE":
        tus.check_version(request.headers)
        await request.refs.uploads.writer.remove(request.uuid("upload_id"), request.identity.user_id)
        return Reply(None)
    raise Problem(REQUEST_INVALID, details=(FieldError(tus.OVERRIDE, "Must be PATCH or DELETE."),))


async def list_uploads(request: HttpRequest[None, Filter, EditorialRefs]) -> PageReply[UploadState]:
    """List one's own uploads, newest first."""
    query = request.query
    before, before_id = BY_TIME.decode(query.cursor) if query.cursor else (LATEST, LAST_ID)
    message = ListUploads(request.identity.user_id, query.limit + 1, before, before_id)
    found = await request.refs.uploads.records.ask(message)
    return BY_TIME.page([each.shown for each in found], query.limit, lambda last: (last.created_at, last.upload_id))


async def _read(request: HttpRequest[None, None, EditorialRefs]) -> Upload:
    return await request.refs.uploads.records.ask(GetUpload(request.uuid("upload_id"), request.identity.user_id))


def _check_video(request: Written, new: NewUpload) -> None:
    """Refuse a declared video early; the bytes decide at the end. Raises Problem(UPLOADS_VIDEO)."""
    is_video = (new.declared_type or "").startswith("video/")
    if is_video and not request.refs.uploads.flags.is_enabled(FlagName.VIDEO_UPLOAD, request.identity.user_id):
        raise Problem(UPLOADS_VIDEO)


TUS = {tus.RESUMABLE: tus.VERSION, "Tus-Version": tus.VERSION}
DIGITS = "^[0-9]{1,18}$"
NEEDS = {tus.RESUMABLE: RequestHeader("The version of tus.", r"^1\.0\.0$", is_required=True)}
DIGEST = {tus.CHECKSUM: RequestHeader(f"The digest of the body: {', '.join(tus.CHECKSUMS)}, a space, and base64.")}
OF_CREATION: dict[str, str | RequestHeader] = {
    **NEEDS,
    **DIGEST,
    tus.LENGTH: RequestHeader("The size of the upload in bytes.", DIGITS),
    tus.DEFER: RequestHeader("In place of a length: the size comes later.", "^1$"),
    tus.METADATA: "Pairs of a key and a value in base64, separated by commas: `filename` and `filetype` are known.",
    tus.CONCAT: "`partial`, or `final;` and the URLs of partial uploads.",
}
OF_BYTES: dict[str, str | RequestHeader] = {
    **NEEDS,
    **DIGEST,
    tus.OFFSET: RequestHeader("The offset of the first byte: what HEAD gives.", DIGITS, is_required=True),
    tus.LENGTH: RequestHeader("The size of the upload, if its creation left it open.", DIGITS),
}
OFFSET = {tus.OFFSET: "The number of bytes that are stored.", tus.EXPIRES: "When the incomplete upload is removed."}
STATE = OFFSET | {
    tus.LENGTH: "The size of the upload.",
    tus.DEFER: "1, as long as the size is open.",
    tus.METADATA: "The metadata, as sent.",
    tus.CONCAT: "Of a partial or a final upload.",
}
OF_WRITING = (
    *(UPLOADS_CHECKSUM, UPLOADS_LOCKED, UPLOADS_SIZE, UPLOADS_TOO_LARGE, UPLOADS_TYPE, UPLOADS_VERSION, UPLOADS_VIDEO),
    *(STORE_BUSY, STORE_FULL, STORE_LOST),
)
ROUTES = Routes(
    EditorialRefs,
    Route(
        *("POST", "/uploads", create, "Create an upload", "uploads", Access.USER),
        status=201,
        limit=UPLOADS,
        errors=(*OF_WRITING, UPLOADS_PARTS, UPLOADS_QUOTA, UPLOADS_OFFSET, UPLOADS_NOT_FOUND, QUOTA_RATE),
        consumes={tus.OCTETS: bytes},
        headers=OF_CREATION,
        gives=OFFSET,
        constant_headers=TUS,
        capabilities=capabilities,
    ),
    Route(
        *("GET", "/uploads", list_uploads, "List uploads", "uploads", Access.USER),
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route(
        *("HEAD", "/uploads/{upload_id}", state, "Read the offset of an upload", "uploads", Access.USER),
        errors=(UPLOADS_NOT_FOUND, UPLOADS_VERSION),
        headers=dict(NEEDS),
        gives=STATE,
        constant_headers=TUS,
    ),
    Route(
        *("GET", "/uploads/{upload_id}", read, "Read the state of an upload", "uploads", Access.USER),
        errors=(UPLOADS_NOT_FOUND,),
        constant_headers=TUS,
    ),
    Route(
        *("PATCH", "/uploads/{upload_id}", append, "Append to an upload", "uploads", Access.USER),
        status=204,
        errors=(UPLOADS_NOT_FOUND, *OF_WRITING, UPLOADS_FINAL, UPLOADS_OFFSET),
        consumes={tus.OCTETS: bytes},
        headers=OF_BYTES,
        gives=OFFSET,
        constant_headers=TUS,
        capabilities=capabilities,
    ),
    Route(
        *("DELETE", "/uploads/{upload_id}", remove, "Remove an upload", "uploads", Access.USER),
        status=204,
        errors=(UPLOADS_NOT_FOUND, UPLOADS_LOCKED, UPLOADS_VERSION, ATTACHMENTS_NOT_DRAFT),
        headers=dict(NEEDS),
        constant_headers=TUS,
    ),
    Route(
        *("POST", "/uploads/{upload_id}", override, "Append or remove, by another method", "uploads", Access.USER),
        status=204,
        errors=(UPLOADS_NOT_FOUND, *OF_WRITING, UPLOADS_FINAL, UPLOADS_OFFSET, ATTACHMENTS_NOT_DRAFT),
        consumes={tus.OCTETS: bytes},
        headers=OF_BYTES
        | {tus.OVERRIDE: RequestHeader("The method that is meant.", "^(PATCH|DELETE)$", is_required=True)},
        gives=OFFSET,
        constant_headers=TUS,
    ),
)
