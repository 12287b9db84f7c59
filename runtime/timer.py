"""Timers: messages that an actor tells itself later. They die with the incarnation that made them."""

from typing import TYPE_CHECKING, Any

from callboard.runtime.context import CURRENT, Envelope
from callboard.runtime.errors import ActorStoppedError, MailboxFullError
from callboard.runtime.ref import time_left

if TYPE_CHECKING:
    from callboard.runtime.life import Life


class Timer:
    """A pending `after` or `every`. A tick of `after` carries on the whole context under which it was made; one of
    `every` only the trace, for it outlives what it was made for.
    """

    __slots__ = ("_baggage", "_cell", "_deadline", "_handle", "_interval_s", "_last", "_message", "_traceparent")

    def __init__(self, cell: "Life[Any]", message: Any, delay_s: float, interval_s: float | None) -> None:
        current = CURRENT.get()
        self._cell = cell
        self._message = message
        self._interval_s = interval_s
        self._last: Envelope | None = None  # the tick before
        self._traceparent = current.traceparent if current is not None else None
        self._deadline = time_left(current) if current is not None and interval_s is None else None
        self._baggage = current.baggage if current is not None and interval_s is None else None
        self._arm(delay_s)

    def _arm(self, delay_s: float) -> None:
        system = self._cell.system
        if system is None:
            raise RuntimeError(f"{self._cell.path} has not been started: make timers in on_start or later")
        self._handle = system.loop.call_later(delay_s, self._tick, context=system.context)

    def _tick(self) -> None:
        if self._interval_s is None:
            self._cell.record.timers.discard(self)
        else:
            self._arm(self._interval_s)
            if self._last is not None and self._cell.holds(self._last):
                return
        # Always in an envelope: by it the tick is found again, when its timer is cancelled before it is handled.
        tick = Envelope(self._message, self._traceparent, self._deadline, asks=self, baggage=self._baggage)
        self._last = tick
        try:
            self._cell.record.ticked = True
            self._cell.put(self._message, tick, may_wait=False)
        except (MailboxFullError, ActorStoppedError):
            return  # a tick that finds no room is missed, and was reported as an overflow

    def disarm(self) -> None:
        """Tick no more; what has ticked is not taken back."""
        self._handle.cancel()

    def cancel(self) -> None:
        """Tick no more, not even with a tick that waits in the mailbox. Harmless when that was handled before."""
        self.disarm()
        self._cell.record.timers.discard(self)
        if self._cell.record.ticked:
            self._cell.cut_burst()
            self._cell.expire_ticks(self)
