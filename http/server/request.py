"""Requests and replies of handlers: `HttpRequest`, `Reply`, `PageReply`, `RawReply`, and the base types of input.

The annotation of a handler declares its route: `async def create(request: HttpRequest[ContentBody, None,
EditorialRefs]) -> Reply[Content]` gives the type of the body, the absence of a query, the references and the type of
the response.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, TypeVar
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta

from callboard.actors.errors import AUTH_TOKEN_MISSING, Problem
from callboard.actors.infrastructure.principals import Principal
from callboard.http.server.byte_ranges import RangedBody
from callboard.http.server.headers import joined
from callboard.http.server.raw_request import MAX_AGENT, RawRequest, clean
from callboard.http.server.response import LiveBody, Stream

MAX_PAGE = 100

B_co = TypeVar("B_co", covariant=True)
Q_co = TypeVar("Q_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)
H = TypeVar("H")


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every JSON body: undeclared fields are refused. `SCHEMA` holds rules over several fields, for the
    documents.
    """

    SCHEMA: ClassVar[Mapping[str, Any]] = {}


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every query string: undeclared parameters are refused. A list field may be repeated."""


class Page(Query, frozen=True, kw_only=True):
    """The query of a list. A `limit` over 100 counts as 100; each list says the format of its `cursor`."""

    limit: Annotated[int, Meta(ge=1, description="The page size; more than 100 counts as 100.")] = 20
    cursor: str | None = None

    def __post_init__(self) -> None:
        if self.limit > MAX_PAGE:
            msgspec.structs.force_setattr(self, "limit", MAX_PAGE)


class HttpRequest(Generic[B_co, Q_co, R_co]):
    """One parsed and authorised request: `HttpRequest[body, query, refs]`; None stands for no body or no query.

    A body of type `bytes` is passed on unchanged, with any content type (webhooks sign their bytes).
    """

    __slots__ = ("_holder", "_new_id", "body", "caller", "headers", "ip", "path", "query", "refs", "tag", "trace_id")

    def __init__(
        self,
        body: B_co,
        query: Q_co,
        path: Mapping[str, Any],
        refs: R_co,
        exchange: RawRequest,
    ) -> None:
        self.body = body
        self.query = query
        self.path = path
        self.refs = refs
        self.caller = exchange.caller
        self._holder = exchange.holder
        self.headers = exchange.headers
        self.tag: str | None = None  # of the resource, which satisfied the request's precondition
        self.ip = exchange.ip
        self.trace_id = exchange.trace_id
        self._new_id: UUID | None = None

    @property
    def new_id(self) -> UUID:
        """Return the id for the resource that this request creates: random, or the one stored with its Idempotency-Key,
        so that the request finds the resource that it made before a crash. Insert with `on conflict do nothing`, and
        read back.
        """
        if self._new_id is None:
            self._new_id = uuid4()
        return self._new_id

    def make_as(self, new_id: UUID) -> None:
        """Give this id to the resource that this request creates."""
        self._new_id = new_id

    @property
    def identity(self) -> Principal:
        """The caller. Raises Problem(AUTH_TOKEN_MISSING) for an anonymous request; `caller` gives None instead."""
        if self.caller is None:
            raise Problem(AUTH_TOKEN_MISSING)
        return self.caller

    def holder(self, kind: type[H]) -> H:
        """Return the holder of the key of a route with `Access.KEY`, as its `authenticate` has found it."""
        if not isinstance(self._holder, kind):
            raise TypeError(f"the route authenticates no {kind.__name__}")
        return self._holder

    def uuid(self, name: str) -> UUID:
        """Return a path parameter whose name ends in `_id`."""
        value = self.path[name]
        if not isinstance(value, UUID):
            raise TypeError(f"path parameter {name} is text: ask for it with text()")
        return value

    def text(self, name: str) -> str:
        """Return any other path parameter, percent-decoded."""
        value = self.path[name]
        if not isinstance(value, str):
            raise TypeError(f"path parameter {name} is an id: ask for it with uuid()")
        return value

    def header(self, name: str) -> str | None:
        """Return a request header as text that can be stored: bytes that are not UTF-8, and NUL, become `?`."""
        value = joined(self.headers, name)
        return None if value is None else clean(value)

    @property
    def user_agent(self) -> str:
        """Return the client's User-Agent, at most 400 characters, or an empty string."""
        return (self.header("User-Agent") or "")[:MAX_AGENT]


class Reply(Generic[T_co]):
    """A success: `data` in the envelope, `message` for people. `status` overrides the route's.

    `etag` is given bare and sent in quotes; `modified` is the time of the last change. A reply that `is_public` is the
    same for every caller who gets it: caches keep it, and ask before each use whether it still holds. A route of status
    204 replies `Reply(None)`.
    """

    __slots__ = ("data", "etag", "headers", "is_public", "location", "message", "modified", "status")

    def __init__(
        self,
        data: T_co,
        *,
        message: str | None = None,
        status: int | None = None,
        etag: str | None = None,
        location: str | None = None,
        headers: Mapping[str, str] | None = None,
        modified: datetime | None = None,
        is_public: bool = False,
    ) -> None:
        self.modified = modified
        self.is_public = is_public
        self.data = data
        self.message = message
        self.status = status
        self.etag = etag
        self.location = location
        self.headers = headers


class PageReply(Generic[T_co]):
    """One page of a list: its items, the limit that was applied, and the cursor of the next page or None at the end.

    `etag` is given bare and sent in quotes; a page that `is_public`, as a Reply may be, has one of its bytes.
    """

    __slots__ = ("body", "etag", "headers", "is_public", "items", "limit", "modified", "next_cursor")

    def __init__(
        self,
        items: Sequence[T_co],
        *,
        limit: int,
        next_cursor: str | None,
        headers: Mapping[str, str] | None = None,
        etag: str | None = None,
        is_public: bool = False,
    ) -> None:
        self.etag = etag
        self.modified: datetime | None = None
        self.is_public = is_public
        self.body: bytes | None = None  # encoded already
        self.items = items
        self.limit = limit
        self.next_cursor = next_cursor
        self.headers = headers


class RawReply:
    """A response without the envelope: a page, a file, metrics. `policy` replaces the Content-Security-Policy; `etag`,
    `modified` and `is_public` are those of Reply. A body that `is_shared` is one object for all clients.
    """

    __slots__ = ("body", "content_type", "etag", "headers", "is_public", "is_shared", "modified", "policy", "status")

    def __init__(
        self,
        body: bytes | Stream | LiveBody | RangedBody,
        content_type: str,
        *,
        status: int | None = None,
        policy: str | None = None,
        headers: Mapping[str, str] | None = None,
        etag: str | None = None,
        is_shared: bool = False,
        modified: datetime | None = None,
        is_public: bool = False,
    ) -> None:
        self.modified = modified
        self.is_public = is_public
        self.body = body
        self.content_type = content_type
        self.status = status
        self.policy = policy
        self.headers = headers
        self.etag = etag
        self.is_shared = is_shared
