"""The gate of a kind: keeps its jobs back while a server that all of them need is away."""

import random

from callboard.actors.infrastructure.job_kinds import JITTER

FIRST_PROBE_S, LAST_PROBE_S = 1.0, 60.0


class Gate:
    """Keeps a kind's jobs back while a server that all of them need is away, and lets them come again by and by."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._wait_s = 0.0
        self._closed_until = 0.0
        self._open: int | None = None  # slots; None is all of them

    def away(self, now: float) -> None:
        """Close it, for twice as long as the last time; what was on its way at the same time says nothing new."""
        if now < self._closed_until:
            return
        self._wait_s = min(LAST_PROBE_S, max(FIRST_PROBE_S, 2 * self._wait_s))
        self._closed_until = now + self._wait_s * (1 + JITTER * self._rng.random())
        self._open = 1

    def here(self, now: float, slots: int) -> None:
        """Open twice as many slots: a job has found the server."""
        if self._open is None or now < self._closed_until:
            return
        self._open *= 2
        if self._open >= slots:
            self._open, self._wait_s = None, 0.0

    def allows(self, now: float, slots: int) -> int:
        """How many jobs may run."""
        if self._open is None:
            return slots
        return 0 if now < self._closed_until else min(slots, self._open)

    def opens_in(self, now: float) -> float | None:
        """Seconds until a probe may go; None when it is not closed."""
        return self._closed_until - now if self._open is not None and now < self._closed_until else None
