"""One answer on the wire: headers that many answers share are encoded once, and head and body go in one write."""

from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time

from callboard.http.server.aiohttp_private import HttpVersion11, RawRequestMessage

STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
NO_CONTENT, NOT_MODIFIED = 204, 304
BODILESS = frozenset({NO_CONTENT, NOT_MODIFIED})  # their length would be that of another answer


class Stream:
    """A body that is read while it is sent: so many bytes, in pieces of any size.

    An answer that has begun has no other end: if the pieces fail, or are fewer or more, the connection is cut.
    """

    __slots__ = ("pieces", "size")

    def __init__(self, size: int, pieces: AsyncIterator[bytes]) -> None:
        self.size = size
        self.pieces = pieces

    def __len__(self) -> int:
        """Its bytes."""
        return self.size


class SharedHeaders:
    """Headers that many answers have in common."""

    __slots__ = ("encoded", "headers")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = dict(headers)
        self.encoded = encoded(headers)


class Response:
    """An answer with its body; after one that is `closing` the connection is closed.

    A body that `is_shared` is held elsewhere too, and costs no memory while it waits for its client.
    `own` headers stand in the place of shared ones of the same name, and `lines`, which are encoded, beside both.
    Raises ValueError for a header that would be two.
    """

    __slots__ = ("_head", "_own", "_shared", "body", "closing", "is_shared", "status")

    def __init__(
        self,
        shared: SharedHeaders,
        *,
        status: int,
        body: bytes | Stream | None,
        own: Mapping[str, str],
        lines: bytes = b"",
    ) -> None:
        self.status = status
        self.body = body
        self.closing = False
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
        """Those that are not about the message itself: neither its length nor its date, nor `lines`."""
        return {**self._shared.headers, **self._own}

    def head(self, request: RawRequestMessage, *, kept: bool) -> bytes:
        """Its head as the answer to `request`, after which the connection is `kept` or not."""
        length = b"" if self.status in BODILESS else b"Content-Length: %d\r\n" % len(self.body or b"")
        if not kept:
            length += b"Connection: close\r\n"
        elif request.version is not HttpVersion11:
            length += b"Connection: keep-alive\r\n"
        return b"%b%b%b%b\r\n" % (STATUS_LINES[self.status], self._head, length, _date(int(time())))

    def content(self, request: RawRequestMessage) -> bytes:
        """Return the bytes after the head."""
        return b"" if request.method == "HEAD" or not isinstance(self.body, bytes) else self.body

    def encode(self, request: RawRequestMessage, *, kept: bool) -> bytes:
        """All of it in one piece."""
        head = self.head(request, kept=kept)
        return head + self.content(request)


@lru_cache(1)
def _date(now: int) -> bytes:
    return f"Date: {formatdate(now, usegmt=True)}\r\n".encode()


def encoded(headers: Mapping[str, str]) -> bytes:
    """The lines of a head. Raises ValueError for a header that would be two."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError(f"a header of {', '.join(headers)} has a line break or a NUL in it")
    return lines.encode()
