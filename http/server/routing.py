"""The route table: the declaration of a route, and the lookup by method and path.

The input and output of a route come from its handler's annotation, so the two cannot disagree.
"""

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import unquote
from uuid import UUID

from callboard.actors.errors import ROUTE_NOT_FOUND, ErrorCode, ErrorKind, FieldError
from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.http.server.preconditions import Validators
from callboard.http.server.raw_request import Holder
from callboard.http.server.request import HttpRequest, PageReply, RawReply, Reply
from callboard.http.server.streamed_body import StreamedBody

PARAMETER = re.compile(r"\{([a-z_]+)\}")

S_contra = TypeVar("S_contra", contravariant=True)
R = TypeVar("R")
V = TypeVar("V")

Answer = Reply[Any] | PageReply[Any] | RawReply
Authenticate = Callable[[S_contra, str], Awaitable[Holder]]  # the holder of a key; raises Problem
# The bare current tag of a resource, with the time of its last change if reads have that.
Current = Callable[[HttpRequest[Any, Any, S_contra]], Awaitable[str | Validators]]


class Access(StrEnum):
    """The callers that may use a route. It is checked in one place, before the body is read."""

    PUBLIC = "public"  # anyone; a token is ignored, so an expired one does no harm
    OPTIONAL = "optional"  # anyone; a token must be valid, and `call.caller` is its user
    USER = "user"
    SELF_OR_ADMIN = "self_or_admin"  # the path's user_id is the caller, or the caller is an admin; else 404
    EDITOR = "editor"
    ADMIN = "admin"
    KEY = "key"  # a program: the route's `authenticate` finds the holder of its key


@dataclass(frozen=True)
class Deprecation:
    """The deprecation of a route: its date, the date of removal, the replacement (a path below the base of that
    version, such as `/api/v2/content`), and a page with the reason.
    """

    since: datetime
    sunset: datetime | None = None
    successor: str | None = None
    link: str | None = None

    def headers(self) -> dict[str, str]:
        """Deprecation (RFC 9745), Sunset (RFC 8594) and Link with the relations that these and RFC 5829 define."""
        headers = {"Deprecation": f"@{int(self.since.timestamp())}"}
        if self.sunset is not None:
            headers["Sunset"] = format_datetime(self.sunset.astimezone(UTC), usegmt=True)
        links = ((self.successor, "successor-version"), (self.link, "deprecation"))
        if any(target for target, _ in links):
            headers["Link"] = ", ".join(f'<{target}>; rel="{relation}"' for target, relation in links if target)
        return headers


@dataclass(frozen=True)
class RequestHeader:
    """A request header, for the documents: `pattern` is its grammar, as far as a regular expression says it."""

    description: str
    pattern: str = ""
    is_required: bool = False

    @property
    def schema(self) -> dict[str, str]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": self.pattern} if self.pattern else {"type": "string"}


@dataclass(frozen=True)
class Route(Generic[S_contra]):
    """One call of the API: `Route("POST", "/content", create, summary=..., tag=..., access=Access.USER, status=201)`.

    `path` is below the server's base unless `absolute`. A parameter whose name ends in `_id` is a UUID, any other is
    text. `limit` counts this route by address and `caller_limit` by user, beside the policy "default"; one that
    `skips_limits_and_auth` is counted by none. `errors` are the codes beyond those that follow from its access, body,
    query and path.
    `version` is the first version of the API that has it, and `removed_in` the first that lacks it: see
    callboard.http.server.versions. If a value of the query is an old name, the route `deprecates_values`,
    and its handler says so in the response. A route that is `open_in_maintenance`, or skips limits, stays open then.
    A response that `shows_progress` of work which is not over has Retry-After. A response that `has_etag` has one; a
    route that changes its resource declares the function that reads the `current` tag, and with a code of
    PRECONDITION_MISSING among its errors it requires If-Match. A response that `has_date` has an ETag and perhaps the
    time of its last change, for If-Modified-Since and If-Unmodified-Since. `content_type` is for the documents, if the
    reply is a RawReply. `validate` returns the faults of the well-formed fields of a body, also if other fields are
    malformed: one response names every fault. `refs` are the references of the handler: see `Routes`.

    A route with `Access.KEY` has the functions that `authenticate` a key, which is the Bearer token: `caller_limit`
    then counts by the holder, in place of the policy "default". A response that `shows_secret` is stored nowhere: the
    route accepts no Idempotency-Key. For the documents, if the body is `bytes`: `consumes` names the types of its
    media types, and `headers` describes the request headers that the handler reads. A body of type `StreamedBody` is
    read by the handler while it arrives; its `consumes` names `bytes` for each media type.

    `constant_headers` are in every response, errors included; `gives` describes the others that a success has. The
    response to OPTIONS for the path has the headers that `capabilities` returns.

    A route that `serves_ranges` replies with a RangedBody: of a request with Range it sends a part.
    """

    method: str
    path: str
    handler: Callable[[HttpRequest[Any, Any, S_contra]], Awaitable[Answer]]
    summary: str
    tag: str
    access: Access
    status: int = 200
    limit: RateLimit | None = None
    errors: tuple[ErrorCode, ...] = ()
    absolute: bool = False
    skips_limits_and_auth: bool = False
    version: int = 1
    removed_in: int | None = None
    deprecated: Deprecation | None = None
    deprecates_values: bool = False
    open_in_maintenance: bool = False
    has_etag: bool = False
    has_date: bool = False
    serves_ranges: bool = False
    shows_progress: bool = False
    content_type: str = "*/*"
    current: "Current[S_contra] | None" = None
    validate: Callable[[S_contra, Mapping[str, Any]], Sequence[FieldError]] | None = None
    authenticate: "Authenticate[S_contra] | None" = None
    caller_limit: RateLimit | None = None
    shows_secret: bool = False
    consumes: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str | RequestHeader] = field(default_factory=dict)
    gives: Mapping[str, str] = field(default_factory=dict)
    constant_headers: Mapping[str, str] = field(default_factory=dict)
    capabilities: Callable[[S_contra], Mapping[str, str]] | None = None
    refs: Any = None

    @property
    def accepts_idempotency_key(self) -> bool:
        """Whether it creates, and so accepts an Idempotency-Key."""
        return self.method == "POST" and self.status == HTTPStatus.CREATED and not self.shows_secret

    @property
    def match_missing(self) -> ErrorCode | None:
        """Return the code for a request without If-Match, if that is required."""
        return next((code for code in self.errors if code.kind is ErrorKind.PRECONDITION_MISSING), None)

    @property
    def makes_changes(self) -> bool:
        """Whether its purpose is a change."""
        return self.method not in ("GET", "HEAD")

    @property
    def is_conditional(self) -> bool:
        """Whether it reads If-Match and If-None-Match."""
        return self.current is not None or (self.has_etag and not self.makes_changes)

    def full_path(self, base: str) -> str:
        """Return its whole path: below the base of its version, unless it is absolute."""
        if self.absolute:
            return self.path
        return (base if self.version == 1 else f"{base.rpartition('/')[0]}/v{self.version}") + self.path

    @property
    def route_headers(self) -> dict[str, str]:
        """Return the headers of every response."""
        return {**self.constant_headers, **(self.deprecated.headers() if self.deprecated else {})}

    @property
    def options_headers(self) -> Mapping[str, str]:
        """Return the headers of a response to OPTIONS."""
        return {} if self.capabilities is None else self.capabilities(self.refs)

    @property
    def parameters(self) -> dict[str, type]:
        """Return the names and types of the path's parameters."""
        return {name: UUID if name.endswith("_id") else str for name in PARAMETER.findall(self.path)}

    @property
    def not_found(self) -> ErrorCode:
        """Return the code for an unknown id, a malformed one, and another user's."""
        return next((code for code in self.errors if code.kind is ErrorKind.NOT_FOUND), ROUTE_NOT_FOUND)


class Routes(Generic[R]):
    """Routes of one department, which the type of its references names: a handler of another's is a type error."""

    def __init__(self, refs: type[R], *routes: Route[R]) -> None:
        self.refs = refs
        self.routes = routes

    def __iter__(self) -> Iterator[Route[R]]:
        return iter(self.routes)

    def bind(self, refs: R) -> tuple[Route[R], ...]:
        """Return the routes with the references of their handlers."""
        return tuple(replace(route, refs=refs) for route in self.routes)


def check_tags(routes: Sequence[Route[Any]]) -> None:
    """Check that every change of a resource that has an ETag declares the current one. Raises TypeError."""
    with_etag = {(route.version, route.path) for route in routes if route.has_etag and not route.makes_changes}
    for route in routes:
        if not route.makes_changes or route.accepts_idempotency_key or route.current is not None:
            continue  # a route that creates overwrites nothing at its path
        if route.has_etag or (route.version, route.path) in with_etag:
            raise TypeError(f"{route.method} {route.path} changes what has an ETag: declare its current one")


@dataclass(frozen=True)
class HandlerSignature:
    """The types in a handler's annotation: its body and query types (NoneType for none) and its reply."""

    body: type
    query: type
    answer: Any
    listed: bool
    raw: bool


def is_streamed(route: Route[Any]) -> bool:
    """Whether the handler reads the body while it arrives."""
    return shape_of(route).body is StreamedBody


def shape_of(route: Route[Any]) -> HandlerSignature:
    """Read a handler's annotation: `(HttpRequest[B, Q, S]) -> Reply[T] | PageReply[T] | RawReply`. Raises TypeError."""
    name = getattr(route.handler, "__qualname__", repr(route.handler))
    hints = typing.get_type_hints(route.handler)
    reply = hints.pop("return", None)
    parameters = list(hints.values())
    request = parameters[0] if len(parameters) == 1 else None
    kind = typing.get_origin(reply) or reply
    if typing.get_origin(request) is not HttpRequest or kind not in (Reply, PageReply, RawReply):
        raise TypeError(
            f"{name} must be annotated (request: HttpRequest[Body, Query, Refs]) -> Reply[T], PageReply[T] or RawReply"
        )
    if not inspect.iscoroutinefunction(route.handler):
        raise TypeError(f"{name} must be an async function")
    body, query, _ = typing.get_args(request)
    answer = (typing.get_args(reply) or (type(None),))[0]
    return HandlerSignature(body, query, answer, listed=kind is PageReply, raw=kind is RawReply)


class Resource(Generic[V]):
    """The resource at one path: a value for each method, and the methods that are `allowed`. The response to OPTIONS
    has the headers of its `capabilities`.
    """

    __slots__ = ("allowed", "by_method", "capabilities", "template")

    def __init__(self, template: str) -> None:
        self.template = template
        self.by_method: dict[str, V] = {}
        self.allowed: tuple[str, ...] = ()
        self.capabilities: Mapping[str, str] = {}

    def add(self, method: str, value: V) -> None:
        """Add the value of a method; GET's serves HEAD too, unless that has its own. Raises ValueError for a
        duplicate.
        """
        taken = self.by_method.get(method)
        if taken is not None and (method != "HEAD" or taken is not self.by_method.get("GET")):
            raise ValueError(f"{method} {self.template} is routed twice")
        self.by_method[method] = value
        if method == "GET":
            self.by_method.setdefault("HEAD", value)
        self.allowed = tuple(sorted({*self.by_method, "OPTIONS"}))


class Router(Generic[V]):
    """Finds the resource of a path: one dict lookup for a fixed path, a walk by segments for one with parameters.

    A fixed segment goes before a parameter: `/users/me` before `/users/{user_id}`.
    """

    def __init__(self) -> None:
        self._fixed: dict[str, Resource[V]] = {}
        self._tree: dict[str, Any] = {}
        self._by_form: dict[str, Resource[V]] = {}

    def add(self, method: str, path: str, value: V, capabilities: Mapping[str, str] | None = None) -> None:
        """Add a value. Raises ValueError for a duplicate method and path."""
        form = PARAMETER.sub("{}", path)
        methods = self._by_form.get(form)
        if methods is None:
            methods = self._by_form[form] = Resource(path)
            if form == path:
                self._fixed[path] = methods
            if not path.endswith("/"):  # a path with a final slash is found exactly or not at all
                node = self._tree
                for segment in form[1:].split("/"):
                    node = node.setdefault(segment, {})
                node[""] = methods
        methods.add(method, value)
        methods.capabilities = {**methods.capabilities, **(capabilities or {})}

    def find(self, target: str) -> tuple[Resource[V], Sequence[str]] | None:
        """Return the methods at the path of a target, percent-encoded and perhaps with a query, and the path's decoded
        parameters, in order.
        """
        methods = self._fixed.get(target)
        if methods is not None:
            return methods, ()
        path = target.partition("?")[0]
        if path != target and (methods := self._fixed.get(path)) is not None:
            return methods, ()
        segments = path[1:].split("/")
        if "%" in path:
            try:
                # Split first: an encoded slash belongs to its segment.
                segments = [unquote(segment, errors="strict") for segment in segments]
            except UnicodeDecodeError:
                return None
        if "" in segments:
            return None
        return self._walk(self._tree, segments, 0, ())

    def _walk(
        self, node: dict[str, Any], segments: list[str], index: int, values: tuple[str, ...]
    ) -> tuple[Resource[V], Sequence[str]] | None:
        if index == len(segments):
            methods = node.get("")
            return None if methods is None else (methods, values)
        segment = segments[index]
        below = node.get(segment) if segment != "{}" else None
        if below is not None and (found := self._walk(below, segments, index + 1, values)) is not None:
            return found
        below = node.get("{}")
        if below is None:
            return None
        return self._walk(below, segments, index + 1, (*values, segment))
