"""The rate limiter: GCRA. Redis decides for all processes in one Lua call; without Redis each process decides alone.

GCRA (ITU-T I.371) keeps one number for each key, the theoretical arrival time of the next request at the allowed pace;
a burst of `limit` is allowed, then one request each `window_s / limit` seconds.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from redis.exceptions import NoScriptError

from callboard.actors.infrastructure.redis import KeySpace, RedisClient
from callboard.runtime import Actor, Request, on

LOCAL_KEYS = 10_000  # the keys of a process's own memory while Redis is unavailable; the oldest are dropped first
CONCURRENCY = 256  # checks of one worker that may wait for Redis together
MAX_BATCH = 500  # keys in one call of the script: more would block Redis, and delay the first of them

# Times are the server's, in seconds, so that processes with different clocks agree. No key is further ahead than its
# window: a policy may have become shorter since. A key that holds no time of ours is overwritten. KEYS: the checked
# keys; ARGV: for each the interval, the window, and the number to count; the reply: for each the number that would have
# passed, and the seconds that the key was ahead of its pace before.
GCRA = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6
local answers = {}
for i, key in ipairs(KEYS) do
    local interval, window = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
    local seen = redis.pcall('GET', key)
    local ahead = tonumber(type(seen) == 'string' and string.match(seen, '^%d+%.%d+$') or now) - now
    ahead = math.min(math.max(ahead, 0), window)
    local free = math.floor((window - ahead) / interval + 1e-6)
    local taken = math.min(free, tonumber(ARGV[3 * i]))
    if taken > 0 then
        local after = ahead + taken * interval
        redis.call('SET', key, string.format('%.6f', now + after), 'PX', math.ceil(after * 1000) + 1)
    end
    answers[2 * i - 1], answers[2 * i] = free, string.format('%.6f', ahead)
end
return answers
"""
GCRA_SHA = hashlib.sha1(GCRA.encode(), usedforsecurity=False).hexdigest()  # Redis's name of the script


class Policy(msgspec.Struct, frozen=True):
    """A number of requests in a window of seconds. A `shadow` policy only counts, and refuses nothing."""

    limit: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    window_s: Annotated[float, Meta(gt=0, le=31 * 86400.0)]
    shadow: bool = False

    @property
    def interval_s(self) -> float:
        """Return the pace: seconds for each request."""
        return self.window_s / self.limit

    def doubled(self) -> "Policy":
        """Return the doubled policy."""
        return msgspec.structs.replace(self, limit=self.limit * 2)


class RateLimit(msgspec.Struct, frozen=True):
    """A limit that a department declares and a route names: `limit` requests in `window_s` seconds.

    The configuration may override the numbers; `setting` is the field of our department's settings for `limit`.
    """

    name: str
    limit: int
    window_s: float
    setting: str = ""

    @property
    def policy(self) -> Policy:
        """Return the declared policy."""
        return Policy(self.limit, self.window_s)


DEFAULT_LIMIT = RateLimit("default", 100, 60, "rate_limit_per_minute")  # for every request, by user or address


class LimitResult(msgspec.Struct, frozen=True):
    """Whether a request may pass; `remaining` more may at once, all may again in `reset_s` seconds.

    A result of a shadow policy is always allowed, and is not shown to the client.
    """

    allowed: bool
    limit: int
    window_s: float
    remaining: int
    reset_s: float
    retry_after_s: float
    shadow: bool = False


class CheckLimit(Request[LimitResult], frozen=True):
    """Count one request of `key` against a policy, or only test whether one would pass now.

    Raises KeyError for a policy that is not configured.
    """

    policy: str
    key: str
    count: bool = True


def verdict(policy: Policy, free: int, ahead_s: float, nth: int) -> LimitResult:
    """Return the result of the `nth` of several simultaneous checks (0 for a test), if `free` could pass and the key
    was `ahead_s` seconds ahead of its pace.
    """
    interval_s, window_s, shadow = policy.interval_s, policy.window_s, policy.shadow
    if free >= (nth or 1):
        return LimitResult(True, policy.limit, window_s, free - nth, ahead_s + nth * interval_s, 0.0, shadow)
    ahead_s += free * interval_s
    return LimitResult(shadow, policy.limit, window_s, 0, ahead_s, max(0.0, ahead_s + interval_s - window_s), shadow)


class LocalLimiter:
    """GCRA in memory, bounded in keys."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, policy: Policy, count: int) -> tuple[int, float]:
        """The same as GCRA in Redis."""
        now = self._now()
        ahead_s = min(max(self._arrivals.get(key, now) - now, 0.0), policy.window_s)
        free = int((policy.window_s - ahead_s) / policy.interval_s + 1e-6)
        if taken := min(free, count):
            self._arrivals[key] = now + ahead_s + taken * policy.interval_s
            self._arrivals.move_to_end(key)
            if len(self._arrivals) > LOCAL_KEYS:
                self._arrivals.popitem(last=False)
        return free, ahead_s

    def check(self, key: str, policy: Policy, *, count: bool = True) -> LimitResult:
        """Count one request, or only test."""
        return verdict(policy, *self.take(key, policy, int(count)), nth=int(count))


class Checks:
    """The checks of one key that go to Redis together."""

    __slots__ = ("message", "policy", "replies")

    def __init__(self, message: CheckLimit, policy: Policy) -> None:
        self.message = message
        self.policy = policy
        self.replies: list[asyncio.Future[LimitResult]] = []

    @property
    def count(self) -> int:
        """Return how many are to be counted."""
        return len(self.replies) if self.message.count else 0

    @property
    def key(self) -> str:
        """The key that these checks are counted under."""
        return f"{self.message.policy}:{self.message.key}"

    def answer(self, free: int, ahead_s: float) -> None:
        """Give each check its result, in order of arrival."""
        for nth, reply in enumerate(self.replies, start=1):
            if not reply.done():
                reply.set_result(verdict(self.policy, free, ahead_s, nth if self.message.count else 0))


Batch = dict[CheckLimit, Checks]


def script(batch: Batch, keys_of: KeySpace) -> tuple[Any, ...]:
    """Return the arguments of the script."""
    keys = [keys_of.key("rate_limit", checks.message.key, checks.message.policy) for checks in batch.values()]
    arguments: list[Any] = []
    for checks in batch.values():
        arguments += (checks.policy.interval_s, checks.policy.window_s, checks.count)
    return len(keys), *keys, *arguments


class LimitBatcher:
    """The state that all workers of the pool share: the policies and the pending checks.

    Checks that arrive during a round trip share the next call of the script, and those of one key share one of its
    keys. `policies` may be changed in place; while `strict` returns false every limit is doubled. `observe` gets the
    policy, the outcome (allowed, refused, or shadowed: it would have been refused) and the number.
    """

    def __init__(
        self,
        cache: RedisClient,
        policies: Mapping[str, Policy],
        now: Callable[[], float],
        *,
        strict: Callable[[], bool] = lambda: True,
        observe: Callable[[str, str, int], None] = lambda _policy, _outcome, _count: None,
    ) -> None:
        self.policies = policies
        self.local = LocalLimiter(now)
        self._cache = cache
        self._strict = strict
        self._observe = observe
        self._gathering: Batch = {}
        cache.add_trial(self._try)

    async def _try(self) -> None:
        """Run the script and count nothing. Raises Redis's error."""
        check = CheckLimit("probe", "server", count=False)
        arguments = script({check: Checks(check, Policy(1, 60))}, self._cache.keys)
        try:
            await self._cache.send("EVALSHA", GCRA_SHA, *arguments)
        except NoScriptError:
            await self._cache.send("EVAL", GCRA, *arguments)

    def check(self, message: CheckLimit) -> "asyncio.Future[LimitResult]":
        """Ask Redis, or decide alone: the limiter never makes a request fail, and a limit always holds.

        The question is sent at once; the awaitable raises KeyError for a policy that is not configured.
        """
        reply: asyncio.Future[LimitResult] = self._cache.loop.create_future()
        batch = self._gathering
        checks = batch.get(message)
        if checks is None:
            policy = self.policies.get(message.policy)
            if policy is None:
                reply.set_exception(KeyError(message.policy))
                return reply
            if not batch or len(batch) == MAX_BATCH:
                batch = self._gathering = {}
                self._cache.send_late(partial(self._begin, batch)).add_done_callback(partial(self._load_script, batch))
            checks = batch[message] = Checks(message, policy if self._strict() else policy.doubled())
        checks.replies.append(reply)
        return reply

    def _begin(self, batch: Batch) -> tuple[Any, ...]:
        self._close(batch)
        return "EVALSHA", GCRA_SHA, *script(batch, self._cache.keys)

    def _close(self, batch: Batch) -> None:
        """Close the batch."""
        if self._gathering is batch:
            self._gathering = {}

    def _load_script(self, batch: Batch, answer: "asyncio.Future[Any]") -> None:
        if isinstance(answer.exception(), NoScriptError):
            self._cache.send("EVAL", GCRA, *script(batch, self._cache.keys)).add_done_callback(
                partial(self._answer_batch, batch)
            )
        else:
            self._answer_batch(batch, answer)

    def _answer_batch(self, batch: Batch, answer: "asyncio.Future[Any]") -> None:
        if answer.exception() is None:
            told = answer.result()
            for checks, free, ahead_s in zip(batch.values(), told[::2], told[1::2], strict=True):
                self._tell(checks, int(free), float(ahead_s))
            return
        self._close(batch)  # it is not sent yet
        for checks in batch.values():
            self._tell(checks, *self.local.take(checks.key, checks.policy, checks.count))

    def _tell(self, checks: Checks, free: int, ahead_s: float) -> None:
        checks.answer(free, ahead_s)
        if checks.count:
            passed, policy = min(free, checks.count), checks.message.policy
            self._observe(policy, "allowed", passed)
            if passed < checks.count:
                self._observe(policy, "shadowed" if checks.policy.shadow else "refused", checks.count - passed)


class RateLimiter(Actor[CheckLimit]):
    """Checks limits. Its workers share one limiter, so they keep no order: Redis decides each key by itself."""

    concurrency = CONCURRENCY

    def __init__(self, limiter: LimitBatcher) -> None:
        self.limiter = limiter

    @on(CheckLimit)
    async def check(self, message: CheckLimit) -> LimitResult:
        """See RateLimiter.check."""
        return await self.limiter.check(message)
