"""The deadlines of requests. Nearly all requests have the same time limit, so they expire in order of arrival: one
timer serves them all. A timer for each would cost as much as reading a request.
"""

import asyncio

from callboard.http.server.raw_request import RawRequest


class Deadlines:
    """Cancels the task of a request when its time is over.

    A request has `answer_s` for everything that it does, servers that do not respond included. Its clock stands still
    while its body arrives and while an imported password hash is verified; `timeout_s` bounds these too.
    """

    def __init__(self, timeout_s: float, answer_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._timeout_s = timeout_s
        self._answer_s = min(answer_s, timeout_s)
        self._loop = loop
        self._running: dict[RawRequest, None] = {}  # requests with the default time limit, in order of their deadlines
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, exchange: RawRequest, asked_s: float | None) -> None:
        """Start the time limit of a request: the default, or the client's own if that is shorter."""
        now = self._loop.time()
        exchange.clock = self
        if asked_s is not None and asked_s < self._answer_s:
            exchange.deadline = exchange.due = now + asked_s
            exchange.timer = self._loop.call_at(exchange.due, _cancel, exchange)
            return
        exchange.deadline = now + (self._timeout_s if asked_s is None else min(asked_s, self._timeout_s))
        exchange.due = now + self._answer_s
        self._running[exchange] = None
        if self._timer is None:
            self._timer = self._loop.call_at(exchange.due, self._expire_due)

    def pause(self, exchange: RawRequest) -> None:
        """Stop the clock of a request; its whole time limit still holds."""
        exchange.left_s = exchange.due - self._loop.time()
        exchange.due = exchange.deadline
        self._rearm(exchange)

    def resume(self, exchange: RawRequest) -> None:
        """Let the clock of a request go on."""
        exchange.due = min(self._loop.time() + exchange.left_s, exchange.deadline)
        self._rearm(exchange)

    def renew(self, exchange: RawRequest, seconds: float) -> None:
        """Give a request this time from now on, instead of its present limits: its body arrives for long."""
        exchange.deadline = exchange.due = self._loop.time() + seconds
        self._rearm(exchange)

    def end(self, exchange: RawRequest) -> None:
        """End the time limit: the request is answered or has failed."""
        exchange.clock = None
        if exchange.timer is not None:
            exchange.timer.cancel()
            exchange.timer = None  # its context holds the request
        self._running.pop(exchange, None)
        if exchange.late and exchange.task is not None:
            exchange.task.uncancel()

    def _rearm(self, exchange: RawRequest) -> None:
        self._running.pop(exchange, None)
        if exchange.timer is not None:
            exchange.timer.cancel()
        exchange.timer = self._loop.call_at(exchange.due, _cancel, exchange)

    def _expire_due(self) -> None:
        self._timer = None
        now = self._loop.time()
        for exchange in list(self._running):
            if exchange.due > now:
                self._timer = self._loop.call_at(exchange.due, self._expire_due)
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
