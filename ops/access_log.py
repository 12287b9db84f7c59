"""The access log: a line for a share of the requests, chosen by their traces, and for those that have failed with 5xx:
some a second, since a refusal must cost less than the work that it refuses.
"""

import logging
import time
from collections.abc import Callable

from callboard.http.server.raw_request import RawRequest
from callboard.runtime import Context, use_context

FAILED = 500
MOST_FAILED = 10  # lines of failed requests in a second, beside the share
DIGITS = 8  # of a trace id, by which a request is chosen: all processes choose alike

log = logging.getLogger("callboard.access")


class AccessLog:
    """Writes the lines. A line names the route's pattern and no path: the caller's id is all it has of users."""

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._bound = round(share * 16**DIGITS)
        self._clock = clock
        self._second = 0
        self._failed = 0  # lines of failed requests in this second

    def __call__(self, exchange: RawRequest, status: int, seconds: float) -> None:
        """Write the line of a request, if it is to have one."""
        is_chosen = self._bound and int(exchange.trace_id[:DIGITS], 16) < self._bound
        if not is_chosen and (status < FAILED or not self._may_write()):
            return
        with use_context(Context(exchange.traceparent)):
            log.info(
                "%s %s %d",
                exchange.method,
                exchange.template,
                status,
                extra={
                    "user_id": None if exchange.caller is None else str(exchange.caller.user_id),
                    "action": "http.request",
                    "duration_ms": round(seconds * 1000, 3),
                    "context": {"ip_address": exchange.ip, "user_agent": exchange.user_agent},
                },
            )

    def _may_write(self) -> bool:
        """Whether another failed request may have its line in this second."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._failed = second, 0
        self._failed += 1
        return self._failed <= MOST_FAILED
