"""The access log: a line for a share of the requests, chosen by their traces, and for each that has failed with 5xx."""

import logging

from callboard.http.server.raw_request import RawRequest
from callboard.runtime import Context, use_context

FAILED = 500
DIGITS = 8  # of a trace id, by which a request is chosen: all processes choose alike

log = logging.getLogger("callboard.access")


class AccessLog:
    """Writes the lines. A line names the route's pattern and no path: the caller's id is all it has of users."""

    def __init__(self, share: float) -> None:
        self._bound = round(share * 16**DIGITS)

    def __call__(self, exchange: RawRequest, status: int, seconds: float) -> None:
        """Write the line of a request, if it is to have one."""
        if status < FAILED and (not self._bound or int(exchange.trace_id[:DIGITS], 16) >= self._bound):
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
