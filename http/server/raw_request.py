"""A request in progress, and the settings and dependencies of a server."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from random import Random
from typing import Protocol
from uuid import UUID

from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from callboard.actors.errors import ERRORS, ErrorCode
from callboard.actors.infrastructure.idempotency import ClaimKey, ReleaseKey, StoreResponse
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.infrastructure.rate_limiter import LimitResult
from callboard.actors.infrastructure.token_signer import Claims
from callboard.http.server.aiohttp_private import HttpVersion11, Payload, RawRequestMessage
from callboard.http.server.client_ip import NO_PROXIES, Proxies
from callboard.http.server.connection_limits import Bound
from callboard.http.server.headers import Samples
from callboard.http.server.operator_access import AllowedHosts, OperatorToken
from callboard.runtime import Ref

MAX_AGENT = 400
CheckLimit = Callable[[str, str], Awaitable[LimitResult]]  # by policy and key


class Holder(Protocol):
    """A program that has authenticated itself by a key."""

    @property
    def key_id(self) -> UUID:
        """The id of the key, by which its requests are counted."""


def clean(text: str) -> str:
    """Return a header's value as text that can be stored: bytes that are not UTF-8, and NUL, become `?`."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


@dataclass(frozen=True)
class BodyPace:
    """The least pace of a body that is streamed to its handler.

    Each byte earns its client 1 / `bytes_per_s` seconds of waiting, and nobody has more than `grace_s` in hand: so
    neither a silent client nor one that trickles stays. Between two pieces the handler has `work_s`.
    """

    bytes_per_s: int = 1024
    grace_s: float = 30.0
    work_s: float = 30.0


@dataclass(frozen=True)
class Settings:
    """The settings of a server.

    A request has `timeout_s` from its head to its response, and `answer_s` without the arrival of its body. `base` is
    the prefix of every path that is not absolute. `proxies` are those whose X-Forwarded-For is trusted. `token`, if
    set, is the Bearer token that every route requires unless it `skips_limits_and_auth`. `hosts` are the allowed host
    names; None allows any. `secure` says that clients reach the server by HTTPS, through a proxy: browsers are told to
    use nothing else. `errors` are the codes of the catalogue. `pace` limits streamed bodies, in place of the times.
    `target_s` is the mean time of answers above which a route refuses requests; by default none does.
    """

    base: str = "/api/v1"
    origins: frozenset[str] = frozenset()
    max_body_bytes: int = 1 << 20
    timeout_s: float = 10.0
    answer_s: float = 10.0
    target_s: float = inf
    proxies: Proxies = NO_PROXIES
    token: OperatorToken | None = None
    hosts: AllowedHosts | None = None
    secure: bool = False
    errors: Sequence[ErrorCode] = ERRORS
    pace: BodyPace = BodyPace()


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class ServerDependencies:
    """The functions that a server gets from its owner.

    `read_token` verifies a token by itself, and `authenticate` loads the principal of its claims: it starts when it is
    called and may be awaited later. Both raise Problem. `check_limit` counts a request of a key against a policy: it
    starts when it is called and bounds its own time; if it raises, the request goes on. `observe` is called for each
    response with the path's template, the method, the status and the duration in seconds. `keys` stores the responses
    of idempotency keys; without it, keys are ignored. While `maintenance` returns true, only admins are admitted.
    `connection_closed` is called for each connection that a limit closes, with that limit. `samples` says which traces
    are recorded, by their ids and the flags that the caller has sent. `access` gets each request with its status and
    its duration in seconds.
    """

    read_token: Callable[[str], Claims] | None = None
    authenticate: Callable[[Claims], Awaitable[Principal]] | None = None
    check_limit: CheckLimit | None = None
    observe: Callable[[str, str, int, float], None] | None = None
    keys: Ref[ClaimKey | StoreResponse | ReleaseKey] | None = None
    maintenance: Callable[[], bool] | None = None
    now: Callable[[], datetime] = utc_now
    connection_closed: Callable[[Bound], None] | None = None
    samples: Samples | None = None
    access: "Callable[[RawRequest, int, float], None] | None" = None
    rng: Random = field(default_factory=Random)  # for trace ids: they are no secret


# Stands for a request that could not be read; nothing of it is known.
MALFORMED_REQUEST = RawRequestMessage(
    "unknown", "/", HttpVersion11, CIMultiDictProxy(CIMultiDict()), (), True, None, False, False, URL("/")
)
NOT_HTTP_HEAD = MALFORMED_REQUEST._replace(method="HEAD")  # its response has no content (RFC 9110, 9.3.2)


class Clock(Protocol):
    """The clock of the requests of a server."""

    def pause(self, exchange: "RawRequest") -> None:
        """Stop it for a request."""

    def resume(self, exchange: "RawRequest") -> None:
        """Let it go on for a request."""

    def renew(self, exchange: "RawRequest", seconds: float) -> None:
        """Give a request this time from now on."""


class RawRequest:
    """A request and its context; each stage of the server fills in its part."""

    __slots__ = (
        "body",
        "caller",
        "clock",
        "deadline",
        "due",
        "fault",
        "headers",
        "holder",
        "ip",
        "late",
        "left_s",
        "limit_results",
        "message",
        "method",
        "parent_id",
        "payload",
        "reading",
        "request_id",
        "route_headers",
        "task",
        "template",
        "timer",
        "trace_id",
        "traceparent",
        "transport",
        "values",
    )

    def __init__(
        self,
        message: RawRequestMessage,
        payload: Payload,
        transport: asyncio.WriteTransport,
        task: "asyncio.Task[None] | None",
        ip: str | None,
    ) -> None:
        self.message = message
        self.fault: ErrorCode | None = None  # the reason to refuse it before anything else is read
        self.method = message.method
        self.headers = message.headers
        self.payload = payload
        self.transport = transport
        self.task = task  # the task that serves it
        self.ip = ip or "unknown"
        self.template = "unmatched"
        self.values: Sequence[str] = ()  # the values of the path's parameters
        self.traceparent = ""
        self.parent_id: str | None = None  # of the caller's span, if it has sent one
        self.trace_id = ""
        self.request_id = ""
        self.caller: Principal | None = None
        self.holder: Holder | None = None
        self.limit_results: dict[str, LimitResult] = {}
        self.route_headers: Mapping[str, str] | None = None  # headers of every response of the route
        self.reading = False
        self.body = b""
        self.clock: Clock | None = None  # set while its time is limited
        self.deadline = inf  # in the loop's time: of the whole request
        self.due = inf  # of its answer; it moves when the clock is stopped
        self.left_s = 0.0  # at the stop of its clock
        self.late = False  # its deadline has passed
        self.timer: asyncio.TimerHandle | None = None

    def pause(self) -> None:
        """Stop its clock: the time until `resume` is not the server's."""
        if self.clock is not None and not self.late:
            self.clock.pause(self)

    def resume(self) -> None:
        """Let its clock go on."""
        if self.clock is not None and not self.late:
            self.clock.resume(self)

    def renew(self, seconds: float) -> None:
        """Give it this time from now on, instead of its present limits."""
        if self.clock is not None and not self.late:
            self.clock.renew(self, seconds)

    @property
    def user_agent(self) -> str:
        """The client's User-Agent, as clean text of at most MAX_AGENT characters, or an empty string."""
        return clean(self.headers.get("User-Agent") or "")[:MAX_AGENT]

    @property
    def target(self) -> str:
        """Return the path and the query, percent-encoded as they came, also for a target that names the server (RFC
        9112).
        """
        target = self.message.path
        return target if target.startswith("/") else self.message.url.raw_path_qs

    @property
    def path(self) -> str:
        """Return the path without its query."""
        return self.target.partition("?")[0]
