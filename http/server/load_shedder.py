"""Overload: a route that answers too slowly refuses requests at once, instead of letting all of them wait until nobody
waits for their answer any more.

A queue that is longer than the time limit is the end of all answers: the server works only on requests whose clients
have gone. So each route has a limit of requests in progress, which follows its pace: as many as it ends in the target
time. A route of its own, because a flood of searches must not refuse anything but searches.
"""

from collections.abc import Callable
from math import inf

from callboard.actors.errors import SERVER_OVERLOADED, Problem

INTERVAL_S = 1.0  # a shorter stall of the machine is no overload
FLOOR = 32  # requests that are always admitted: more than there are connections to PostgreSQL
GROWTH = 2.0  # of the limit, in each interval without overload
CEILING = 1000.0  # above it there is no limit
RETRY_AFTER_S = 1.0


class LoadShedder:
    """The requests in progress of one route. `target_s` is the mean time of an answer above which there are too many;
    `time` is the loop's.
    """

    __slots__ = ("_began", "_ended", "_target_s", "_time", "_took_s", "in_progress", "limit")

    def __init__(self, target_s: float, time: Callable[[], float]) -> None:
        self.limit = inf
        self.in_progress = 0
        self._target_s = target_s
        self._time = time
        self._begin(time())

    def enter(self) -> float:
        """Admit a request and return the time. Raises Problem(SERVER_OVERLOADED)."""
        if self.in_progress >= self.limit:
            raise Problem(SERVER_OVERLOADED, retry_after_s=RETRY_AFTER_S)
        self.in_progress += 1
        return self._time()

    def leave(self, entered: float) -> None:
        """End a request that was admitted then."""
        now = self._time()
        self.in_progress -= 1
        self._ended += 1
        self._took_s += now - entered
        if now - self._began >= INTERVAL_S:
            self._judge(now)
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._began, self._ended, self._took_s = now, 0, 0.0

    def _judge(self, now: float) -> None:
        """Set the limit for the next interval: the number in progress is the rate of ends times their mean time."""
        if self._took_s / self._ended > self._target_s:
            self.limit = max(FLOOR, self._ended / (now - self._began) * self._target_s)
        elif self.limit < CEILING:
            self.limit *= GROWTH
        else:
            self.limit = inf
