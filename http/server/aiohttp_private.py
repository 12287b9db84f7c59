"""Every name of aiohttp that its documentation does not promise, and nothing else: the rest of the server imports them
from here. aiohttp is pinned exactly in pyproject.toml; a test says which of these names a new version has changed.

Only its request parser and its stream of body bytes are used. aiohttp's own server makes a task, a request, a writer
and a response object for each answer, which costs as much as all that a front door does.
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
    "BadHttpMethod",
    "FlowControl",
    "HttpVersion10",
    "HttpVersion11",
    "RawRequestMessage",
    "RequestPayloadError",
    "StreamReader",
    "is_compiled",
    "new_parser",
]


class FlowControl(Protocol):
    """The part of aiohttp's protocols that a StreamReader calls."""

    @property
    def connected(self) -> bool:
        """Whether bytes can still come."""

    def pause_reading(self) -> None:
        """More waits to be read than should."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Some of it has been read."""


def new_parser(
    flow: FlowControl,
    loop: asyncio.AbstractEventLoop,
    *,
    buffer: int,
    max_line: int,
    max_headers: int,
) -> Any:
    """A parser of one connection's requests; `buffer` is how many bytes of a body may wait to be read.

    It has two methods: `feed_data(bytes)` gives a sequence of (message, StreamReader), whether the connection is
    upgraded, and the rest; `set_upgraded(False)` takes an upgrade back. It raises whatever it likes for bad input.
    """
    return http_parser.HttpRequestParser(
        flow,  # type: ignore[arg-type]  # it asks for all of BaseProtocol and uses FlowControl
        loop,
        buffer,
        max_line_size=max_line,
        max_field_size=max_line,
        max_headers=max_headers,
        payload_exception=RequestPayloadError,
        auto_decompress=False,  # a body is never inflated: a small one could become a large one
    )


def is_compiled() -> bool:
    """Whether the parser is the one in C: that in Python judges some requests differently, and is 20 times slower."""
    return http_parser.HttpRequestParser.__module__ == "aiohttp._http_parser"
