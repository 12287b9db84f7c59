"""The deadlines of asks: one timer for all asks of one length, not one for each.

Asks of one length come due in the order they were made, so a dict, which keeps that order and forgets in constant time
what was answered, is enough: the timer stands at its first. (Measured: a queue that forgets answered asks only now and
then costs as much as the asks themselves, in garbage collection.)
"""

import asyncio
from collections.abc import Callable
from functools import partial
from threading import get_ident
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from callboard.runtime.actor.envelope import Envelope
from callboard.runtime.actor.errors import AskTimeoutError, OutsideLoopError

MAX_LENGTHS = 64  # of different lengths; asks of any further length get a timer each

Asks = dict[Envelope, None]
F = TypeVar("F", bound=Callable[..., Any])


class Queue:
    """The asks of one length in seconds that have no answer yet, by the order of their deadlines."""

    __slots__ = ("asks", "loop", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.asks: Asks = {}
        self.timer: asyncio.TimerHandle | None = None

    def expire_due(self) -> None:
        """Expire what is due, and set the timer to what comes next."""
        now = self.loop.time()
        self.timer = None
        for envelope in list(self.asks):
            if not envelope.reply.done():
                if envelope.due > now:
                    self.timer = self.loop.call_at(envelope.due, self.expire_due)
                    return
                expire(envelope)
            self.asks.pop(envelope, None)


class Deadlines:
    """All deadlines on one event loop; `queues` by the asks' length in seconds."""

    __slots__ = ("__weakref__", "create_future", "loop", "queues", "thread", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.thread = get_ident()
        self.time = _in_c(loop.time, asyncio.BaseEventLoop.time, monotonic)
        future = partial(asyncio.Future, loop=loop)
        self.create_future = _in_c(loop.create_future, asyncio.BaseEventLoop.create_future, future)
        self.queues: dict[float, Queue] = {}

    def add(self, envelope: Envelope, timeout_s: float | None) -> None:
        """See to it that the ask expires at its deadline, `timeout_s` from now; None if that was inherited."""
        queue = None if timeout_s is None else self.queues.get(timeout_s)
        if queue is None and (timeout_s != timeout_s or envelope.due != envelope.due):  # noqa: PLR0124 - NaN
            raise ValueError("an ask waits for a number of seconds, not nan, which disorders all timers")
        if queue is None and timeout_s is not None and len(self.queues) < MAX_LENGTHS:
            queue = self.queues[timeout_s] = Queue(self.loop)
        if queue is None:
            timer = self.loop.call_at(envelope.due, expire, envelope)
            envelope.reply.add_done_callback(lambda _: timer.cancel())
            return
        envelope.deadline_queue = queue.asks
        queue.asks[envelope] = None
        if queue.timer is None:
            queue.timer = self.loop.call_at(envelope.due, queue.expire_due)


def _in_c(method: F, standard: Callable[..., Any], function: F) -> F:
    """The function around which the standard loop's method is written in Python, or the method of any other loop."""
    return function if getattr(method, "__func__", None) is standard else method


def expire(envelope: Envelope) -> None:
    """The deadline has passed: tell the asker, unless there was an answer."""
    if not envelope.reply.done():
        envelope.reply.set_exception(AskTimeoutError(envelope.cell.path, envelope.message))


_BY_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines] = WeakKeyDictionary()


def deadlines(*error: str) -> Deadlines:
    """Those of the running event loop. Raises OutsideLoopError, with these words, when none runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise OutsideLoopError(*error) from None
    found = _BY_LOOP.get(loop)
    if found is None:
        found = _BY_LOOP[loop] = Deadlines(loop)
    return found
