"""Bodies that are read while they arrive, for handlers whose annotation names `StreamedBody`.

Nothing is read ahead of the handler but one buffer of the connection: a slow reader pauses its client. The time limit
of the request follows its progress, and a client that sends too slowly is cut.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp.hdrs import CONTENT_LENGTH, EXPECT

from callboard.actors.errors import REQUEST_MALFORMED, REQUEST_SLOW, SERVER_DRAINING, Problem
from callboard.http.server.aiohttp_private import HttpVersion11, RequestPayloadError, rest_of
from callboard.http.server.headers import TIMEOUT
from callboard.http.server.raw_request import BodyPace, RawRequest

LOOK_S = 1.0  # the longest single wait: after it a stop of the server is noticed


class StreamedBody:
    """The body of one request. A response that is sent before its end closes the connection."""

    __slots__ = ("_credit_s", "_exchange", "_is_draining", "_is_expected", "_pace", "declared", "received")

    def __init__(self, exchange: RawRequest, pace: BodyPace, is_draining: Callable[[], bool]) -> None:
        headers = exchange.headers
        length = headers.get(CONTENT_LENGTH)
        self.declared = None if exchange.message.chunked else int(length or 0)  # in bytes; None if chunks end it
        self.received = 0
        self._exchange = exchange
        self._pace = pace
        self._is_draining = is_draining
        self._credit_s = pace.grace_s
        self._is_expected = (
            headers.get(EXPECT, "").lower() == "100-continue" and exchange.message.version >= HttpVersion11
        )

    @property
    def at_end(self) -> bool:
        """Whether every byte has been read."""
        return self._exchange.payload.at_eof()

    async def read(self, timeout_s: float = LOOK_S) -> bytes:
        """Return the next bytes; none at the end, and none if nothing arrives within `timeout_s`.

        Raises Problem: REQUEST_SLOW; REQUEST_MALFORMED if the body breaks off; SERVER_DRAINING. Everything that has
        arrived before is returned first.
        """
        if self._is_draining():
            raise Problem(SERVER_DRAINING)
        self.keep_working()
        exchange = self._exchange
        exchange.reading = True
        try:
            piece = await self._arriving(timeout_s)
        except (RequestPayloadError, ConnectionError):
            piece = rest_of(exchange.payload)
            if not piece:
                raise Problem(REQUEST_MALFORMED, "The body broke off.") from None
        exchange.reading = False
        self.received += len(piece)
        self._credit_s = min(self._pace.grace_s, self._credit_s + len(piece) / self._pace.bytes_per_s)
        return piece

    async def _arriving(self, timeout_s: float) -> bytes:
        """Return bytes as soon as there are some; none after the time limit.

        Raises Problem(REQUEST_SLOW), or the error that broke the body.
        """
        exchange, time = self._exchange, asyncio.get_running_loop().time
        if self._is_expected:
            self._is_expected = False
            exchange.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        began = time()
        try:
            async with asyncio.timeout(min(timeout_s, self._credit_s)):
                return await exchange.payload.readany()
        except TimeoutError:
            if time() - began >= self._credit_s:
                raise Problem(REQUEST_SLOW) from None
            return b""
        finally:
            self._credit_s -= time() - began

    def keep_working(self) -> None:
        """Give the handler another `work_s`, unless the client has set a time limit of its own."""
        if TIMEOUT not in self._exchange.headers:
            self._exchange.renew(self._pace.work_s)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they arrive. Raises Problem as `read` does."""
        while not self.at_end:
            if piece := await self.read():
                yield piece
