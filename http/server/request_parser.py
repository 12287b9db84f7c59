"""Parses the input of a route: path parameters, query, and body within its bounds."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from aiohttp.hdrs import CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT

from callboard.actors.errors import (
    REQUEST_INVALID,
    REQUEST_MALFORMED,
    REQUEST_TOO_LARGE,
    REQUEST_UNSUPPORTED,
    FieldError,
    Problem,
)
from callboard.http.server.aiohttp_private import HttpVersion11, RequestPayloadError
from callboard.http.server.raw_request import RawRequest, Settings
from callboard.http.server.routing import Route, shape_of
from callboard.http.server.streamed_body import StreamedBody
from callboard.http.server.validation import BodyReader, QueryReader

UUID_LENGTH = 36  # UUID() accepts braces, URNs and bare hex as well; here an id has one form
NOTHING: Mapping[str, Any] = {}


class RequestParser:
    """The parser of one route's input; its decoders are made once."""

    def __init__(self, route: Route[Any], settings: Settings, is_draining: Callable[[], bool]) -> None:
        shape = shape_of(route)
        validate = None if route.validate is None else partial(route.validate, route.refs)
        self._route = route
        self._types = route.parameters
        self._query = QueryReader(shape.query)
        self._body = None if shape.body in (type(None), bytes, StreamedBody) else BodyReader(shape.body, validate)
        self._raw = shape.body in (bytes, StreamedBody)
        self._streams = shape.body is StreamedBody
        self._pace = settings.pace
        self._is_draining = is_draining
        self.takes_query = shape.query is not type(None)
        self.takes_body = self._raw or self._body is not None
        self._max_body_bytes = settings.max_body_bytes

    def path(self, values: Sequence[str]) -> Mapping[str, Any]:
        """Return the path's parameters. An id of a wrong form is not found, like an unknown id: otherwise a client
        would need two branches for one outcome.
        """
        path: dict[str, Any] = {}
        for (name, kind), value in zip(self._types.items(), values, strict=True):
            if kind is UUID:
                try:
                    path[name] = UUID(value)
                except ValueError:
                    raise Problem(self._route.not_found) from None
                if len(value) != UUID_LENGTH:
                    raise Problem(self._route.not_found)
            elif "\0" in value:
                raise Problem(self._route.not_found)
            else:
                path[name] = value
        return path

    def query(self, exchange: RawRequest) -> Any:
        """Return the query. Raises Problem(REQUEST_INVALID)."""
        message = exchange.message
        if "?" not in message.path:
            return self._query.read(())
        if "%" in message.path:
            check_utf8(message.path.partition("?")[2])
        return self._query.read(tuple(message.url.query.items()))

    async def body(self, exchange: RawRequest) -> Any:
        """Raises Problem: REQUEST_UNSUPPORTED, REQUEST_TOO_LARGE, REQUEST_MALFORMED, REQUEST_INVALID."""
        headers, payload = exchange.headers, exchange.payload
        if CONTENT_ENCODING in headers:
            raise Problem(REQUEST_UNSUPPORTED, "Send the body without a Content-Encoding.")
        if not self._raw and not is_json(headers.get(CONTENT_TYPE)):
            raise Problem(REQUEST_UNSUPPORTED)
        if self._streams:
            return StreamedBody(exchange, self._pace, self._is_draining)
        if payload.is_eof() and payload.total_bytes <= self._max_body_bytes:  # it arrived with its head
            raw = payload.read_nowait()
        else:
            exchange.reading = True
            exchange.pause()
            raw = await self._arriving(exchange)
            exchange.resume()
            exchange.reading = False
        exchange.body = raw
        return raw if self._body is None else self._body.read(raw)

    async def _arriving(self, exchange: RawRequest) -> bytes:
        """Read a body that has not arrived yet, within its bound."""
        headers, payload, left = exchange.headers, exchange.payload, self._max_body_bytes
        if int(headers.get(CONTENT_LENGTH, 0)) > left:
            raise Problem(REQUEST_TOO_LARGE)
        if headers.get(EXPECT, "").lower() == "100-continue" and exchange.message.version >= HttpVersion11:
            exchange.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        pieces: list[bytes] = []
        try:
            while not payload.at_eof():
                piece = await payload.readany()
                left -= len(piece)
                if left < 0:
                    raise Problem(REQUEST_TOO_LARGE)
                pieces.append(piece)
        except (RequestPayloadError, ConnectionError):
            raise Problem(REQUEST_MALFORMED) from None
        return b"".join(pieces)


def check_utf8(query: str) -> None:
    """Check that a query's escapes are UTF-8. Raises Problem(REQUEST_INVALID) that names each bad parameter."""
    faults = []
    for pair in query.split("&"):
        try:
            unquote(pair, errors="strict")
        except UnicodeDecodeError:
            name = unquote(pair.partition("=")[0], errors="replace")
            faults.append(FieldError(name, "Must be UTF-8, percent-encoded."))
    if faults:
        raise Problem(REQUEST_INVALID, details=tuple(faults))


def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type is JSON in UTF-8, the only one there is (RFC 8259)."""
    if content_type == "application/json":
        return True
    kind, _, parameters = (content_type or "").partition(";")
    if kind.strip().lower() != "application/json":
        return False
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            return False
    return True
