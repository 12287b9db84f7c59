"""A client of a service that is not ours, which may be slow, limit us, fail or be away: each of its waits is bounded.

A request waits its turn in a bounded queue, is tried a bounded number of times, and passes a circuit breaker. After a
429 no request leaves until Retry-After has passed. If the service has no answer, an earlier one is given, marked as
stale. Only the configured service is reached: no other host, no redirect, no proxy, and no private address unless it
is allowed.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import aiohttp
from msgspec import Struct
from yarl import URL

from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.figures import Figure, by_label
from callboard.actors.infrastructure.answer_cache import AnswerCache, OutsideAnswer
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker, CircuitOpenError
from callboard.actors.infrastructure.outside_errors import (
    AnswerTooLargeError,
    OutsideError,
    QueueFullError,
    RateLimitedError,
    ServiceFailedError,
    parse_retry_after,
)
from callboard.actors.infrastructure.public_addresses import public_socket
from callboard.actors.infrastructure.retry import RANDOM, RetryPolicy, retry
from callboard.runtime import Actor, Backoff

RATE_LIMITED = 429
FAILED = 500
SAFE = frozenset({"GET", "HEAD"})
IDEMPOTENCY_KEY = "Idempotency-Key"


class OutsideSettings(Struct, frozen=True, kw_only=True):
    """One service, and the bounds of everything that is done for it. `within_s` bounds a request with all waits."""

    base_url: str
    headers: Mapping[str, str] = {}  # such as its key; never shown
    connect_s: float = 2.0
    attempt_s: float = 5.0
    within_s: float = 10.0
    attempts: int = 3
    first_pause_s: float = 0.2
    max_pause_s: float = 2.0
    max_retry_after_s: float = 60.0
    concurrency: int = 4
    queue: int = 64
    fresh_s: float = 60.0
    stale_s: float = 3600.0
    cache_bytes: int = 4 << 20
    answer_bytes: int = 1 << 20
    allows_private: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a URL that names no service."""
        url = URL(self.base_url)
        if url.scheme not in {"http", "https"} or not url.host or url.user or url.query_string or url.fragment:
            raise ValueError("the address of a service is http(s)://host[:port][/path]")

    def __repr__(self) -> str:
        """Return the host alone: the headers may have a secret."""
        return f"OutsideSettings({URL(self.base_url).host})"


class OutsideClient:
    """Calls one service. Opened by its owner, on the loop of its calls."""

    def __init__(
        self,
        name: str,
        settings: OutsideSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random = RANDOM,
    ) -> None:
        self.name = name
        self.breaker = CircuitBreaker(name, rng=rng, clock=clock)
        self.outcomes: Counter[str] = Counter()
        self.waiting = 0  # requests, those in progress included
        self._settings = settings
        self._base = URL(settings.base_url)
        self._clock = clock
        self._rng = rng
        self._cache = AnswerCache(settings.fresh_s, settings.stale_s, settings.cache_bytes, clock)
        self._turns = asyncio.Semaphore(settings.concurrency)
        self._paused_until = 0.0
        self._session: aiohttp.ClientSession | None = None
        backoff = Backoff(initial_s=settings.first_pause_s, max_s=settings.max_pause_s, jitter=1.0)
        self._policy = RetryPolicy(settings.attempts, backoff, settings.within_s)

    async def open(self) -> None:
        """Make the session; nothing is connected yet."""
        settings = self._settings
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.concurrency,
                socket_factory=None if settings.allows_private else public_socket,
            ),
            timeout=aiohttp.ClientTimeout(total=settings.attempt_s, sock_connect=settings.connect_s),
            headers=settings.headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the session. Requests in progress fail."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Requests ---------------------------------------------------------------------------------------------------------

    async def get(self, path: str) -> OutsideAnswer:
        """Return an answer of any status but 429 and 5xx: a fresh one of the cache, the service's, or a stale one.

        Raises Problem(SERVER_UNAVAILABLE) without any, and ValueError for a path of another host.
        """
        url = self._url(path)
        if (kept := self._cache.fresh(path)) is not None:
            self.outcomes["cached"] += 1
            return kept
        try:
            answer = await self._request("GET", url)
        except Problem:
            if (kept := self._cache.stale(path)) is None:
                raise
            self.outcomes["stale"] += 1
            return kept
        self._cache.put(path, answer)
        return answer

    async def send(self, method: str, path: str, body: bytes, *, key: str = "", kind: str = "") -> OutsideAnswer:
        """Send a body of a content type. Without an idempotency key it is tried again only if it cannot have arrived.

        Raises like `get`.
        """
        headers = {"Content-Type": kind or "application/json"} | ({IDEMPOTENCY_KEY: key} if key else {})
        return await self._request(method, self._url(path), body, headers)

    def _url(self, path: str) -> URL:
        """Return the URL of a path of the service. Raises ValueError if it would leave the service."""
        url = URL(str(self._base).rstrip("/") + path)
        is_ours = url.origin() == self._base.origin() and url.path.startswith(self._base.path)
        if not path.startswith("/") or path.startswith("//") or "\\" in path or not is_ours:
            raise ValueError("the path leads to another host")
        return url

    async def _request(
        self, method: str, url: URL, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> OutsideAnswer:
        is_repeatable = method in SAFE or IDEMPOTENCY_KEY in (headers or {})
        ends_at = self._clock() + self._settings.within_s
        try:
            async with asyncio.timeout(self._settings.within_s):
                answer = await self._queued(
                    lambda: self._attempt(method, url, body, headers or {}, ends_at),
                    lambda error: _least_wait(error, is_repeatable=is_repeatable),
                )
        except RateLimitedError as error:
            raise self._refusal("limited", error.retry_after_s) from error
        except CircuitOpenError as error:
            raise self._refusal("refused", error.retry_after_s) from error
        except QueueFullError as error:
            raise self._refusal("refused", 1.0) from error
        except (OutsideError, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._refusal("failed", None) from error
        self.outcomes["answered"] += 1
        return answer

    def _refusal(self, outcome: str, retry_after_s: float | None) -> Problem:
        self.outcomes[outcome] += 1
        return Problem(SERVER_UNAVAILABLE, f"{self.name} has no answer; try again.", retry_after_s=retry_after_s)

    async def _queued(
        self, attempt: Callable[[], Awaitable[OutsideAnswer]], wait: Callable[[Exception], float | None]
    ) -> OutsideAnswer:
        if self.waiting >= self._settings.queue + self._settings.concurrency:
            raise QueueFullError
        self.waiting += 1
        try:
            return await retry(attempt, self._policy, wait, self._rng)
        finally:
            self.waiting -= 1

    async def _attempt(
        self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str], ends_at: float
    ) -> OutsideAnswer:
        async with self._turns:
            while (pause_s := self._paused_until - self._clock()) > 0:
                if self._clock() + pause_s >= ends_at:
                    raise RateLimitedError(pause_s)
                await asyncio.sleep(pause_s)
            with self.breaker.call(_fault_of, self._settings.concurrency):
                return await self._exchange(method, url, body, headers)

    async def _exchange(self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str]) -> OutsideAnswer:
        if self._session is None:
            raise ServiceFailedError("the client is closed", None)
        request = self._session.request(method, url, data=body, headers=headers, allow_redirects=False)
        async with request as response:
            if response.status == RATE_LIMITED or response.status >= FAILED:
                retry_after_s = self._capped(parse_retry_after(response.headers.get("Retry-After", "")))
                if response.status >= FAILED:
                    raise ServiceFailedError(f"it answered {response.status}", retry_after_s)
                pause_s = self._settings.max_pause_s if retry_after_s is None else retry_after_s
                self._paused_until = max(self._paused_until, self._clock() + pause_s)
                raise RateLimitedError(pause_s)
            content = bytearray()
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > self._settings.answer_bytes:
                    response.close()
                    raise AnswerTooLargeError(f"its answer exceeds {self._settings.answer_bytes} bytes")
            return OutsideAnswer(response.status, response.content_type, bytes(content))

    def _capped(self, seconds: float | None) -> float | None:
        return None if seconds is None else min(seconds, self._settings.max_retry_after_s)

    # Watching ---------------------------------------------------------------------------------------------------------

    @property
    def figures(self) -> Sequence[Figure]:
        """Return the figures of a department that has this client."""
        return (
            Figure(
                f"callboard_{self.name}_requests",
                f"Requests to {self.name} by outcome: answered, cached, stale, limited, failed, refused.",
                by_label(self.outcomes),
                ("outcome",),
            ),
            Figure(
                f"callboard_{self.name}_waiting",
                f"Requests to {self.name} that wait or are in progress.",
                lambda: {(): float(self.waiting)},
                is_counter=False,
            ),
        )


class OutsideClientKeeper(Actor[None]):
    """Opens the client with the process, and closes it."""

    def __init__(self, client: OutsideClient) -> None:
        self._client = client

    async def on_start(self) -> None:
        """Open it; nothing is connected yet."""
        await self._client.open()

    async def on_stop(self) -> None:
        """Close it."""
        await self._client.close()


def _least_wait(error: Exception, *, is_repeatable: bool) -> float | None:
    """Return how long to wait before another attempt; None if none may follow."""
    if isinstance(error, RateLimitedError):
        return error.retry_after_s
    if isinstance(error, aiohttp.ClientConnectorError):  # nothing has been sent
        return 0.0
    if not is_repeatable:
        return None
    if isinstance(error, ServiceFailedError):
        return error.retry_after_s or 0.0
    return 0.0 if isinstance(error, aiohttp.ClientError | OSError | TimeoutError) else None


def _fault_of(error: Exception) -> str | None:
    """Return the reason if the service is at fault. One that limits us works."""
    if isinstance(error, RateLimitedError | AnswerTooLargeError):
        return ""
    if isinstance(error, ServiceFailedError):
        return str(error)
    return type(error).__name__ if isinstance(error, aiohttp.ClientError | OSError | TimeoutError) else None
