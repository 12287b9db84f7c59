"""Timers: messages that an actor tells itself later. They die with the incarnation that made them."""

import math
from typing import TYPE_CHECKING, Any, Protocol

from callboard.runtime.actor.context import CURRENT
from callboard.runtime.actor.envelope import Envelope, timer_of
from callboard.runtime.actor.errors import ActorStoppedError, MailboxFullError, UnhandledMessageError
from callboard.runtime.dispatch.mailbox_queue import take_out
from callboard.runtime.dispatch.scheduler import Scheduler

if TYPE_CHECKING:
    from callboard.runtime.dispatch.cell import Cell


class TimerTarget(Protocol):
    """The port through which a timer ticks for its actor."""

    @property
    def scheduler(self) -> Scheduler | None:
        """Where it has its turns; None before its start."""

    @property
    def timers(self) -> "Timers":
        """Its pending timers."""
        raise NotImplementedError

    @property
    def path(self) -> str:
        """The full name."""
        raise NotImplementedError

    def enqueue(self, message: Any, item: Any, *, may_wait: bool = True) -> Any:
        """See Ref.enqueue."""

    def holds(self, item: Any) -> bool:
        """Whether a message waits, is put aside or is in progress."""
        raise NotImplementedError

    def expire_ticks(self, timer: Any) -> None:
        """Take the ticks of one timer, or of all, out of the mailbox."""


class Timers:
    """The pending timers of one incarnation; `ticked` says that a tick may be in the mailbox."""

    __slots__ = ("pending", "ticked")

    def __init__(self) -> None:
        self.pending: set[ActorTimer] = set()
        self.ticked = False

    def cancel_all(self) -> None:
        """Tick no more."""
        while self.pending:
            self.pending.pop().cancel_scheduled()


class ActorTimer:
    """A pending `after` or `every`. A tick of `after` carries on the whole context under which it was made; one of
    `every` only the trace, for it outlives what it was made for.
    """

    __slots__ = ("_baggage", "_deadline", "_handle", "_interval_s", "_last", "_message", "_target", "_traceparent")

    def __init__(self, target: TimerTarget, message: Any, delay_s: float, interval_s: float | None) -> None:
        current = CURRENT.get()
        carried = None if current is None else current.carries()
        once = interval_s is None
        self._target = target
        self._message = message
        self._interval_s = interval_s
        self._last: Envelope | None = None  # the tick before
        self._traceparent = carried.traceparent if carried is not None else None
        self._deadline = carried.deadline if carried is not None and once else None
        self._baggage = carried.baggage if carried is not None and once else None
        self._arm(delay_s)

    def _arm(self, delay_s: float) -> None:
        scheduler = self._target.scheduler
        if scheduler is None:
            raise RuntimeError(f"{self._target.path} has not been started: make timers in on_start or later")
        self._handle = scheduler.loop.call_later(delay_s, self._tick, context=scheduler.context)

    def _tick(self) -> None:
        if self._interval_s is None:
            self._target.timers.pending.discard(self)
        else:
            self._arm(self._interval_s)
            if self._last is not None and self._target.holds(self._last):
                return  # one at a time
        # Always in an envelope: by it the tick is found again, when its timer is cancelled before it is handled.
        tick = Envelope(self._message, self._traceparent, self._deadline, baggage=self._baggage, timer=self)
        self._last = tick
        try:
            self._target.timers.ticked = True
            self._target.enqueue(self._message, tick, may_wait=False)
        except (MailboxFullError, ActorStoppedError):
            return  # a tick that finds no room is missed, and was reported as an overflow

    def cancel_scheduled(self) -> None:
        """Tick no more; what has ticked is not taken back."""
        self._handle.cancel()

    def cancel(self) -> None:
        """See Timer."""
        self.cancel_scheduled()
        self._target.timers.pending.discard(self)
        if self._target.timers.ticked:
            self._target.expire_ticks(self)


def start_timer(cell: "Cell[Any]", message: Any, delay_s: float, interval_s: float | None = None) -> ActorTimer:
    """Make a timer of the current incarnation. See Actor.after and Actor.every."""
    if message.__class__ not in cell.table:
        raise UnhandledMessageError(cell.path, message, sorted(kind.__name__ for kind in cell.handlers.all))
    if interval_s is not None and not interval_s > 0:
        raise ValueError(f"{cell.path} can tick every so many seconds, not every {interval_s:g} s")
    if math.isnan(delay_s):
        raise ValueError(
            f"{cell.path} can tick after a number of seconds, not nan: it would disorder the loop's timers"
        )
    timer = ActorTimer(cell, message, delay_s, interval_s)
    cell.timers.pending.add(timer)
    return timer


def expire_ticks(cell: "Cell[Any]", timer: Any) -> None:
    """Take the ticks of one timer, or of all, out of the mailbox and the stash."""
    cell.end_batch()
    stash = None if cell.cold is None else cell.cold.stash
    waiting: Any
    for waiting in (cell.queue, () if stash is None else stash.items):
        for tick in [item for item in waiting if (of := timer_of(item)) is not None and timer in (None, of)]:
            take_out(waiting, tick)
            cell.cold_state.counts.expired += 1
