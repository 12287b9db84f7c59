"""Timers: messages that an actor tells itself later. They die with the incarnation that made them."""

from typing import TYPE_CHECKING, Any

from callboard.runtime.errors import ActorStoppedError, MailboxFullError

if TYPE_CHECKING:
    from callboard.runtime.inbox import Inbox
    from callboard.runtime.system import System


class Timer:
    """A pending `after` or `every`."""

    __slots__ = ("_cell", "_handle", "_interval_s", "_message", "_system", "_timers")

    def __init__(
        self,
        cell: "Inbox",
        timers: "set[Timer]",
        message: Any,
        *,
        system: "System",
        delay_s: float,
        interval_s: float | None,
    ) -> None:
        self._cell = cell
        self._timers = timers
        self._system = system
        self._message = message
        self._interval_s = interval_s
        self._arm(delay_s)

    def _arm(self, delay_s: float) -> None:
        self._handle = self._system.loop.call_later(delay_s, self._tick, context=self._system.context)

    def _tick(self) -> None:
        if self._interval_s is None:
            self._timers.discard(self)
        else:
            self._arm(self._interval_s)
        try:
            self._cell.put(self._message, self._message, may_wait=False)
        except (MailboxFullError, ActorStoppedError):
            return  # a tick that finds no room is missed, and was reported as an overflow

    def cancel(self) -> None:
        """Tick no more. Harmless when it has ticked or was cancelled before."""
        self._handle.cancel()
        self._timers.discard(self)
