"""Stalls: which handler holds up the event loop, for how long, and how late the loop is.

The hot path knows nothing of it. A timer beats on the loop; a thread looks, when a beat is late, at what the loop's
thread is doing, and finds the actor and its message in the frame of the cell that called the handler.
"""

import asyncio
import sys
import threading
from time import perf_counter
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from callboard.runtime.actor import Actor
from callboard.runtime.cell import Cell
from callboard.runtime.events import Blocked
from callboard.runtime.inbox import message_of
from callboard.runtime.life import Life

if TYPE_CHECKING:
    from callboard.runtime.system import System

BEATS = 10  # in the time that is a stall: what is reported is exact to about one of them
LATE = 2  # beats, and the thread begins to look
HALF_MINUTE_S = 30.0

# Whose frames have the cell in `self`, and the message in `item` or, in what an actor does beside messages, none.
_IN_HAND = {
    method.__code__
    for method in (Cell._handle_one, Cell._handle_many, Cell._begin, Cell._finish)  # noqa: SLF001 - it is looked for
}
_BESIDE = {Life._live.__code__: "run", Life.start.__code__: "on_start"}  # noqa: SLF001 - the same


class Work(msgspec.Struct, eq=False):
    """What a thread is at: the frame tells one call of a handler from the next, `where` is the innermost line."""

    frame: FrameType
    actor: str
    message: str
    where: str
    began: float = 0.0
    ended: float | None = None


class StallWatch:
    """Reports what blocks the loop for `after_s` or more as a Blocked event, as soon as the loop is back.

    `async with StallWatch(system): ...`, or `System(..., stall_after_s=0.1)`. Under virtual time it does nothing: there
    every handler takes no time. Durations are exact to about a tenth of `after_s`.
    """

    def __init__(self, system: "System", after_s: float = 0.1) -> None:
        if after_s <= 0:
            raise ValueError(f"a stall takes more than no time, not {after_s:g} s")
        self._system = system
        self._after_s = after_s
        self._beat_s = after_s / BEATS
        self._beat_at = perf_counter()  # also the number of the beat: the thread drops what it saw of an earlier one
        self._beating: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._loop_thread = 0
        self._end = threading.Event()
        self._lock = threading.Lock()  # taken by the loop only when it was late
        self._seen: list[Work] = []  # since the last beat
        self._lag_s = 0.0
        self._max_lags_s = [0.0, 0.0]  # in this half minute and the one before
        self._turned_at = self._beat_at

    @property
    def lag_s(self) -> float:
        """How late the last beat was: how long a socket or a timer that was due then had to wait."""
        return self._lag_s

    @property
    def max_lag_s(self) -> float:
        """The largest lag of the last half minute, at least, and of the last minute, at most."""
        return max(self._max_lags_s)

    def start(self) -> None:
        """Begin to watch the running loop; call it there. Under virtual time, and when it watches already, nothing."""
        if self._thread is not None or getattr(self._system.loop, "virtual", False):
            return
        self._end.clear()
        self._loop_thread = threading.get_ident()
        self._rest()
        self._thread = threading.Thread(target=self._look, name="callboard stalls", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._end.set()
        if self._beating is not None:
            self._beating.cancel()
        if self._thread is not None:
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

    def _rest(self) -> None:
        self._beat_at = perf_counter()
        self._beating = self._system.loop.call_later(self._beat_s, self._beat, context=self._system.context)

    def _beat(self) -> None:
        now = perf_counter()
        self._lag_s = lag_s = max(0.0, now - self._beat_at - self._beat_s)
        if now - self._turned_at >= HALF_MINUTE_S:
            self._max_lags_s = [0.0, self._max_lags_s[0]]
            self._turned_at = now
        self._max_lags_s[0] = max(self._max_lags_s[0], lag_s)
        if lag_s > self._beat_s:
            with self._lock:
                seen, self._seen = self._seen, []
                self._rest()
            self._report(seen, now)
        else:
            self._rest()

    def _report(self, seen: list[Work], now: float) -> None:
        """Report what took too long; what was seen last has just ended."""
        for work in seen:
            seconds = (now if work.ended is None else work.ended) - work.began
            if seconds >= self._after_s:
                self._system.emit(Blocked(work.actor, work.message, round(seconds * 1000), work.where))

    # On the thread ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Sleep while the beats come; while one is late, look at each beat's time. It never touches the loop."""
        looked_at = 0.0
        while True:
            beat_at, now = self._beat_at, perf_counter()
            late_at = beat_at + LATE * self._beat_s
            if now < late_at:
                if self._end.wait(late_at - now):
                    return
                continue
            self._sample(beat_at, max(beat_at, looked_at), now)
            looked_at = now
            if self._end.wait(self._beat_s):
                return

    def _sample(self, beat_at: float, before: float, now: float) -> None:
        """Note what is at work now; `before` is when the loop was last seen at something else, or beating."""
        found = _at_work(sys._current_frames().get(self._loop_thread))  # noqa: SLF001 - there is no other way to see it
        with self._lock:
            if self._beat_at != beat_at:  # the loop came back meanwhile
                return
            last = self._seen[-1] if self._seen else None
            if last is not None and last.ended is None:
                if found is not None and found.frame is last.frame:
                    last.where = found.where
                    return
                last.ended = (before + now) / 2
            if found is not None:
                found.began = before if last is None else (before + now) / 2
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
            return Work(callee, values["self"].path, message, _line(top))
        if code.co_varnames[:1] == ("self",) and isinstance(frame.f_locals.get("self"), Actor):
            outermost = frame
        callee, frame = frame, frame.f_back
    if outermost is None or top is None:
        return None
    return Work(outermost, outermost.f_locals["self"].ref.path, outermost.f_code.co_name, _line(top))


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
