"""Circuit breakers: each keeps calls from one server while it is unavailable, and then lets them through gradually.

Whoever calls a server says whether a failure is the server's: a fault of the request itself never opens a breaker, and
a cancelled call is neither a success nor a failure. Every breaker of a process is in its metrics, and in the operators'
/ready.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from callboard.actors.errors import DegradedError

JITTER = 0.2
FIRST_PROBE_S, LAST_PROBE_S = 1.0, 60.0
MAX_REASON = 200  # characters

Fault = Callable[[Exception], str | None]


class BreakerState(StrEnum):
    """Whether calls reach the server: all of them, a few as probes, or none."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class CircuitOpenError(Exception):
    """The breaker let a call not through: its server has failed a moment ago, or other calls probe it now."""

    def __init__(self, name: str, retry_after_s: float | None) -> None:
        super().__init__(f"{name} has failed a moment ago, and is not called")
        self.retry_after_s = retry_after_s


class CircuitBreaker:
    """Open for `first_s` after a failure, and for twice as long after each failed probe, `last_s` at most.

    Then one call is the probe. After each success twice as many calls may run, until all may. A server that its own
    connector probes is `closed` by that instead, and never half open for its callers. All times are of one monotonic
    clock.
    """

    def __init__(
        self,
        name: str,
        *,
        first_s: float = FIRST_PROBE_S,
        last_s: float = LAST_PROBE_S,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.reason = ""  # of the last failure
        self.opened = 0
        self.refused = 0
        self.running = 0  # calls made by `call`
        self.clock = clock
        self._first_s, self._last_s = first_s, last_s
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._wait_s = 0.0
        self._open_until = 0.0
        self._allowed: int | None = None  # calls; None is all of them

    # Transitions ------------------------------------------------------------------------------------------------------

    def failed(self, now: float, reason: str = "") -> None:
        """Open. Failures of calls that were already running do not count."""
        if self.state(now) is BreakerState.OPEN:
            return
        self.reason = reason[:MAX_REASON]
        self.opened += 1
        self._wait_s = min(self._last_s, max(self._first_s, 2 * self._wait_s))
        self._open_until = now + self._wait_s * (1 + JITTER * self._rng.random())
        self._allowed = 1

    def succeeded(self, now: float, most: int) -> None:
        """Allow twice as many calls: one has reached the server."""
        if self._allowed is None or now < self._open_until:
            return
        self._allowed *= 2
        if self._allowed >= most:
            self.close()

    def close(self) -> None:
        """Let every call through."""
        self._allowed, self._wait_s = None, 0.0

    # Questions --------------------------------------------------------------------------------------------------------

    def state(self, now: float) -> BreakerState:
        """Return the state."""
        if self._allowed is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def allows(self, now: float, most: int) -> int:
        """Return how many calls may run, of `most`."""
        if self._allowed is None:
            return most
        return 0 if now < self._open_until else min(most, self._allowed)

    def has_room(self, most: int) -> bool:
        """Whether one more call may be made; one that may not is counted."""
        has_room = self.running < self.allows(self.clock(), most)
        self.refused += not has_room
        return has_room

    def probe_in(self, now: float) -> float | None:
        """Return the seconds until a call may probe the server; None unless the breaker is open."""
        return self._open_until - now if self.state(now) is BreakerState.OPEN else None

    async def until_probe(self) -> None:
        """Wait until a call may probe the server."""
        await asyncio.sleep(self.probe_in(self.clock()) or 0.0)

    async def check(self) -> None:
        """Raise DegradedError while the breaker is open."""
        if self.state(self.clock()) is BreakerState.OPEN:
            raise DegradedError(f"open: {self.reason or 'it failed'}; {self.refused} calls refused so far")

    # Calls ------------------------------------------------------------------------------------------------------------

    @contextmanager
    def call(self, fault: Fault, most: int, *, even_if_open: bool = False) -> Iterator[None]:
        """Count a call in the block, and note how it ended. Raises CircuitOpenError if it may not be made.

        `fault` returns the reason if the server is at fault, an empty one if the server has answered and the request
        is, and None if the error says nothing of the server.
        """
        if not even_if_open and not self.has_room(most):
            raise CircuitOpenError(self.name, self.probe_in(self.clock()))
        self.running += 1
        try:
            yield
        except Exception as error:
            reason = fault(error)
            if reason:
                self.failed(self.clock(), reason)
            elif reason is not None:
                self.succeeded(self.clock(), most)
            raise
        else:
            self.succeeded(self.clock(), most)
        finally:
            self.running -= 1
