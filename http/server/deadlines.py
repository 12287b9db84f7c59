"""The deadlines of requests. Nearly all requests have the same time limit, so they expire in order of arrival: one
timer serves them all. A timer for each would cost as much as reading a request.
"""

import asyncio

from callboard.http.server.raw_request import RawRequest


class Deadlines:
    """Cancels the task of a request when its time is over."""

    def __init__(self, usual_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._usual_s = usual_s
        self._loop = loop
        self._running: dict[RawRequest, None] = {}  # requests with the default time limit, in order of their deadlines
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, exchange: RawRequest, timeout_s: float) -> None:
        """Start the time limit of a request."""
        exchange.deadline = self._loop.time() + timeout_s
        if timeout_s != self._usual_s:
            exchange.timer = self._loop.call_at(exchange.deadline, _cancel, exchange)
            return
        self._running[exchange] = None
        if self._timer is None:
            self._timer = self._loop.call_at(exchange.deadline, self._come_due)

    def end(self, exchange: RawRequest) -> None:
        """End the time limit: the request is answered or has failed."""
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
    """Whether the deadline alone has cancelled the request."""
    return exchange.late and exchange.task is not None and exchange.task.cancelling() == 1
