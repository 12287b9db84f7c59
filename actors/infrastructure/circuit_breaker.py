"""The circuit breaker: keeps calls from a server that is unavailable, and lets them through gradually when it is back.

It counts nothing and reads no clock: its owner passes the time and counts the calls that are running. A cancelled call
is neither a success nor a failure.
"""

import random

JITTER = 0.2
FIRST_PROBE_S, LAST_PROBE_S = 1.0, 60.0


class CircuitBreaker:
    """Open for 1 s after a failure, and for twice as long after each failed probe, 60 s at most.

    Then one call is the probe. After each success twice as many calls may run, until all may.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._wait_s = 0.0
        self._open_until = 0.0
        self._allowed: int | None = None  # calls; None is all of them

    def failed(self, now: float) -> None:
        """Open. Failures of calls that were already running do not count."""
        if now < self._open_until:
            return
        self._wait_s = min(LAST_PROBE_S, max(FIRST_PROBE_S, 2 * self._wait_s))
        self._open_until = now + self._wait_s * (1 + JITTER * self._rng.random())
        self._allowed = 1

    def succeeded(self, now: float, most: int) -> None:
        """Allow twice as many calls: one has reached the server."""
        if self._allowed is None or now < self._open_until:
            return
        self._allowed *= 2
        if self._allowed >= most:
            self._allowed, self._wait_s = None, 0.0

    def allows(self, now: float, most: int) -> int:
        """Return how many calls may run, of `most`."""
        if self._allowed is None:
            return most
        return 0 if now < self._open_until else min(most, self._allowed)

    def probe_in(self, now: float) -> float | None:
        """Return the seconds until a call may probe the server; None unless the breaker is open."""
        return self._open_until - now if self._allowed is not None and now < self._open_until else None
