"""The media type of a file, by its first bytes. No client is believed, and no browser is asked to believe us: files are
downloaded with `nosniff` as attachments.

A file that is of two types at once gets the one of its first bytes. HTML and SVG have no type of their own here.
"""

import codecs
import re

import filetype

HEAD = 8192  # bytes
OCTETS, TEXT = "application/octet-stream", "text/plain"
IMAGES = frozenset({"image/avif", "image/gif", "image/jpeg", "image/png", "image/webp"})  # which browsers show

PATTERN = re.compile(r"\*/\*|[a-z]{1,30}/(?:\*|[a-z0-9][a-z0-9.+-]{0,99})")
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
# Brands of images and sounds that filetype does not know, or takes for videos.
BRANDS = {
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"M4B ": "audio/mp4",
    b"M4P ": "audio/mp4",
}
ATOMS = frozenset({b"moov", b"mdat", b"wide", b"pnot"})  # of QuickTime before it had `ftyp`
TS_PACKET, TS_SYNC = 188, 0x47


def media_type_of(head: bytes, declared: str | None = None) -> str:  # noqa: ARG001 - what a client declares proves nothing
    """Return the media type of a file that begins with `head`, of HEAD bytes unless it is shorter."""
    return _video(head) or filetype.guess_mime(head) or (TEXT if _is_text(head) else OCTETS)


def parse_types(text: str) -> tuple[str, ...]:
    """Return patterns of media types, such as image/png or image/*. Raises ValueError."""
    given = tuple(word.lower() for each in text.split(",") if (word := each.strip()))
    if not given or not all(PATTERN.fullmatch(each) for each in given):
        raise ValueError("must be media types such as image/png, image/* or */*, with commas between")
    return given


def is_among(media_type: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns is of this type."""
    whole = media_type.partition("/")[0] + "/*"
    return any(pattern in (media_type, whole, "*/*") for pattern in patterns)


def _video(head: bytes) -> str | None:
    """Find the videos that filetype takes for something else, or does not know."""
    if head[4:8] == b"ftyp":  # a format of many brands: filetype knows some, and images and sounds have theirs
        known = BRANDS.get(head[8:12]) or filetype.guess_mime(head)
        return known if known is not None and known.partition("/")[0] in ("image", "audio", "video") else "video/mp4"
    if head[4:8] in ATOMS:
        return "video/quicktime"
    if head[:4] == b"OggS" and (b"\x80theora" in head or b"\x01video" in head):
        return "video/ogg"
    if head[:4] == b".RMF":
        return "video/vnd.rn-realvideo"
    if len(head) > 2 * TS_PACKET and all(head[number * TS_PACKET] == TS_SYNC for number in range(3)):
        return "video/mp2t"
    return None


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8 without control characters; its last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return False
    return bool(head) and CONTROL.search(head) is None
