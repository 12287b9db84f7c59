"""The scheduler: the order of turns on one event loop, its clock, and contexts for handlers."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, Protocol, TypeVar

from callboard.runtime.actor.context import CURRENT
from callboard.runtime.actor.deadlines import deadlines
from callboard.runtime.dispatch.event_bus import EventBus

T = TypeVar("T")

BATCH = 256  # messages handled before other actors have their turn: enough to amortise the turn, about 0.1 ms
TURN = 64  # actors that have a batch before the event loop looks at sockets and timers again
SWEEP_S = 5.0  # after which a task that its actor has not needed is let go


class Runnable(Protocol):
    """An object that can be scheduled for a turn."""

    def run_batch(self) -> None:
        """Handle some messages, or begin to."""


class Scheduler:
    """The scheduler runs the actors of one system on the running event loop. Raises OutsideLoopError without one."""

    def __init__(self, rng: random.Random | None = None, *, logs: bool = True) -> None:
        self.deadlines = deadlines("make a System where its event loop runs: in async code, async with System(root)")
        self.loop = self.deadlines.loop
        self.time = self.deadlines.time
        self.rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self.events = EventBus(self.loop, logs=logs)
        # Handlers run in a context of their own: they inherit nothing from whoever made the system or woke them.
        self.clean = Context()  # nothing runs in this one: it is what others are copied from, and held against
        self.clean.run(CURRENT.set, None)
        self.context = self.clean.copy()  # of the turns
        self.ready: deque[Runnable] = deque()
        self.turning = False
        self.batch = BATCH  # messages that one actor handles before others have their turn
        self.moving: dict[Any, tuple[asyncio.Task[None] | None, asyncio.Future[None]]] = {}  # see lifecycle.moving
        self.nursery: Callable[[Any], Any] = _no_nursery  # the supervisor of an actor's own children
        self.find: Callable[[str], Any] = _no_nursery
        self.parked: dict[Any, None] = {}  # actors' tasks: see ParkedTask
        self.sweep: asyncio.TimerHandle | None = None  # of those that wait
        # A loop with a method `take_turn` decides on turns and the size of batches itself: see testkit.SeededLoop.
        take_turn: Callable[[Scheduler], None] | None = getattr(self.loop, "take_turn", None)
        self._take_turn = self._turn if take_turn is None else partial(take_turn, self)

    def new_task(self, work: Coroutine[Any, Any, T], name: str, under: Any = None) -> "asyncio.Task[T]":
        """A task in a context in which there is nothing of another handler; what it sends goes `under` that context.
        Its first step comes in a later turn of the loop, whatever task factory that has.
        """
        context = self.clean.copy()
        if under is not None:
            context.run(CURRENT.set, under)
        return asyncio.Task(work, loop=self.loop, name=name, context=context)

    def schedule_turn(self) -> None:
        """Work off `ready`, in the order they came, in the next turn of the event loop."""
        self.turning = True
        if self.context != self.clean:  # a handler has left something in it
            self.context = self.clean.copy()
        self.loop.call_soon(self._take_turn, context=self.context)

    def _turn(self) -> None:
        ready, left = self.ready, TURN
        context, clean = self.context, self.clean
        try:
            while ready and left and context == clean:
                left -= 1
                ready.popleft().run_batch()
        finally:  # only what ends the program, a KeyboardInterrupt, comes through a batch
            if ready:
                self.schedule_turn()
            else:
                self.turning = False

    def sweep_later(self) -> None:
        """See to it that parked tasks which their actors do not need are let go."""
        if self.sweep is None:
            self.sweep = self.loop.call_later(SWEEP_S, self._sweep, context=self.context)

    def _sweep(self) -> None:
        self.sweep = None
        waiting = [work for work in list(self.parked) if work.sweep()]
        if waiting:
            self.sweep_later()


def _no_nursery(_of: Any) -> Any:
    raise RuntimeError("only a running system has a tree")


async def cancelled(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel tasks and see them end; again where it was not heard: asyncio.wait_for loses one in Python 3.11."""
    left = {task for task in tasks if task is not None and not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)


def in_task() -> bool:
    """Whether this runs in a task of a running loop, and not in what closes a coroutine that was left behind."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


AGAIN_S = 1.0  # cleanup is shielded, so that a second cancellation does it no harm
