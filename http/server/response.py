"""One response on the wire: headers that many responses share are encoded once, and head and body go in one write."""

from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time

from callboard.http.server.aiohttp_private import HttpVersion11, RawRequestMessage

CHECKSUM_MISMATCH = 460  # of tus 1.0.0
PHRASES = {each.value: each.phrase for each in HTTPStatus} | {CHECKSUM_MISMATCH: "Checksum Mismatch"}
STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in PHRASES.items()}
CHUNKED = b"Transfer-Encoding: chunked\r\n"
NO_CONTENT, NOT_MODIFIED = 204, 304
BODILESS = frozenset({NO_CONTENT, NOT_MODIFIED})  # their length would be that of another response


class Stream:
    """A body that is read while it is sent: `size` bytes, in pieces of any length.

    If the pieces fail, or their sum differs from `size`, the connection is aborted: a response that has begun has no
    other way to fail.
    """

    __slots__ = ("pieces", "size")

    def __init__(self, size: int, pieces: AsyncIterator[bytes]) -> None:
        self.size = size
        self.pieces = pieces

    def __len__(self) -> int:
        """Return the pieces."""
        return self.size


class LiveBody:
    """The base of a body without an end of its own, sent piece by piece; the connection closes after it.

    `next` returns a piece, or None at the end: it waits until there is one. The connection asks for the next piece when
    its client has read enough of the last.
    """

    __slots__ = ()

    async def next(self) -> bytes | None:
        """Return the next piece, or None at the end."""
        raise NotImplementedError

    def end(self) -> None:
        """Have `next` return None: the client has gone, or the server stops."""
        raise NotImplementedError

    def close(self) -> None:
        """Free what the body holds: it is called once, after the last piece, also if none was ever asked for."""
        raise NotImplementedError


class SharedHeaders:
    """Headers that many responses have in common."""

    __slots__ = ("encoded", "headers")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = dict(headers)
        self.encoded = encoded(headers)


class Response:
    """A response with its body; after one that is `closing` the connection is closed.

    A body that `is_shared` is held elsewhere too, and costs no memory while it waits for its client. `own` headers
    replace shared ones of the same name; `lines` are encoded headers that are added to both. Raises ValueError for a
    header that would be two.
    """

    __slots__ = ("_head", "_own", "_shared", "body", "closing", "is_shared", "status")

    def __init__(
        self,
        shared: SharedHeaders,
        *,
        status: int,
        body: bytes | Stream | LiveBody | None,
        own: Mapping[str, str],
        lines: bytes = b"",
    ) -> None:
        self.status = status
        self.body = body
        self.closing = isinstance(body, LiveBody)
        self.is_shared = False
        self._shared = shared
        self._own = own
        if not own:
            self._head = shared.encoded + lines
        elif own.keys().isdisjoint(shared.headers):
            self._head = shared.encoded + lines + encoded(own)
        else:
            self._head = encoded(self.headers) + lines

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that are not about the message itself: no length, no date, no `lines`."""
        return {**self._shared.headers, **self._own}

    def head(self, request: RawRequestMessage, *, kept: bool) -> bytes:
        """Encode the head of the response to `request`; `kept` says whether the connection stays open."""
        if isinstance(self.body, LiveBody):
            length = CHUNKED if request.version is HttpVersion11 else b""
        else:
            length = b"" if self.status in BODILESS else b"Content-Length: %d\r\n" % len(self.body or b"")
        if not kept:
            length += b"Connection: close\r\n"
        elif request.version is not HttpVersion11:
            length += b"Connection: keep-alive\r\n"
        return b"%b%b%b%b\r\n" % (STATUS_LINES[self.status], self._head, length, _date(int(time())))

    def discard(self) -> None:
        """Free the body of a response that is not sent."""
        if isinstance(self.body, LiveBody):
            self.body.close()

    def content(self, request: RawRequestMessage) -> bytes:
        """Return the bytes after the head."""
        return b"" if request.method == "HEAD" or not isinstance(self.body, bytes) else self.body

    def encode(self, request: RawRequestMessage, *, kept: bool) -> bytes:
        """Encode head and body in one piece."""
        body = self.body
        if kept and type(body) is bytes and request.version is HttpVersion11 and request.method != "HEAD":  # nearly all
            top = STATUS_LINES[self.status], self._head
            return b"%b%bContent-Length: %d\r\n%b\r\n%b" % (*top, len(body), _date(int(time())), body)
        head = self.head(request, kept=kept)
        return head + self.content(request)


@lru_cache(1)
def _date(now: int) -> bytes:
    return f"Date: {formatdate(now, usegmt=True)}\r\n".encode()


def encoded(headers: Mapping[str, str]) -> bytes:
    """Encode the lines of a head. Raises ValueError for a header that would be two."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError(f"a header of {', '.join(headers)} has a line break or a NUL in it")
    return lines.encode()
