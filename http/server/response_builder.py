"""Builds responses: from a handler's reply to bytes, with envelope, headers and errors. Shared headers are encoded
once.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import format_datetime
from hashlib import blake2b
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.idempotency import StoredResponse
from callboard.http.server import headers as wire
from callboard.http.server.byte_ranges import RangedBody, range_of
from callboard.http.server.errors import encode_error, headers_of, status_of
from callboard.http.server.preconditions import repeated_headers
from callboard.http.server.raw_request import RawRequest, ServerDependencies, Settings
from callboard.http.server.request import PageReply, RawReply, Reply
from callboard.http.server.response import NO_CONTENT, NOT_MODIFIED, LiveBody, Response, SharedHeaders, Stream, encoded
from callboard.http.server.routing import Answer

JSON = "application/json"
PARTIAL = 206
REPLAYED = "Idempotency-Replayed"


class PageInfo(msgspec.Struct, frozen=True):
    """The applied limit, and the cursor of the next page (null on the last page)."""

    limit: int
    next_cursor: str | None


class SuccessEnvelope(msgspec.Struct, frozen=True):
    """The envelope of every success."""

    status: Literal["success"]
    data: Any
    message: str | UnsetType = UNSET
    page: PageInfo | UnsetType = UNSET


ENCODER = msgspec.json.Encoder()
NOTHING: Mapping[str, str] = {}
# Stored, and asked for before each use: no cache shows what is no longer published.
PUBLIC = {"Cache-Control": "public, no-cache", "Vary": "Authorization"}
PRIVATE = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}


class ResponseBuilder:
    """Builds the responses of one server."""

    def __init__(self, settings: Settings, dependencies: ServerDependencies) -> None:
        self._origins = settings.origins
        self._now = dependencies.now
        security = {**wire.SECURITY, **(wire.HSTS if settings.secure else {})}
        self._json = SharedHeaders({**security, "Content-Type": JSON})
        self._bare = SharedHeaders(security)

    def success(self, exchange: RawRequest, reply: Answer, status: int) -> Response:
        """Build the response to a handler's reply; `status` is the route's."""
        if isinstance(reply, Reply):
            status = reply.status or status
            own = _own(exchange, reply)
            if status == NO_CONTENT:
                return self._response(exchange, self._bare, own, None, status)
            message = UNSET if reply.message is None else reply.message
            body = ENCODER.encode(SuccessEnvelope("success", reply.data, message))
            return self._response(exchange, self._json, own, body, status)
        if isinstance(reply, PageReply):
            return self._response(exchange, self._json, _own(exchange, reply), _page(reply), status)
        own = {"Content-Type": reply.content_type, **_own(exchange, reply)}
        if reply.policy is not None:
            own["Content-Security-Policy"] = reply.policy
        if isinstance(reply.body, RangedBody):
            return self._part(exchange, reply, reply.body, own, status)
        response = self._response(exchange, self._bare, own, reply.body, reply.status or status)
        response.is_shared = reply.is_shared
        return response

    def _part(
        self, exchange: RawRequest, reply: RawReply, body: RangedBody, own: dict[str, str], status: int
    ) -> Response:
        """Build the response with the range that a GET asks for. Raises Problem(REQUEST_RANGE)."""
        own["Accept-Ranges"] = "bytes"
        is_get = exchange.method == "GET"
        found = range_of(exchange.headers, body.size, reply.etag, reply.modified) if is_get else None
        if found is not None:
            own["Content-Range"] = f"bytes {found[0]}-{found[1] - 1}/{body.size}"
            status = PARTIAL
        return self._response(exchange, self._bare, own, body.part(found), status)

    def tag(self, reply: Answer) -> str | None:
        """Return the ETag of a read, or None; a public page without one gets that of its bytes. A time of the
        last change that is yet to come is not sent (RFC 9110, 8.8.2.1).
        """
        if reply.modified is not None and reply.modified > self._now():
            reply.modified = None
        if isinstance(reply, PageReply) and reply.is_public and reply.etag is None:
            reply.body = _page(reply)
            reply.etag = blake2b(reply.body, digest_size=12).hexdigest()
        return reply.etag

    def not_modified(self, exchange: RawRequest, reply: Answer) -> Response:
        """Build the 304 for a client that already has the representation."""
        return self._response(exchange, self._bare, repeated_headers(_own(exchange, reply)), None, NOT_MODIFIED)

    def failure(self, exchange: RawRequest, problem: Problem) -> Response:
        """Build the response to a problem, in the form that the client asks for."""
        as_problem = wire.wants_problem(exchange.headers)
        body = encode_error(problem, now=self._now(), trace_id=exchange.trace_id, as_problem=as_problem)
        own = headers_of(problem)
        if as_problem:
            own["Content-Type"] = wire.PROBLEM_JSON
        return self._response(exchange, self._json, own, body, status_of(problem.code))

    def replay(self, exchange: RawRequest, kept: StoredResponse) -> Response:
        """Build the response to a request whose Idempotency-Key has a stored response."""
        own = {**kept.headers, REPLAYED: "true"}
        return self._response(exchange, self._bare, own, kept.body, kept.status)

    def options(
        self, exchange: RawRequest, allowed: Sequence[str], capabilities: Mapping[str, str] = NOTHING
    ) -> Response:
        """Build the response to OPTIONS, a preflight or not, with the headers that a resource has for it."""
        own = {**wire.preflight(exchange.headers, allowed, self._origins), **capabilities}
        return self._response(exchange, self._bare, own, None, NO_CONTENT)

    def _response(
        self,
        exchange: RawRequest,
        shared: SharedHeaders,
        own: Mapping[str, str],
        body: bytes | Stream | LiveBody | None,
        status: int,
    ) -> Response:
        lines = b"X-Request-ID: %b\r\n" % exchange.request_id.encode()  # safe, since only checked values are stored
        if exchange.limit_results:
            lines += wire.limits(exchange.limit_results)
        if self._origins:
            cors = wire.cors(exchange.headers, self._origins)
            if "Vary" in own and "Vary" in cors:
                own = {**own, "Vary": f"{own['Vary']}, {cors.pop('Vary')}"}
            lines += encoded(cors)
        if exchange.route_headers is not None:
            own = {**exchange.route_headers, **own}
        return Response(shared, status=status, body=body, own=own, lines=lines)


def _page(reply: PageReply[Any]) -> bytes:
    if reply.body is not None:
        return reply.body
    page = PageInfo(reply.limit, reply.next_cursor)
    return ENCODER.encode(SuccessEnvelope("success", reply.items, UNSET, page))


def _own(exchange: RawRequest, reply: Answer) -> Mapping[str, str]:
    if reply.headers is None and reply.etag is None and not reply.is_public and reply.modified is None:
        return NOTHING if not isinstance(reply, Reply) or reply.location is None else {"Location": reply.location}
    own = dict(reply.headers or {})
    if reply.is_public:  # a token may have changed what is seen: such a response is its caller's own
        own |= PUBLIC if exchange.caller is None else PRIVATE
    if reply.etag is not None:
        own["ETag"] = f'"{reply.etag}"'
    if reply.modified is not None:
        own["Last-Modified"] = format_datetime(reply.modified.astimezone(UTC), usegmt=True)
    if isinstance(reply, Reply) and reply.location is not None:
        own["Location"] = reply.location
    return own
