"""Taking in what a route reads: its path parameters, its query, and its body within its bounds."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError

from callboard.actors.errors import REQUEST_MALFORMED, REQUEST_TOO_LARGE, REQUEST_UNSUPPORTED, Problem
from callboard.http.decoding import BodyReader, QueryReader
from callboard.http.exchange import Exchange
from callboard.http.routing import Route, Shape

UUID_LENGTH = 36  # UUID() takes braces, URNs and bare hex as well; one id has one address here
NOTHING: Mapping[str, Any] = {}


class Intake:
    """What one route takes in; its decoders are made once."""

    def __init__(self, route: Route[Any], shape: Shape, max_body_bytes: int) -> None:
        self._route = route
        self._types = route.parameters
        self._query = QueryReader(shape.query)
        self._body = None if shape.body in (type(None), bytes) else BodyReader(shape.body, route.rules)
        self._raw = shape.body is bytes
        self._max_body_bytes = max_body_bytes

    def path(self, names: Sequence[str], values: Sequence[str]) -> Mapping[str, Any]:
        """The path's parameters. What cannot be an id is not found, just like an id that nothing has:
        otherwise a client would learn from the status what ids look like, and need two branches for one outcome.
        """
        if not names:
            return NOTHING
        path: dict[str, Any] = {}
        for name, value in zip(names, values, strict=True):
            if self._types[name] is UUID:
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

    def query(self, request: web.BaseRequest) -> Any:
        """The query. Raises Problem(REQUEST_INVALID)."""
        if "?" not in request.raw_path:
            return self._query.read(())
        return self._query.read(tuple(request.rel_url.query.items()))

    async def body(self, exchange: Exchange) -> Any:
        """The body. Raises Problem: REQUEST_UNSUPPORTED, REQUEST_TOO_LARGE, REQUEST_MALFORMED, REQUEST_INVALID."""
        if self._body is None and not self._raw:
            return None
        request = exchange.request
        headers = request.headers
        if "Content-Encoding" in headers:
            raise Problem(REQUEST_UNSUPPORTED, "Send the body as it is, without a Content-Encoding.")
        if not self._raw and not is_json(headers.get("Content-Type")):
            raise Problem(REQUEST_UNSUPPORTED)
        if (request.content_length or 0) > self._max_body_bytes:
            raise Problem(REQUEST_TOO_LARGE)
        if headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        exchange.reading = True
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise Problem(REQUEST_TOO_LARGE) from None
        except (web.RequestPayloadError, HttpProcessingError, ConnectionError):
            raise Problem(REQUEST_MALFORMED) from None
        exchange.reading = False
        exchange.body = raw
        return raw if self._body is None else self._body.read(raw)


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
