"""Watches the end offsets of partitions on a broker that holds no empty fetch.

A look costs a fraction of one through aiokafka's client: it is one write and one comparison of bytes, on a connection
of its own, without a task. Where the broker's CPU time is known, a look asks nothing while that stands: a broker that
has not run has taken no record. A record that it takes in the half millisecond in which it answers a look is seen after
its next request, a heartbeat at the latest.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from callboard.streams.raw_answers import RawAnswer

_CONNECT_S = 1.0
_SIZE = 4  # bytes of the length before each response


class EndsWatch(asyncio.Protocol):
    """One connection to the broker. `connect` returns None if the broker does not take it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = b""
        self._asking = False
        self._ran: int | None = None  # the broker's CPU time when it had answered
        self._ended: Callable[[], None] | None = None

    @classmethod
    async def connect(cls, host: str, port: int) -> "EndsWatch | None":
        """Connect to a broker."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, watch = await asyncio.get_running_loop().create_connection(cls, host, port)
        except (OSError, TimeoutError):
            return None
        return watch

    @property
    def is_connected(self) -> bool:
        """Whether the broker has not closed the connection."""
        return self._transport is not None

    def begin(
        self,
        ask: RawAnswer,
        seen: bytes,
        pause_s: float,
        *,
        cpu_time: Callable[[], int | None],
        until: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:
        """Look each `pause_s`; call `ended` once, if an answer differs from `seen`, `until` is true, or the connection
        is lost. `cpu_time` returns the broker's, or None if it is not known.
        """
        loop, frame = asyncio.get_running_loop(), ask.frame()
        self._ask, self._seen, self._ended, self._cpu_time, self._ran = ask, seen, ended, cpu_time, None

        def look() -> None:
            if until() or self._transport is None:
                self._end()
                return
            self._timer = loop.call_later(pause_s, look)
            ran = cpu_time()
            if not self._asking and (ran is None or ran != self._ran):
                self._asking = True
                self._transport.write(frame)

        self._timer = loop.call_later(pause_s, look)

    def stop(self) -> None:
        """Look no more; the connection stays."""
        self._ended = None
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Look no more, and close the connection."""
        self.stop()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _end(self) -> None:
        ended = self._ended
        self.stop()
        if ended is not None:
            ended()

    # The protocol ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. Responses come whole mostly, and one at a time."""
        self._received += data
        end = _SIZE + int.from_bytes(self._received[:_SIZE], "big")
        if len(self._received) < max(end, _SIZE):
            return
        answer, self._received = self._received[_SIZE:end], self._received[end:]
        self._asking = False
        self._ran = self._cpu_time()
        if self._ended is not None and self._ask.body(answer) != self._seen:
            self._end()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - overrides
        """See asyncio.Protocol."""
        self._transport = None
        self._end()
