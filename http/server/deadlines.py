"""The deadlines of requests. Nearly all have the same time to be answered in, and so come due in the order they began:
one timer for them all, where one for each costs as much as reading a request does.
"""

import asyncio

from callboard.http.server.raw_request import RawRequest


class Deadlines:
    """Cancels the task that serves a request when its time is over."""

    def __init__(self, usual_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._usual_s = usual_s
        self._loop = loop
        self._running: dict[RawRequest, None] = {}  # those of the usual time, in the order of their deadlines
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, exchange: RawRequest, timeout_s: float) -> None:
        """Give the request so long from now."""
        exchange.deadline = self._loop.time() + timeout_s
        if timeout_s != self._usual_s:
            exchange.timer = self._loop.call_at(exchange.deadline, _cancel, exchange)
            return
        self._running[exchange] = None
        if self._timer is None:
            self._timer = self._loop.call_at(exchange.deadline, self._come_due)

    def end(self, exchange: RawRequest) -> None:
        """The request has its answer, or none: its task may go on to the next."""
        if exchange.timer is not None:
            exchange.timer.cancel()
        self._running.pop(exchange, None)
        if exchange.late and exchange.task is not None:
            exchange.task.uncancel()

    def _come_due(self) -> None:
        self._timer = None
        now = self._loop.time()
        for exchange in list(self._running):
            if exchange.deadline > now:
                self._timer = self._loop.call_at(exchange.deadline, self._come_due)
                return
            del self._running[exchange]
            _cancel(exchange)


def _cancel(exchange: RawRequest) -> None:
    if exchange.task is not None:
        exchange.late = True
        exchange.task.cancel()


def cancelled_by_deadline(exchange: RawRequest) -> bool:
    """Whether it is the deadline, and nobody else, that has cancelled the request."""
    return exchange.late and exchange.task is not None and exchange.task.cancelling() == 1
