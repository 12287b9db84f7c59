"""The rate limiter: GCRA, decided in one Lua call by Redis for all processes, or by this process alone without it.

GCRA (ITU-T I.371) keeps one number for each key, the theoretical arrival time of the next request at the allowed
pace; a burst of `limit` is allowed, then one request each `window_s / limit` seconds.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from callboard.actors.cache import Cache, CacheAwayError
from callboard.runtime import Actor, Request, on

LOCAL_KEYS = 10_000  # what a process remembers by itself while Redis is away; the oldest are forgotten first

# Times are the server's, in seconds, so that processes with different clocks agree.
# KEYS: 1 the key; ARGV: 1 the interval, 2 the burst's length, 3 whether to count, and not only to look; answers:
# allowed, seconds the key is ahead of its pace.
GCRA = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local ahead = tat + interval - now
if ahead > burst + 1e-6 then return {0, tostring(tat - now)} end
if ARGV[3] == '1' then
    redis.call('SET', KEYS[1], string.format('%.6f', tat + interval), 'PX', math.ceil(ahead * 1000) + 1)
end
return {1, tostring(ahead)}
"""


class Policy(msgspec.Struct, frozen=True):
    """So many requests in a window of so many seconds, at most."""

    limit: int
    window_s: float

    @property
    def interval_s(self) -> float:
        """The pace: seconds for each request."""
        return self.window_s / self.limit


class Verdict(msgspec.Struct, frozen=True):
    """Whether a request may pass; `remaining` more may at once, all may again in `reset_s` seconds."""

    allowed: bool
    limit: int
    window_s: float
    remaining: int
    reset_s: float
    retry_after_s: float


class CheckLimit(Request[Verdict], frozen=True):
    """Count one request of `key` against a policy, or only look whether one would pass now.

    Raises KeyError for a policy that is not configured.
    """

    policy: str
    key: str
    count: bool = True


def verdict(policy: Policy, allowed: bool, ahead_s: float) -> Verdict:
    """What to tell the client whose key is `ahead_s` seconds ahead of its pace, this request included if allowed."""
    left_s = policy.window_s - ahead_s
    return Verdict(
        allowed=allowed,
        limit=policy.limit,
        window_s=policy.window_s,
        remaining=max(0, int(left_s / policy.interval_s + 1e-6)) if allowed else 0,
        reset_s=ahead_s,
        retry_after_s=0.0 if allowed else max(0.0, ahead_s + policy.interval_s - policy.window_s),
    )


class LocalLimiter:
    """GCRA in memory, bounded in keys."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def check(self, key: str, policy: Policy, *, count: bool = True) -> Verdict:
        """Count one request, or only look."""
        now = self._now()
        arrival = max(self._arrivals.get(key, now), now)
        ahead_s = arrival + policy.interval_s - now
        if ahead_s > policy.window_s + 1e-6:
            return verdict(policy, allowed=False, ahead_s=arrival - now)
        if not count:
            return verdict(policy, allowed=True, ahead_s=ahead_s)
        self._arrivals[key] = arrival + policy.interval_s
        self._arrivals.move_to_end(key)
        if len(self._arrivals) > LOCAL_KEYS:
            self._arrivals.popitem(last=False)
        return verdict(policy, allowed=True, ahead_s=ahead_s)


class Limits(Actor[CheckLimit]):
    """Checks limits; a pool of these is keyed by the limited key, so that one key's checks are in order."""

    def __init__(self, cache: Cache, policies: Mapping[str, Policy], now: Callable[[], float]) -> None:
        self.cache = cache
        self.policies = policies
        self.local = LocalLimiter(now)

    @on(CheckLimit)
    async def check(self, message: CheckLimit) -> Verdict:
        """Ask Redis, or decide alone: a limit is never the reason why a request fails, and never falls away."""
        policy = self.policies[message.policy]
        key = f"limit:{message.policy}:{message.key}"

        async def run(client: Any) -> Any:
            return await client.eval(GCRA, 1, key, policy.interval_s, policy.window_s, int(message.count))

        try:
            allowed, ahead_s = await self.cache.call(run)
        except CacheAwayError:
            return self.local.check(key, policy, count=message.count)
        return verdict(policy, bool(allowed), float(ahead_s))
