"""The loop monitor: which handler holds up the event loop, for how long, and how late the loop is.

The hot path knows nothing of it, and a loop that rests is not woken. A thread glances at the thread of the loop. When
that is at something, it asks the loop to call back, and looks until it does: it finds the actor and its message in the
frame of the cell that called the handler.
"""

import asyncio
import selectors
import sys
import threading
from time import monotonic, perf_counter
from types import FrameType, TracebackType
from typing import Protocol, Self

import msgspec

from callboard.runtime.actor.actor import Actor
from callboard.runtime.actor.envelope import message_of
from callboard.runtime.actor.events import HandlerBlocked
from callboard.runtime.dispatch import lifecycle
from callboard.runtime.dispatch.cell import Cell
from callboard.runtime.dispatch.concurrent import ConcurrentCell
from callboard.runtime.dispatch.parked_task import ParkedTask
from callboard.runtime.dispatch.scheduler import Scheduler

GLANCES = 2  # in the time that is a stall, while the loop rests
IDLE_S = 1.0  # a loop that has rested at each glance for this time is idle ...
IDLE_GLANCES = 1.1  # ... and fewer are enough: each wakes the processor, and one still falls into every stall
LOOKS = 10  # in the same time, while the loop is at something
BEAT_S = 5.0  # between two measures of the lag of a loop that rests
HALF_MINUTE_S = 30.0

# Frames with the message in `item`, and those of work beside messages; with the cell in `cell`, or in `self`.
_IN_HAND = {
    method.__code__
    for method in (Cell._handle_one, Cell._handle_many, ParkedTask._handle, ConcurrentCell._finish)  # noqa: SLF001 - it is looked for
}
_SELECTS = {
    selector.select.__code__
    for selector in vars(selectors).values()
    if isinstance(selector, type) and issubclass(selector, selectors.BaseSelector)
}
_BESIDE = {lifecycle._run.__code__: "run", lifecycle.start.__code__: "on_start"}  # noqa: SLF001 - the same


class Work(msgspec.Struct, eq=False):
    """The work of a thread: the frame tells one call of a handler from the next, `where` is the innermost line."""

    frame: FrameType
    actor: str
    message: str
    where: str
    began: float = 0.0  # at the earliest
    ended: float | None = None


class Scheduled(Protocol):
    """An object with a scheduler: a System."""

    @property
    def scheduler(self) -> Scheduler:
        """The one whose loop is watched."""
        raise NotImplementedError


class LoopMonitor:
    """Reports what blocks the loop for `after_s` or more as a HandlerBlocked event, as soon as the loop is back.

    `async with LoopMonitor(system): ...`, or `System(..., stall_after_s=0.1)`. Under virtual time it does nothing:
    there every handler takes no time. Durations are never too short. They are too long by half of `after_s` at most, or
    by nearly all of it after a second of rest, and by less where the cell knows since when its message waited.
    """

    def __init__(self, system: "Scheduled", after_s: float = 0.1) -> None:
        if after_s <= 0:
            raise ValueError(f"a stall takes more than no time, not {after_s:g} s")
        self._scheduler = system.scheduler
        self._after_s = after_s
        self._beat_at = self._turned_at = perf_counter()
        self._beating: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._loop_thread = 0
        self._resting = _SELECTS  # the code that a loop is in while it waits
        self._watching = threading.Lock()  # held while it watches: a lock costs a third less to wait for than an Event
        self._lag_s = 0.0
        self._max_lags_s = [0.0, 0.0]  # in this half minute and the one before

    @property
    def lag_s(self) -> float:
        """How late the loop was last: how long a socket or a timer that was due then had to wait."""
        return self._lag_s

    @property
    def max_lag_s(self) -> float:
        """The largest lag of the last half minute, at least, and of the last minute, at most."""
        return max(self._max_lags_s)

    def start(self) -> None:
        """Begin to watch the running loop; call it there. Under virtual time, and when it watches already, nothing."""
        if self._thread is not None or getattr(self._scheduler.loop, "virtual", False):
            return
        self._watching.acquire()
        self._loop_thread = threading.get_ident()
        self._beat_in(0.0)
        self._thread = threading.Thread(target=self._glance, name="callboard stalls", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        if self._beating is not None:
            self._beating.cancel()
        if self._thread is not None:
            self._watching.release()
            self._thread.join()
            self._thread = None

    async def __aenter__(self) -> Self:
        """Start."""
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    # On the loop -----------------------------------------------------------------------------------------------------

    def _beat_in(self, seconds: float) -> None:
        if self._beating is not None:
            self._beating.cancel()
        self._beat_at = perf_counter() + seconds
        self._beating = self._scheduler.loop.call_later(seconds, self._beat, context=self._scheduler.context)

    def _beat(self) -> None:
        # A loop in C has no frame of its own: at rest, the thread is in the Python function that runs the loop.
        self._resting = _SELECTS | {sys._getframe(1).f_code}  # noqa: SLF001 - there is no other way to see it
        self._measure(max(0.0, perf_counter() - self._beat_at))
        self._beat_in(BEAT_S)

    def _measure(self, lag_s: float) -> None:
        now = perf_counter()
        if now - self._turned_at >= HALF_MINUTE_S:
            self._max_lags_s = [0.0, self._max_lags_s[0]]
            self._turned_at = now
        self._lag_s = lag_s
        self._max_lags_s[0] = max(self._max_lags_s[0], lag_s)

    def _back(self, busy: "_Busy") -> None:
        """Report what took too long; what was seen last has just ended."""
        seen, now = busy.end(), perf_counter()
        took_s = [(now if work.ended is None else work.ended) - work.began for work in seen]
        self._measure(max(now - busy.asked_at, *took_s, 0.0))
        for work, seconds in zip(seen, took_s, strict=True):
            if seconds >= self._after_s:
                self._scheduler.events.emit(HandlerBlocked(work.actor, work.message, round(seconds * 1000), work.where))
        if self._lag_s > self._after_s / LOOKS and self._thread is not None:
            self._beat_in(self._after_s / LOOKS)  # is it still late?

    # On the thread ---------------------------------------------------------------------------------------------------

    def _glance(self) -> None:
        """Sleep while the loop rests; when it is at something, follow it until it is back."""
        rested_at = busy_at = perf_counter()
        while not self._watching.acquire(timeout=self._after_s / _glances(rested_at - busy_at)):
            now = perf_counter()
            top = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - there is no other way to see it
            if top is None or top.f_code in self._resting:
                rested_at = now
                continue
            busy = _Busy(rested_at, now)
            busy.see(_at_work(top), now)
            del top
            try:
                self._scheduler.loop.call_soon_threadsafe(self._back, busy, context=self._scheduler.context)
            except RuntimeError:  # the loop is closed: nothing can hold it up any more
                return
            while self._watching.locked() and not busy.over.wait(self._after_s / LOOKS):
                found = _at_work(sys._current_frames().get(self._loop_thread))  # noqa: SLF001 - the same
                busy.see(found, perf_counter())
            rested_at = busy_at = perf_counter()
        self._watching.release()


def _glances(rested_s: float) -> float:
    return GLANCES if rested_s < IDLE_S else IDLE_GLANCES


class _Busy:
    """One time in which the loop does not come back, and what it is seen at."""

    def __init__(self, rested_at: float, asked_at: float) -> None:
        self.asked_at = asked_at  # when the loop was asked to call back
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._seen: list[Work] = []
        self._before = rested_at  # when the loop was last seen at rest, or at something else

    def end(self) -> list[Work]:
        """All that was seen; nothing is added any more."""
        with self._lock:
            self.over.set()
            return self._seen

    def see(self, found: Work | None, now: float) -> None:
        """Note what is at work now."""
        with self._lock:
            if self.over.is_set():  # the loop came back meanwhile
                return
            before, self._before = self._before, now
            last = self._seen[-1] if self._seen else None
            if last is not None and last.ended is None:
                if found is not None and found.frame is last.frame:
                    last.where = found.where
                    return
                last.ended = (before + now) / 2
            if found is not None:
                found.began = max(before, found.began) if last is None else (before + now) / 2
                self._seen.append(found)


def _at_work(top: FrameType | None) -> Work | None:
    """The outermost call of an actor's code that a thread is in; None if it is in none."""
    outermost: FrameType | None = None
    callee, frame = None, top
    while frame is not None and top is not None:
        code = frame.f_code
        if callee is not None and (code in _IN_HAND or code in _BESIDE):
            values = frame.f_locals
            message = _BESIDE.get(code) or type(message_of(values["item"])).__name__
            cell = values.get("cell") or values["self"]
            # Its message waited since then, or its task began then: `since` is of the loop's clock.
            began = perf_counter() - (monotonic() - cell.since) if code in _IN_HAND else 0.0
            return Work(callee, cell.path, message, _line(top), began)
        if code.co_varnames[:1] == ("self",) and isinstance(frame.f_locals.get("self"), Actor):
            outermost = frame
        callee, frame = frame, frame.f_back
    if outermost is None or top is None:
        return None
    return Work(outermost, outermost.f_locals["self"].ref.path, outermost.f_code.co_name, _line(top))


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
