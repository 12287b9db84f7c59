"""All private names of aiohttp, and nothing else: the rest of the server imports them from here. aiohttp is pinned
exactly in pyproject.toml; a test says which of these names a new version has changed.

We use only its request parser and its stream of body bytes. aiohttp's own server makes a task, a request, a writer and
a response object for each response, which costs as much as all our own code.
"""

import asyncio
from typing import Any, Protocol

from aiohttp import http_parser
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMethod
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web import RequestPayloadError

__all__ = [
    "EMPTY_PAYLOAD",
    "ArrivedBody",
    "BadHttpMethod",
    "FlowControl",
    "HttpVersion10",
    "HttpVersion11",
    "Payload",
    "RawRequestMessage",
    "RequestPayloadError",
    "StreamReader",
    "is_compiled",
    "new_parser",
    "rest_of",
]


class FlowControl(Protocol):
    """The part of aiohttp's protocols that a StreamReader calls."""

    @property
    def connected(self) -> bool:
        """Whether the connection can still receive bytes."""

    def pause_reading(self) -> None:
        """Stop reading: the buffer is over its limit."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on: the buffer is below its limit again."""


class ArrivedBody:
    """A body that has arrived whole: the part of a StreamReader that our readers call."""

    __slots__ = ("_unread", "total_bytes")

    def __init__(self, content: bytes) -> None:
        self._unread = content
        self.total_bytes = len(content)

    def is_eof(self) -> bool:
        """Whether its end has arrived."""
        return True

    def at_eof(self) -> bool:
        """Whether it has been read to its end."""
        return not self._unread

    def read_nowait(self) -> bytes:
        """Return what is left of it."""
        content, self._unread = self._unread, b""
        return content

    async def readany(self) -> bytes:
        """Return what is left of it."""
        return self.read_nowait()


Payload = StreamReader | ArrivedBody


def new_parser(
    flow: FlowControl,
    loop: asyncio.AbstractEventLoop,
    *,
    buffer: int,
    max_line: int,
    max_headers: int,
) -> Any:
    """Return a parser of one connection's requests; `buffer` limits the unread bytes of a body.

    It has two methods: `feed_data(bytes)` returns a sequence of (message, StreamReader), whether the connection is
    upgraded, and the remaining bytes; `set_upgraded(False)` takes an upgrade back. Bad input may raise any exception.
    """
    return http_parser.HttpRequestParser(
        flow,  # type: ignore[arg-type]  # typed as BaseProtocol, it uses FlowControl only
        loop,
        buffer,
        max_line_size=max_line,
        max_field_size=max_line,
        max_headers=max_headers,
        payload_exception=RequestPayloadError,
        auto_decompress=False,  # a body is never inflated: a small one could become a large one
    )


def rest_of(payload: Payload) -> bytes:
    """Return the bytes that arrived before a body broke off; any public method of a StreamReader raises then."""
    if isinstance(payload, ArrivedBody):
        return payload.read_nowait()
    return payload._read_nowait(-1)  # noqa: SLF001 - see above


def is_compiled() -> bool:
    """Whether the parser is the one in C: the one in Python judges some requests otherwise, and is 20 times slower."""
    return http_parser.HttpRequestParser.__module__ == "aiohttp._http_parser"
