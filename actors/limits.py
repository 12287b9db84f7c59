"""The rate limiter: GCRA, decided in one Lua call by Redis for all processes, or by this process alone without it.

GCRA (ITU-T I.371) keeps one number for each key, the theoretical arrival time of the next request at the allowed
pace; a burst of `limit` is allowed, then one request each `window_s / limit` seconds.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from callboard.actors.cache import Cache
from callboard.runtime import Actor, Request, on

LOCAL_KEYS = 10_000  # what a process remembers by itself while Redis is away; the oldest are forgotten first
AT_ONCE = 256  # checks of one worker that may wait for Redis together

# Times are the server's, in seconds, so that processes with different clocks agree. No key is further ahead than its
# window: a policy may have become shorter since.
# KEYS: 1 the key; ARGV: 1 the interval, 2 the window, 3 how many to count; answers: how many would have passed, and
# how many seconds the key was ahead of its pace before.
GCRA = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6
local interval, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local ahead = tonumber(redis.call('GET', KEYS[1]) or now) - now
ahead = math.min(math.max(ahead, 0), window)
local free = math.floor((window - ahead) / interval + 1e-6)
local taken = math.min(free, tonumber(ARGV[3]))
if taken > 0 then
    local after = ahead + taken * interval
    redis.call('SET', KEYS[1], string.format('%.6f', now + after), 'PX', math.ceil(after * 1000) + 1)
end
return {free, string.format('%.6f', ahead)}
"""
GCRA_SHA = hashlib.sha1(GCRA.encode(), usedforsecurity=False).hexdigest()  # as Redis names scripts


class Policy(msgspec.Struct, frozen=True):
    """So many requests in a window of so many seconds, at most. In the shadow it only counts, and refuses nothing."""

    limit: int
    window_s: float
    shadow: bool = False

    @property
    def interval_s(self) -> float:
        """The pace: seconds for each request."""
        return self.window_s / self.limit

    def halved(self) -> "Policy":
        """The strict form."""
        return msgspec.structs.replace(self, limit=max(1, self.limit // 2))


class Verdict(msgspec.Struct, frozen=True):
    """Whether a request may pass; `remaining` more may at once, all may again in `reset_s` seconds.

    One of a policy in the shadow is always allowed, and is not for the client to see.
    """

    allowed: bool
    limit: int
    window_s: float
    remaining: int
    reset_s: float
    retry_after_s: float
    shadow: bool = False


class CheckLimit(Request[Verdict], frozen=True):
    """Count one request of `key` against a policy, or only look whether one would pass now.

    Raises KeyError for a policy that is not configured.
    """

    policy: str
    key: str
    count: bool = True


def verdict(policy: Policy, free: int, ahead_s: float, nth: int) -> Verdict:
    """What to tell the `nth` of those that came at once (0 for one that only looks), when `free` could pass and the
    key was `ahead_s` seconds ahead of its pace.
    """
    allowed = free >= max(nth, 1)
    ahead_s += min(nth, free) * policy.interval_s
    return Verdict(
        allowed=allowed or policy.shadow,
        limit=policy.limit,
        window_s=policy.window_s,
        remaining=max(0, free - nth),
        reset_s=ahead_s,
        retry_after_s=0.0 if allowed else max(0.0, ahead_s + policy.interval_s - policy.window_s),
        shadow=policy.shadow,
    )


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

    def check(self, key: str, policy: Policy, *, count: bool = True) -> Verdict:
        """Count one request, or only look."""
        return verdict(policy, *self.take(key, policy, int(count)), nth=int(count))


class Checks:
    """Those of one key that go to Redis together."""

    def __init__(self, message: CheckLimit, policy: Policy) -> None:
        self.message = message
        self.policy = policy
        self.replies: list[asyncio.Future[Verdict]] = []

    @property
    def count(self) -> int:
        """How many are to be counted."""
        return len(self.replies) if self.message.count else 0

    def script(self) -> tuple[Any, ...]:
        """What the script is given."""
        policy, key = self.policy, f"limit:{self.message.policy}:{self.message.key}"
        return 1, key, policy.interval_s, policy.window_s, self.count

    def answer(self, free: int, ahead_s: float) -> None:
        """Give each its verdict, in the order they came."""
        for nth, reply in enumerate(self.replies, start=1):
            if not reply.done():
                reply.set_result(verdict(self.policy, free, ahead_s, nth if self.message.count else 0))


class Limiter:
    """What all workers of the pool share: the policies, and what is being asked.

    Checks of one key that come up while a round trip is under way are one call of the script in the next.
    `policies` may be changed in place; while `strict` says so every limit is halved. `observe` is told the policy, the
    outcome (allowed, refused, or shadowed: it would have been) and how many.
    """

    def __init__(
        self,
        cache: Cache,
        policies: Mapping[str, Policy],
        now: Callable[[], float],
        *,
        strict: Callable[[], bool] = lambda: False,
        observe: Callable[[str, str, int], None] = lambda _policy, _outcome, _count: None,
    ) -> None:
        self.policies = policies
        self.local = LocalLimiter(now)
        self._cache = cache
        self._strict = strict
        self._observe = observe
        self._gathering: dict[CheckLimit, Checks] = {}

    def check(self, message: CheckLimit) -> "asyncio.Future[Verdict]":
        """Ask Redis, or decide alone: a limit is never the reason why a request fails, and never falls away.

        Raises KeyError for a policy that is not configured.
        """
        reply: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        checks = self._gathering.get(message)
        if checks is None:
            policy = self.policies[message.policy]
            checks = self._gathering[message] = Checks(message, policy.halved() if self._strict() else policy)
            self._cache.send_late(partial(self._begin, checks)).add_done_callback(partial(self._teach, checks))
        checks.replies.append(reply)
        return reply

    def _begin(self, checks: Checks) -> tuple[Any, ...]:
        del self._gathering[checks.message]
        return "EVALSHA", GCRA_SHA, *checks.script()

    def _teach(self, checks: Checks, answer: "asyncio.Future[Any]") -> None:
        if isinstance(answer.exception(), NoScriptError):
            self._cache.send("EVAL", GCRA, *checks.script()).add_done_callback(partial(self._settle, checks))
        else:
            self._settle(checks, answer)

    def _settle(self, checks: Checks, answer: "asyncio.Future[Any]") -> None:
        message = checks.message
        if answer.exception() is None:
            told_free, told_ahead = answer.result()
            free, ahead_s = int(told_free), float(told_ahead)
        else:
            if self._gathering.get(message) is checks:  # it has not gone
                del self._gathering[message]
            free, ahead_s = self.local.take(f"{message.policy}:{message.key}", checks.policy, checks.count)
        checks.answer(free, ahead_s)
        if checks.count:
            passed = min(free, checks.count)
            self._observe(message.policy, "allowed", passed)
            self._observe(message.policy, "shadowed" if checks.policy.shadow else "refused", checks.count - passed)


class Limits(Actor[CheckLimit]):
    """Checks limits. Its workers share one limiter, so they keep no order: Redis decides each key by itself."""

    concurrency = AT_ONCE

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter

    @on(CheckLimit)
    async def check(self, message: CheckLimit) -> Verdict:
        """See Limiter.check."""
        return await self.limiter.check(message)
