"""Rates: how many messages a second an actor handles, from what two looks at its counts differ by.

Nothing is measured in between, so that a rate costs only those who look.
"""

from typing import Any
from weakref import WeakKeyDictionary

import msgspec

SHORTEST_S = 1.0  # looks that come sooner one after another share a rate


class Look(msgspec.Struct):
    """When an actor was looked at, how many messages it had handled by then, and its rate since the look before."""

    at: float
    handled: int
    per_s: float | None = None


class Rates:
    """The last look at each actor that anyone has looked at."""

    def __init__(self) -> None:
        self._looks: WeakKeyDictionary[Any, Look] = WeakKeyDictionary()

    def per_s(self, actor: Any, handled: int, now: float) -> float | None:
        """The rate from the last look to this one; from the first one there is none."""
        last = self._looks.get(actor)
        if last is None:
            self._looks[actor] = Look(now, handled)
            return None
        if now - last.at >= SHORTEST_S:
            last.per_s = round((handled - last.handled) / (now - last.at), 1)
            last.at, last.handled = now, handled
        return last.per_s
