"""One answer on the wire: headers that many answers share are encoded once, and head and body go in one write.

aiohttp's own response puts every head together anew; for a small answer that costs more than all the rest of ours. What
is streamed is still aiohttp's.
"""

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11

STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
NO_CONTENT = 204
NO_HEADERS: Mapping[str, str] = {}


class SharedHeaders:
    """Headers that many answers have in common."""

    __slots__ = ("encoded", "headers")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = dict(headers)
        self.encoded = encoded(headers)


class Response:
    """An answer with its body. `own` headers stand in the place of shared ones of the same name.

    It has what aiohttp's server asks of a response: `prepare`, `write_eof` and `keep_alive`.
    """

    __slots__ = ("_closing", "_own", "_shared", "_writer", "body", "keep_alive", "status")

    def __init__(
        self, shared: SharedHeaders, *, status: int, body: bytes | None, own: Mapping[str, str] = NO_HEADERS
    ) -> None:
        self.status = status
        self.body = body
        self.keep_alive = False
        self._shared = shared
        self._own = own
        self._closing = False

    @property
    def headers(self) -> dict[str, str]:
        """Those that are not about the message itself: neither its length nor its date."""
        return {**self._shared.headers, **self._own}

    def force_close(self) -> None:
        """Let this be the connection's last answer."""
        self._closing = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write it. Raises ConnectionError when the client has gone."""
        self.keep_alive = request.keep_alive and not self._closing
        head = [STATUS_LINES[self.status]]
        shared, own = self._shared, self._own
        if own.keys().isdisjoint(shared.headers):
            head += (shared.encoded, encoded(own))
        else:
            head.append(encoded(self.headers))
        body = self.body or b""
        if self.status != NO_CONTENT:
            head.append(b"Content-Length: %d\r\n" % len(body))
        if not self.keep_alive:
            head.append(b"Connection: close\r\n")
        elif request.version < HttpVersion11:
            head.append(b"Connection: keep-alive\r\n")
        head.append(b"Date: %s\r\n\r\n" % rfc822_formatted_time().encode())
        if request.method != "HEAD":
            head.append(body)
        self._writer = request.writer
        await self._writer.write(b"".join(head))

    async def write_eof(self) -> None:
        """Wait while the client does not read."""
        await self._writer.drain()


def encoded(headers: Mapping[str, str]) -> bytes:
    """The lines of a head. Raises ValueError for a header that would be two."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError(f"a header of {', '.join(headers)} has a line break or a NUL in it")
    return lines.encode()
