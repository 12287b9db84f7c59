"""Framing: the end of a request's head and body (RFC 9112), and the heads that are refused before they are served.

The parser gets one head at a time, and then exactly the bytes of that request's body. So no belief of the parser about
a connection (an upgrade, a close, an error) can change the meaning of the next bytes. The heads that it accepts are
checked here.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address

from aiohttp.hdrs import CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING

from callboard.actors.errors import (
    REQUEST_CODING_UNKNOWN,
    REQUEST_EXPECTATION,
    REQUEST_HEADERS_TOO_LARGE,
    REQUEST_METHOD_UNKNOWN,
    REQUEST_NOT_HTTP,
    REQUEST_TARGET_TOO_LONG,
    REQUEST_VERSION,
    ErrorCode,
)
from callboard.http.server.aiohttp_private import (
    EMPTY_PAYLOAD,
    BadHttpMethod,
    HttpVersion11,
    RawRequestMessage,
    StreamReader,
)

MAX_LINE = 8_190  # bytes of a target, and of a header with its name
MAX_REQUEST_LINE = 8_256  # a target with a method and a version
MAX_HEAD = 32_768  # bytes of a whole head
MAX_HEADERS = 100
MAX_HOST = 260  # a domain name's 253 characters, and a port
MAX_PORT = 65_535
MAX_CHUNK_LINE = 1_024  # a chunk's size with its extensions
MAX_TRAILERS = 8_190  # bytes of the trailer section
FREE_OVERHEAD = 16_384  # bytes of chunk framing that are always allowed
DATA_RATIO = 4  # beyond that, bytes of data for each byte of framing: the cost of tiny chunks is not in their data

HEAD_END = b"\r\n\r\n"

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's word, no secret
VERSIONS = (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n")
BLANK_LINES = re.compile(rb"(?:\r\n)*")
REQUEST_LINE = re.compile(rf"({TOKEN}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])".encode())
LINE_BEGUN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}(?: |\Z)|\r?\Z")
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
NUL = b"\0"
CODINGS = re.compile(rf"{TOKEN}(?:[ \t]*,[ \t]*{TOKEN})*")
RAW_CODING = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
RAW_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:", re.IGNORECASE)
ABSOLUTE = re.compile(r"https?://([^/?]+)(?:[/?].*)?", re.IGNORECASE)
HOST_FORM = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|(?:[0-9A-Za-z._~-]|%[0-9A-Fa-f]{2})+)(?::([0-9]*))?")
QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'
CHUNK_LINE = re.compile(rf"([0-9A-Fa-f]{{1,15}})(?:;{TOKEN}(?:=(?:{TOKEN}|{QUOTED}))?)*\r\n".encode())
TRAILER = re.compile(rf"{TOKEN}:[\t \x21-\x7e\x80-\xff]*\r\n".encode())


class FramingError(Exception):
    """The framing of a body differs from its head; the connection cannot be used any more."""


@lru_cache(1024)
def is_host(text: str) -> bool:
    """Whether a Host header has one host and perhaps a port (RFC 9110, 7.2). An empty host is invalid."""
    match = HOST_FORM.fullmatch(text)
    if match is None or len(text) > MAX_HOST:
        return False
    literal, port = match.groups()
    if port and (len(port) > len(str(MAX_PORT)) or int(port) > MAX_PORT):
        return False
    if literal is not None:
        try:
            IPv6Address(literal)
        except ValueError:
            return False
    return True


def fault_of_head(head: bytes, message: RawRequestMessage, payload: StreamReader) -> ErrorCode | None:
    """Return the error code of a parsed head, or None if the head is valid."""
    headers, target = message.headers, message.path
    end = len(message.method) + len(target) + 1  # of a request line with single spaces
    if head[end : end + 11] not in VERSIONS or message.method == "CONNECT":
        return fault_of_refused(head)
    host = headers.get(HOST)
    if host is not None and (len(host) > MAX_HOST or not is_host(host)):
        return REQUEST_NOT_HTTP
    if target[0] != "/" or not target.isascii() or "#" in target or "\\" in target:
        fault = _fault_of_target(message)
        if fault is not None:
            return fault
    if TRANSFER_ENCODING in headers:
        fault = _fault_of_coding(message)
        if fault is not None:
            return fault
    if payload is not EMPTY_PAYLOAD and EXPECT in headers:
        return _fault_of_expectation(message)
    return None


def _fault_of_expectation(message: RawRequestMessage) -> ErrorCode | None:
    """Check a request with a body: it may expect 100-continue, and nothing else (RFC 9110, 10.1.1)."""
    if message.version is HttpVersion11:
        expected = [each.strip().lower() for line in message.headers.getall(EXPECT) for each in line.split(",")]
        if any(each != "100-continue" for each in expected if each):
            return REQUEST_EXPECTATION
    return None


def _fault_of_target(message: RawRequestMessage) -> ErrorCode | None:
    """Check a target that is no plain path: `*` is for OPTIONS, and an absolute one has a host without credentials."""
    target = message.path
    if target == "*":
        return None if message.method == "OPTIONS" else REQUEST_NOT_HTTP
    match = ABSOLUTE.fullmatch(target)
    good = match is not None and is_host(match[1]) and target.isascii() and not re.search(r"[#\\]", target)
    return None if good else REQUEST_NOT_HTTP


def _fault_of_coding(message: RawRequestMessage) -> ErrorCode | None:
    """Check a Transfer-Encoding: it comes without Content-Length, in HTTP/1.1, and ends in `chunked`, once."""
    coding = message.headers[TRANSFER_ENCODING].lower()
    if message.version is not HttpVersion11 or CONTENT_LENGTH in message.headers:
        return REQUEST_NOT_HTTP
    if coding == "chunked":
        return None
    return _fault_of_codings(coding)


def _fault_of_codings(codings: str) -> ErrorCode:
    """Return 501 for an unknown coding (RFC 9112, 6.1), and 400 for a list that leaves the end of the body open."""
    if not CODINGS.fullmatch(codings):
        return REQUEST_NOT_HTTP
    names = [each.strip().lower() for each in codings.split(",")]
    return REQUEST_NOT_HTTP if "chunked" in names[:-1] else REQUEST_CODING_UNKNOWN


def fault_of_refused(head: bytes, error: Exception | None = None) -> ErrorCode:
    """Return the code of a head with a bad line, or one that the parser has refused.

    The bytes decide, since the parser's messages are not stable.
    """
    line, _, fields = head.partition(b"\r\n")
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        return REQUEST_NOT_HTTP
    method, target, major, minor = match.groups()
    lines = fields.split(b"\r\n")
    faults = {
        REQUEST_TARGET_TOO_LONG: len(target) > MAX_LINE,
        REQUEST_VERSION: major != b"1" or minor not in b"01",
        REQUEST_METHOD_UNKNOWN: method == b"CONNECT" or isinstance(error, BadHttpMethod),
        REQUEST_HEADERS_TOO_LARGE: len(lines) - 2 > MAX_HEADERS or any(len(each) > MAX_LINE for each in lines),
    }
    found = next((code for code, is_so in faults.items() if is_so), REQUEST_NOT_HTTP)
    codings = RAW_CODING.findall(head)
    if found is REQUEST_NOT_HTTP and len(codings) == 1 and minor == b"1" and not RAW_LENGTH.search(head):
        return _fault_of_codings(codings[0].decode("latin-1"))
    return found


def fault_of_beginning(data: bytes | bytearray, searched: int) -> ErrorCode | None:
    """Return the code if this beginning of a head can never become valid; its first `searched` bytes are known.

    So bytes that are not HTTP are answered at once, before the time limit of a head.
    """
    if not LINE_BEGUN.match(data) or BARE.search(data, max(0, searched - 1)) or data.find(NUL, searched) >= 0:
        return REQUEST_NOT_HTTP
    end = data.find(b"\r\n", 0, MAX_REQUEST_LINE)
    if end < 0:
        return REQUEST_TARGET_TOO_LONG if len(data) > MAX_REQUEST_LINE else None
    if searched < end + 2 and not REQUEST_LINE.fullmatch(data[:end]):
        return REQUEST_NOT_HTTP
    return REQUEST_HEADERS_TOO_LARGE if len(data) > MAX_HEAD else None


class LengthBody:
    """A body with a Content-Length."""

    __slots__ = ("_left", "done")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = False  # a length of 0 means no body

    def take(self, data: bytes) -> tuple[bytes, int]:
        """Return the bytes to give to the parser, and how many of them belong to the body."""
        taken = min(self._left, len(data))
        self._left -= taken
        self.done = not self._left
        return data if taken == len(data) else data[:taken], taken


class ChunkedBody:
    """A body in chunks. Its framing is bounded: chunk sizes and extensions, trailers, and the sum of all."""

    __slots__ = ("_data", "_left", "_line", "_overhead", "_trailers", "done")

    def __init__(self) -> None:
        self.done = False
        self._left = 0  # bytes left of this chunk, with its line end
        self._line = b""  # a line that has no end yet
        self._trailers = -1  # bytes of the trailer section, once it has begun
        self._data = 0
        self._overhead = 0

    def take(self, data: bytes) -> tuple[bytes, int]:
        """Return the bytes to give to the parser, and how many of them belong to the body. Raises FramingError.

        Trailers are skipped (RFC 9110, 6.5.1): the parser would take them for headers.
        """
        at = 0
        chunks_end = 0 if self._trailers >= 0 else None
        while at < len(data) and not self.done:
            if self._left:
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
                continue
            end = data.find(b"\n", at, at + MAX_TRAILERS + 1) + 1
            piece = data[at : end or len(data)]
            at += len(piece)
            self._count(len(piece))
            self._line += piece
            if end:
                line, self._line = self._line, b""
                self._read(line)
                if chunks_end is None and self._trailers >= 0:
                    chunks_end = at
        parsed = data[: at if chunks_end is None else chunks_end]
        return parsed + b"\r\n" if self.done else parsed, at

    def _count(self, overhead: int) -> None:
        self._overhead += overhead
        bound = MAX_CHUNK_LINE if self._trailers < 0 else MAX_TRAILERS
        if len(self._line) + overhead > bound or self._overhead > FREE_OVERHEAD + self._data // DATA_RATIO:
            raise FramingError("too much framing for a chunked body")

    def _read(self, line: bytes) -> None:
        if self._trailers >= 0:
            self._trailers += len(line)
            if line == b"\r\n":
                self.done = True
            elif self._trailers > MAX_TRAILERS or not TRAILER.fullmatch(line):
                raise FramingError("a trailer is malformed")
            return
        match = CHUNK_LINE.fullmatch(line)
        if match is None:
            raise FramingError("the size of a chunk is malformed")
        size = int(match[1], 16)
        if size:
            self._left = size + 2
            self._data += size
        else:
            self._trailers = 0
