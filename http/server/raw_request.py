"""One request on its way, and what the server was told to be: `RawRequest`, `Settings`, `ServerDependencies`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from random import Random

from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from callboard.actors.errors import ErrorCode
from callboard.actors.infrastructure.idempotency import ClaimKey, KeepAnswer, ReleaseKey
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.infrastructure.rate_limiter import LimitResult
from callboard.actors.infrastructure.token_signer import Claims
from callboard.http.server.aiohttp_private import HttpVersion11, RawRequestMessage, StreamReader
from callboard.http.server.client_ip import NO_PROXIES, Proxies
from callboard.http.server.connection_limits import Bound
from callboard.http.server.operator_access import AllowedHosts, OperatorToken
from callboard.runtime import Ref

MAX_AGENT = 400
CheckLimit = Callable[[str, str], Awaitable[LimitResult]]  # by policy and key


def clean(text: str) -> str:
    """A header's value as text that can be stored: what is not UTF-8 or is NUL becomes `?`."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


@dataclass(frozen=True)
class Settings:
    """How a front door behaves.

    `base` stands before every path that is not absolute; `proxies` are those whose X-Forwarded-For is believed;
    `token`, when set, is what every route that is not exempt asks for as Bearer; `hosts` are the names that it may be
    asked for by, any without them. One that is `secure` is reached by HTTPS, through a proxy, and tells browsers to
    keep to that.
    """

    base: str = "/api/v1"
    origins: frozenset[str] = frozenset()
    max_body_bytes: int = 1 << 20
    timeout_s: float = 10.0
    proxies: Proxies = NO_PROXIES
    token: OperatorToken | None = None
    hosts: AllowedHosts | None = None
    secure: bool = False


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class ServerDependencies:
    """The functions that a server needs from others.

    `read_token` checks a token by itself, and `authenticate`, which begins when it is called and need not be awaited,
    finds who its claims stand for; both raise Problem. `check_limit`, which begins when it is called,
    counts a request of a key against a policy; it must bound itself in time, and when awaiting it raises the request
    goes on. `observe` is called for each answer with the
    path's template, the method, the status and the seconds it took. `keys` keeps the answers of idempotency keys;
    without it they are not looked at. While `maintenance` says so, only admins pass. `connection_closed` is called for
    each connection that is closed for a bound, with that bound.
    """

    read_token: Callable[[str], Claims] | None = None
    authenticate: Callable[[Claims], Awaitable[Principal]] | None = None
    check_limit: CheckLimit | None = None
    observe: Callable[[str, str, int, float], None] | None = None
    keys: Ref[ClaimKey | KeepAnswer | ReleaseKey] | None = None
    maintenance: Callable[[], bool] | None = None
    now: Callable[[], datetime] = utc_now
    connection_closed: Callable[[Bound], None] | None = None
    rng: Random = field(default_factory=Random)  # names traces: no secret hangs on it


# Stands for what could not be read as a request; nothing of it is known.
MALFORMED_REQUEST = RawRequestMessage(
    "unknown", "/", HttpVersion11, CIMultiDictProxy(CIMultiDict()), (), True, None, False, False, URL("/")
)
NOT_HTTP_HEAD = MALFORMED_REQUEST._replace(method="HEAD")  # the same, but its answer has no content (RFC 9110, 9.3.2)


class RawRequest:
    """A request, and what is known of it while it is answered; the parts fill in as they get to know them."""

    __slots__ = (
        "body",
        "caller",
        "deadline",
        "fault",
        "headers",
        "ip",
        "late",
        "message",
        "method",
        "notices",
        "payload",
        "reading",
        "request_id",
        "task",
        "template",
        "timer",
        "trace_id",
        "traceparent",
        "transport",
        "values",
        "verdicts",
    )

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        transport: asyncio.WriteTransport,
        task: "asyncio.Task[None] | None",
        ip: str | None,
    ) -> None:
        self.message = message
        self.fault: ErrorCode | None = None  # for which it is refused before anything of it is looked at
        self.method = message.method
        self.headers = message.headers
        self.payload = payload
        self.transport = transport
        self.task = task  # that serves it
        self.ip = ip or "unknown"
        self.template = "unmatched"
        self.values: Sequence[str] = ()  # of the path's parameters
        self.traceparent = ""
        self.trace_id = ""
        self.request_id = ""
        self.caller: Principal | None = None
        self.verdicts: dict[str, LimitResult] = {}
        self.notices: Mapping[str, str] | None = None  # headers of every answer of the route
        self.reading = False
        self.body = b""
        self.deadline = inf
        self.late = False  # its deadline has passed
        self.timer: asyncio.TimerHandle | None = None

    @property
    def user_agent(self) -> str:
        """The client's User-Agent, as clean text of at most MAX_AGENT characters, or an empty string."""
        return clean(self.headers.get("User-Agent") or "")[:MAX_AGENT]

    @property
    def target(self) -> str:
        """The path and the query, percent-encoded as they came; also of a target that names the server (RFC 9112)."""
        target = self.message.path
        return target if target.startswith("/") else self.message.url.raw_path_qs

    @property
    def path(self) -> str:
        """The path and nothing else."""
        return self.target.partition("?")[0]
