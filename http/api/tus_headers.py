"""The headers of tus 1.0.0, decoded strictly: a malformed one is refused by its name, with 400."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import new as new_hash
from urllib.parse import urlsplit
from uuid import UUID

from multidict import CIMultiDictProxy

from callboard.actors.editorial.errors import UPLOADS_VERSION
from callboard.actors.editorial.upload_records import NewUpload, Upload, UploadKind
from callboard.actors.editorial.upload_writer import Checksum
from callboard.actors.errors import REQUEST_INVALID, REQUEST_UNSUPPORTED, FieldError, Problem
from callboard.http.server.headers import single
from callboard.http.server.streamed_body import StreamedBody
from callboard.streams.visible_text import visible_rule

VERSION = "1.0.0"
EXTENSIONS = (
    *("creation", "creation-with-upload", "creation-defer-length", "expiration"),
    *("checksum", "termination", "concatenation"),
)
OCTETS = "application/offset+octet-stream"
CHECKSUMS = ("sha1", "sha256", "md5")

CONCAT, CHECKSUM, DEFER, LENGTH = "Upload-Concat", "Upload-Checksum", "Upload-Defer-Length", "Upload-Length"
METADATA, OFFSET, EXPIRES, RESUMABLE = "Upload-Metadata", "Upload-Offset", "Upload-Expires", "Tus-Resumable"
OVERRIDE = "X-HTTP-Method-Override"

MAX_METADATA = 4096  # bytes of the header
MAX_KEYS = 32
MAX_PARTS = 200
NUMBER = re.compile(r"[0-9]{1,18}")
PAIR = re.compile(r"([!-+\--~]{1,100})(?: ([A-Za-z0-9+/]*={0,2}))?")  # a key of visible ASCII without a comma
UPLOAD_PATH = re.compile(r"(?:/.*)?/api/v1/uploads/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")
MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,63}/[!#$%&'*+.^_`|~0-9A-Za-z-]{1,63}")
NAME_KEYS, TYPE_KEYS = ("filename", "name"), ("filetype", "type", "mime_type")

_file_name = visible_rule(1, 255)


def _refused(header: str, message: str) -> Problem:
    return Problem(REQUEST_INVALID, details=(FieldError(header, message),))


def check_version(headers: CIMultiDictProxy[str]) -> None:
    """Check Tus-Resumable. Raises Problem(UPLOADS_VERSION)."""
    if headers.getall(RESUMABLE, ()) != [VERSION]:
        raise Problem(UPLOADS_VERSION)


def number(headers: CIMultiDictProxy[str], name: str) -> int | None:
    """Return a header that is a number of bytes, or None. Raises Problem(REQUEST_INVALID)."""
    sent = single(headers, name)
    if sent is None:
        return None
    if not NUMBER.fullmatch(sent):
        raise _refused(name, "Must be a number of bytes: digits, 18 at most.")
    return int(sent)


def offset_of(headers: CIMultiDictProxy[str]) -> int:
    """Return the Upload-Offset of a PATCH. Raises Problem(REQUEST_INVALID)."""
    offset = number(headers, OFFSET)
    if offset is None:
        raise _refused(OFFSET, "Is missing.")
    return offset


def checksum_of(headers: CIMultiDictProxy[str]) -> Checksum | None:
    """Return the Upload-Checksum. Raises Problem(REQUEST_INVALID)."""
    sent = single(headers, CHECKSUM)
    if sent is None:
        return None
    algorithm, _, text = sent.partition(" ")
    if algorithm not in CHECKSUMS:
        raise _refused(CHECKSUM, f"The algorithm must be one of {', '.join(CHECKSUMS)}.")
    digest = _decoded(text)
    if digest is None or len(digest) != new_hash(algorithm, usedforsecurity=False).digest_size:
        raise _refused(CHECKSUM, "Must end in the base64 of the digest.")
    return Checksum(algorithm, digest)


def check_type(headers: CIMultiDictProxy[str], *, body: StreamedBody, is_needed: bool) -> None:
    """Check that a body is offset+octet-stream; one that is not needed may be empty. Raises
    Problem(REQUEST_UNSUPPORTED).
    """
    kind = (single(headers, "Content-Type") or "").partition(";")[0].strip().lower()
    if kind != OCTETS and (is_needed or body.declared != 0):
        raise Problem(REQUEST_UNSUPPORTED, f"Send the bytes as {OCTETS}.", allowed=(OCTETS,))


def new_upload(headers: CIMultiDictProxy[str]) -> NewUpload:
    """Return the fields of a creation. Raises Problem(REQUEST_INVALID)."""
    kind, parts = _concat(single(headers, CONCAT))
    size, deferred = number(headers, LENGTH), single(headers, DEFER)
    if deferred not in (None, "1"):
        raise _refused(DEFER, "Must be 1.")
    if kind is UploadKind.FINAL:
        if size is not None or deferred is not None:
            raise _refused(LENGTH if size is not None else DEFER, "A final upload has the length of its parts.")
    elif (size is None) is (deferred is None):
        raise _refused(LENGTH, f"Send either {LENGTH} or {DEFER}.")
    metadata = single(headers, METADATA) or ""
    values = metadata_of(metadata)
    return NewUpload(
        kind=kind,
        size=size,
        metadata=metadata,
        filename=_filename(values),
        declared_type=_declared_type(values),
        parts=parts,
    )


def metadata_of(sent: str) -> dict[str, bytes]:
    """Return the pairs of an Upload-Metadata; a value may be empty. Raises Problem(REQUEST_INVALID)."""
    if len(sent.encode("utf-8", "surrogateescape")) > MAX_METADATA:
        raise _refused(METADATA, f"Must have {MAX_METADATA} bytes at most.")
    values: dict[str, bytes] = {}
    for pair in sent.split(",") if sent.strip() else ():
        match = PAIR.fullmatch(pair.strip(" "))
        value = None if match is None else _decoded(match[2] or "")
        if match is None or value is None:
            raise _refused(METADATA, "Must be pairs of a key and a value in base64, separated by commas.")
        if match[1] in values or len(values) == MAX_KEYS:
            raise _refused(METADATA, f"Must have different keys, {MAX_KEYS} at most.")
        values[match[1]] = value
    return values


def answer_headers(upload: Upload) -> dict[str, str]:
    """Return the headers of a response about an upload, in answer to HEAD."""
    headers = {OFFSET: str(upload.received)}
    if upload.size is None:
        headers[DEFER] = "1"
    else:
        headers[LENGTH] = str(upload.size)
    if upload.metadata:
        headers[METADATA] = upload.metadata
    if upload.kind is UploadKind.PARTIAL:
        headers[CONCAT] = "partial"
    elif upload.kind is UploadKind.FINAL:
        headers[CONCAT] = "final;" + " ".join(f"/api/v1/uploads/{part}" for part in upload.parts)
    return headers | expiry(upload)


def expiry(upload: Upload) -> dict[str, str]:
    """Return the Upload-Expires of an upload that expires."""
    at: datetime | None = upload.expires_at
    return {} if at is None else {EXPIRES: format_datetime(at.astimezone(UTC), usegmt=True)}


def _concat(sent: str | None) -> tuple[UploadKind, tuple[UUID, ...]]:
    if sent is None:
        return UploadKind.WHOLE, ()
    if sent == "partial":
        return UploadKind.PARTIAL, ()
    kind, _, urls = sent.partition(";")
    found = [UPLOAD_PATH.fullmatch(_path(url)) for url in urls.split()]
    if kind.strip() != "final" or not 0 < len(found) <= MAX_PARTS or not all(found):
        raise _refused(CONCAT, f"Must be partial, or final; and the URLs of {MAX_PARTS} uploads at most.")
    return UploadKind.FINAL, tuple(UUID(match[1]) for match in found if match)


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _decoded(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return None


def _filename(values: dict[str, bytes]) -> str | None:
    """Return the client's name of the file. Raises Problem(REQUEST_INVALID) for one that could not be shown."""
    sent = next((values[key] for key in NAME_KEYS if values.get(key)), b"")
    if not sent:
        return None
    try:
        return _file_name(sent.decode())
    except UnicodeDecodeError:
        raise _refused(METADATA, "The name of the file must be UTF-8.") from None
    except ValueError as error:
        raise _refused(METADATA, f"The name of the file {error}.") from None


def _declared_type(values: dict[str, bytes]) -> str | None:
    """Return the type that the client gives to the file; a malformed one is none, since nobody trusts it."""
    sent = next((values[key] for key in TYPE_KEYS if values.get(key)), b"").decode("ascii", "replace")
    return sent.lower() if MEDIA_TYPE.fullmatch(sent) else None
