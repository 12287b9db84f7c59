"""Reads the requests of one connection out of its bytes: one at a time, each with a stream of its body.

The next head is read only when it is asked for. So bytes after a close or a refusal are never read as a request, and
requests before one are always answered.
"""

import asyncio

from aiohttp.hdrs import CONTENT_LENGTH

from callboard.actors.errors import REQUEST_HEADERS_TOO_LARGE, ErrorCode
from callboard.http.server.aiohttp_private import (
    EMPTY_PAYLOAD,
    ArrivedBody,
    FlowControl,
    Payload,
    RawRequestMessage,
    RequestPayloadError,
    StreamReader,
    new_parser,
)
from callboard.http.server.framing import (
    BLANK_LINES,
    HEAD_END,
    MAX_HEAD,
    MAX_HEADERS,
    MAX_LINE,
    ChunkedBody,
    FramingError,
    LengthBody,
    fault_of_beginning,
    fault_of_head,
    fault_of_refused,
)
from callboard.http.server.raw_request import MALFORMED_REQUEST, NOT_HTTP_HEAD

MAX_AHEAD = 1 << 16  # bytes that a client may send ahead of its responses before reading pauses
CR = 13
BUFFER = 1 << 16  # unread bytes of a body
KNOWN_HEADS = 256
LONGEST_KNOWN = 2048  # bytes


# A parsed request, without its body; or, with a fault, bytes that are refused. A plain tuple: each request makes one.
Taken = tuple[RawRequestMessage, Payload, ErrorCode | None]


class KnownHeads:
    """The last valid heads of a server, parsed, each with the length of its body. The same bytes are not parsed again:
    clients repeat their heads, and parsing one costs as much as building a response.

    Only heads after which the connection stays open, and whose body has a length, are kept.
    """

    __slots__ = ("_heads", "find")

    def __init__(self) -> None:
        self._heads: dict[bytes, tuple[RawRequestMessage, int]] = {}
        self.find = self._heads.get

    def __len__(self) -> int:
        """Return the number of known heads."""
        return len(self._heads)

    def add(self, head: bytes, message: RawRequestMessage, length: int) -> None:
        """Keep a head, unless it is long. All others are forgotten when there are too many."""
        if len(head) <= LONGEST_KNOWN:
            if len(self._heads) >= KNOWN_HEADS:
                self._heads.clear()
            self._heads[head] = message, length


class RequestReader:
    """The bytes of a connection that are received and not served yet."""

    __slots__ = ("_ahead", "_blank", "_heads", "_parser", "_payload", "_searched", "body", "is_closed")

    def __init__(self, flow: FlowControl, loop: asyncio.AbstractEventLoop, heads: KnownHeads) -> None:
        self._heads = heads
        self._parser = new_parser(flow, loop, buffer=BUFFER, max_line=MAX_LINE, max_headers=MAX_HEADERS)
        self._ahead: bytes | bytearray = b""  # bytes after the current request
        self._blank = False  # empty lines have arrived, which may precede a request
        self._searched = 0  # its bytes that are known to hold no end of a head
        self.body: LengthBody | ChunkedBody | None = None  # of the current request, until it is complete
        self._payload: StreamReader = EMPTY_PAYLOAD  # of the current request, if it was parsed
        self.is_closed = False  # all further bytes are discarded

    @property
    def is_begun(self) -> bool:
        """Whether bytes of another request have arrived."""
        return self._blank or bool(self._ahead)

    @property
    def holds_another(self) -> bool:
        """Whether another request's head is complete."""
        return HEAD_END in self._ahead

    @property
    def is_full(self) -> bool:
        """Whether the buffer is over its limit."""
        return len(self._ahead) > MAX_AHEAD

    def feed(self, data: bytes) -> None:
        """Give the current body its part of these bytes, and buffer the rest."""
        if self.is_closed:
            return
        if self.body is not None:
            data = self._read_body(data)
        if not self._ahead:
            self._ahead = data
        elif data:
            if isinstance(self._ahead, bytes):
                self._ahead = bytearray(self._ahead)
            self._ahead += data

    def take(self) -> Taken | None:
        """Return the next request if its head is complete; or a refusal if the bytes can never become a request."""
        data = self._ahead
        if not data:
            return None
        if data[0] == CR and (blank := BLANK_LINES.match(data)) and blank.end():  # RFC 9112, 2.2
            data = self._ahead = data[blank.end() :]
            self._searched, self._blank = 0, True
            if not data:
                return None
        end = data.find(HEAD_END, self._searched) + len(HEAD_END)
        if end < len(HEAD_END):
            fault = fault_of_beginning(data, self._searched)
            self._searched = max(0, len(data) - len(HEAD_END) + 1)
            return None if fault is None else self._refused(fault, unread(data))
        self._searched, self._blank = 0, False
        if end == len(data):
            head, self._ahead = bytes(data), b""
        else:
            head, self._ahead = bytes(data[:end]), data[end:]
        known = self._heads.find(head)
        if known is not None:
            message, length = known
            if not length:
                return message, EMPTY_PAYLOAD, None
            ahead = self._ahead
            if len(ahead) >= length:  # the whole body has arrived: the parser need not see it
                self._ahead = b"" if len(ahead) == length else ahead[length:]
                return message, ArrivedBody(bytes(ahead[:length])), None
        return self._parsed(head)

    def close(self, error: Exception | None = None) -> None:
        """Discard the buffer and all further bytes (RFC 9112, 9.6), and fail the rest of the body: its reader gets the
        error. The parser goes: it and the connection hold each other, and with them the bytes of a refused body.
        """
        self.is_closed = True
        self._ahead = b""
        if not self._payload.is_eof() and self._payload.exception() is None:
            self._payload.set_exception(error or ConnectionResetError("the client has gone"))
        self._payload, self._parser = EMPTY_PAYLOAD, None

    def _refused(self, fault: ErrorCode, message: RawRequestMessage) -> Taken:
        self.close()
        return message, EMPTY_PAYLOAD, fault

    def _parsed(self, head: bytes) -> Taken:
        """Parse a head, and the part of its body that has arrived."""
        if len(head) > MAX_HEAD:
            return self._refused(REQUEST_HEADERS_TOO_LARGE, unread(head))
        try:
            ((message, payload),), upgraded, _ = self._parser.feed_data(head)
        except Exception as error:  # noqa: BLE001 - whatever the parser raises is a bad request, and the end
            return self._refused(fault_of_refused(head, error), unread(head))
        if upgraded:  # to an unknown protocol: the request is served as HTTP/1.1
            self._parser.set_upgraded(False)
        fault = fault_of_head(head, message, payload)
        if fault is not None:
            return self._refused(fault, message)
        self._payload = payload
        length = 0
        if payload is not EMPTY_PAYLOAD:
            length = 0 if message.chunked else int(message.headers[CONTENT_LENGTH])
            self._begin_body(length)
        if not (message.should_close or message.upgrade or message.chunked):
            self._heads.add(head, message, length)
        if message.should_close and self.body is None:
            self.close()
        return message, payload, None

    def _begin_body(self, length: int) -> None:
        """Give a body the bytes that have arrived; a `length` of 0 stands for chunks."""
        ahead = self._ahead
        if length:
            if length == len(ahead):  # it arrived with its head, and nothing else did
                self._ahead = b""
                self._feed_parser(bytes(ahead))
                return
            self.body = LengthBody(length)
        else:
            self.body = ChunkedBody()
        if ahead:
            self._ahead = self._read_body(bytes(ahead))

    def _read_body(self, data: bytes) -> bytes:
        """Give the body its part of these bytes; return the rest."""
        body = self.body
        if body is None:
            return data
        try:
            parsed, end = body.take(data)
        except FramingError as error:
            self._fail(error)
            return b""
        self._feed_parser(parsed)
        if not body.done:
            return b""
        self.body = None
        return b"" if self.is_closed else data[end:]

    def _feed_parser(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except Exception as error:  # noqa: BLE001 - whatever the parser raises is a bad body, and the end
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.body = None
        self.close(RequestPayloadError(str(error)))


def unread(data: bytes | bytearray) -> RawRequestMessage:
    """Return a stand-in for a request that could not be read; of its method only HEAD matters for the response."""
    return NOT_HTTP_HEAD if data.startswith(b"HEAD ") else MALFORMED_REQUEST
