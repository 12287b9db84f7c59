"""How long callers may wait for Redis in all: slow round trips share the time of one that has no reply."""

TIMEOUT_S = 0.25  # the time that slow round trips may take together, waits for a turn included
LEAST_S = 0.05  # the time of a round trip, however long its commands have waited; a longer one is slow
RECOVERY = 0.1  # the share of the time by which slow round trips are forgiven


class SharedTimeLimit:
    """The time that is left for slow round trips: TIMEOUT_S at once, and a tenth of the time after that.

    A request that sends many commands one after another loses no more to a slow server than to one that hangs; nor does
    one to a server that is slow again and again, between probes that succeed.
    """

    def __init__(self) -> None:
        self._spent_s = 0.0
        self._at = 0.0

    def left_s(self, now: float) -> float:
        """Return the seconds that are left, by the loop's time."""
        self._spent_s = max(0.0, self._spent_s - RECOVERY * (now - self._at))
        self._at = now
        return TIMEOUT_S - self._spent_s

    def note(self, took_s: float) -> None:
        """Note how long a round trip took."""
        if took_s > LEAST_S:
            self._spent_s += took_s
