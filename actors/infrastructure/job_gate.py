"""The gate of a kind: holds its jobs back while a server that all of them need is unavailable."""

import random

from callboard.actors.infrastructure.job_kinds import JITTER

FIRST_PROBE_S, LAST_PROBE_S = 1.0, 60.0


class Gate:
    """Holds a kind's jobs back while a server that all of them need is unavailable, and then admits them gradually."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._wait_s = 0.0
        self._closed_until = 0.0
        self._open: int | None = None  # slots; None is all of them

    def away(self, now: float) -> None:
        """Close it, for twice the last time; failures of jobs that were already running do not count."""
        if now < self._closed_until:
            return
        self._wait_s = min(LAST_PROBE_S, max(FIRST_PROBE_S, 2 * self._wait_s))
        self._closed_until = now + self._wait_s * (1 + JITTER * self._rng.random())
        self._open = 1

    def here(self, now: float, slots: int) -> None:
        """Open twice as many slots: a job has reached the server."""
        if self._open is None or now < self._closed_until:
            return
        self._open *= 2
        if self._open >= slots:
            self._open, self._wait_s = None, 0.0

    def allows(self, now: float, slots: int) -> int:
        """Return how many jobs may run."""
        if self._open is None:
            return slots
        return 0 if now < self._closed_until else min(slots, self._open)

    def opens_in(self, now: float) -> float | None:
        """Return the seconds until a probe may run; None if it is open."""
        return self._closed_until - now if self._open is not None and now < self._closed_until else None
