"""One client's connection: it reads requests, sends responses in order, and bounds the resources of a slow client."""

import asyncio
import logging
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import cast

from callboard.http.server.aiohttp_private import HttpVersion11, RawRequestMessage
from callboard.http.server.connection_limits import OpenConnections
from callboard.http.server.dispatcher import Dispatcher
from callboard.http.server.raw_request import RawRequest
from callboard.http.server.request_reader import RequestReader, Taken
from callboard.http.server.response import LiveBody, Response, Stream

LINGERING_S = 2.0  # how long late bytes are read and discarded, so that the client sees the response before the close
AT_A_STRETCH = 16  # pipelined requests that are answered before other connections get their turn
PIECE = 1 << 16  # bytes of a response in one write
STREAMED = Stream, LiveBody
LAST_CHUNK = b"0\r\n\r\n"
UNSENT_HIGH, UNSENT_LOW = 16_384, 4_096  # bytes in the write buffer at which writing pauses, and at which it resumes


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConnectionTimeouts:
    """The time limits of a slow client: `head_s` for a request's line and headers, from their first byte; `idle_s`
    between requests, longer than the 60 seconds after which proxies close; `reader_s` to read a response. A body may
    take as long as its request.
    """

    head_s: float = 10.0
    idle_s: float = 75.0
    reader_s: float = 30.0


class Connection(asyncio.Protocol):
    """Serves one request at a time, in order of arrival.

    A client that exceeds `ConnectionTimeouts` is disconnected without a response: it would not read one. A client that
    disconnects does not cancel its request: half of its work may be done.
    """

    __slots__ = (
        "_ahead_paused",
        "_arrival",
        "_dispatcher",
        "_ending",
        "_head_timer",
        "_idle_timer",
        "_live",
        "_loop",
        "_open",
        "_reader",
        "_reader_timer",
        "_reading_paused",
        "_task",
        "_timeouts",
        "_unwritten",
        "_writable",
        "address",
        "gone",
        "idle_since",
        "peer",
        "transport",
    )

    def __init__(
        self,
        dispatcher: Dispatcher,
        open_: "OpenConnections[Connection]",
        timeouts: ConnectionTimeouts,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()
        self.peer: str | None = None
        self.address = ""  # its key in the limit by address
        self.idle_since = loop.time()  # infinite while a request is served
        self._loop = loop
        self._dispatcher = dispatcher
        self._open = open_
        self._timeouts = timeouts
        self._reader = RequestReader(self, loop, dispatcher.heads)
        self._ending = False  # no further request is read
        self._arrival: asyncio.Future[Taken | None] | None = None  # runs while the next request has not arrived
        self._task: asyncio.Task[None] | None = None
        self._live: LiveBody | None = None  # the body that is sent
        self._reading_paused = False
        self._ahead_paused = False
        self._writable: asyncio.Future[None] | None = None  # set while the transport accepts no more bytes
        self._unwritten = 0  # bytes of the response that the transport has not accepted
        self._idle_timer: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is being served."""
        return self.idle_since == inf

    @property
    def connected(self) -> bool:
        """Whether the connection can still receive bytes."""
        return self.transport is not None

    @property
    def writing_paused(self) -> bool:
        """Whether the client leaves its response unread."""
        return self._writable is not None

    # Callbacks of the transport --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer for the first request."""
        transport = self.transport = cast("asyncio.Transport", transport)  # uvloop's transport only behaves like one
        transport.set_write_buffer_limits(UNSENT_HIGH, UNSENT_LOW)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else None
        if not self._open.add(self, self.peer):
            self.abort()
        self._idle_timer = self._loop.call_at(self.idle_since + self._timeouts.idle_s, self._look_idle)
        self._task = self._loop.create_task(self._serve(), name="connection")

    def data_received(self, data: bytes) -> None:
        """Buffer the bytes, and serve the next request once its head is complete."""
        reader, arrival = self._reader, self._arrival
        reader.feed(data)
        if arrival is not None and not arrival.done():
            if (taken := self._take()) is not None:
                arrival.set_result(taken)
        elif reader.is_full and not self._ahead_paused:
            self._ahead_paused = True
            self._pause()

    def eof_received(self) -> bool:
        """The client ends its side; requests it has sent are still answered. Nobody reads a live body any more."""
        self._ending = True
        self.end_live()
        return self._task is not None and self.busy and self._reader.body is None

    def pause_writing(self) -> None:
        """Start the time limit for the client to read the buffered bytes."""
        assert self.transport is not None  # noqa: S101 - for the type checker
        self._writable = self._loop.create_future()
        self._reader_timer = self._loop.call_later(self._timeouts.reader_s, self.abort)
        self._open.unsent(self, self.transport.get_write_buffer_size() + self._unwritten)

    def resume_writing(self) -> None:
        """Stop the time limit: the client has read the buffered bytes."""
        self._open.sent(self)
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - a protocol's face
        """Stop the timers, and fail a request that waits for the rest of its body."""
        for timer in (self._idle_timer, self._head_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()
        self.transport = None
        self._ending = True
        self.end_live()
        self._reader.close()
        if self._writable is not None and not self._writable.done():
            self._writable.set_exception(ConnectionResetError("the client has gone"))
            self._writable.exception()  # nothing may wait for it any more
        self._wake()
        self._open.discard(self)
        self.gone.set()

    # Callbacks of the body's reader ---------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Stop reading: the body's buffer is over its limit."""
        self._reading_paused = True
        self._pause()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: ARG002 - the parser's face
        """The body is being read: called for each piece of it, even if reading was not paused."""
        if self._reading_paused:
            self._reading_paused = False
            self._resume()

    def _pause(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.transport is not None and not self._reading_paused and not self._ahead_paused:
            self.transport.resume_reading()

    def _take(self) -> Taken | None:
        """Read the next request. The rest of a head that has begun must arrive within the head's time limit."""
        taken = self._reader.take()
        if taken is None:
            if self._head_timer is None and self._reader.is_begun:
                self._head_timer = self._loop.call_later(self._timeouts.head_s, self.abort)
            return None
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self.idle_since = inf
        if self._ahead_paused and not self._reader.is_full:
            self._ahead_paused = False
            self._resume()
        return taken

    def _stop_listening(self) -> None:
        self._reader.close()
        if self._ahead_paused or self._reading_paused:
            self._ahead_paused = self._reading_paused = False
            self._resume()

    # Serving -------------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Serve requests until the connection ends."""
        try:
            reader, handle = self._reader, self._dispatcher.handle
            for number in count(1):
                if number % AT_A_STRETCH == 0 and reader.is_begun:
                    await asyncio.sleep(0)
                taken = self._take() if reader.is_begun else None
                if taken is None:
                    arrival = self._expect()
                    if arrival is None or (taken := await arrival) is None or self.transport is None:
                        return
                assert self.transport is not None  # noqa: S101 - of one that is gone nothing is taken
                message, payload, fault = taken
                exchange = RawRequest(message, payload, self.transport, self._task, self.peer)
                exchange.fault = fault
                response = await handle(exchange)
                transport = self.transport
                if transport is None:
                    response.discard()
                    return
                is_last = reader.is_closed or (self._ending and not reader.holds_another)
                kept = not (is_last or response.closing or message.should_close or reader.body is not None)
                body = response.body
                if isinstance(body, STREAMED) or (body is not None and len(body) > PIECE):
                    await self._write_in_pieces(response, message, kept=kept)
                else:
                    transport.write(response.encode(message, kept=kept))
                if self._writable is not None:
                    await self._writable
                if not kept:
                    return
        except ConnectionError:  # the client has disconnected
            pass
        finally:
            self._close()

    def _expect(self) -> "asyncio.Future[Taken | None] | None":
        """Return the next request, or an awaitable of it; None if the connection ends."""
        if self._ending or self._reader.is_closed:
            return None
        self.idle_since = self._loop.time()
        arrival = self._arrival = self._loop.create_future()
        return arrival

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _write_in_pieces(self, response: Response, message: RawRequestMessage, *, kept: bool) -> None:
        """Write a large body as fast as the client reads it. Raises ConnectionError."""
        if isinstance(response.body, LiveBody):
            await self._write_live(response, response.body, message)
            return
        if isinstance(response.body, Stream):
            await self._write_stream(response, response.body, message, kept=kept)
            return
        await self._write(response.head(message, kept=kept), response.content(message), is_shared=response.is_shared)

    async def _write_stream(self, response: Response, body: Stream, message: RawRequestMessage, *, kept: bool) -> None:
        """Write a streamed body; the next piece is read when this one is sent. Raises ConnectionError."""
        head, left = response.head(message, kept=kept), 0 if message.method == "HEAD" else body.size
        if not left:
            await self._write(head, b"")
        try:
            while left:
                if self.transport is None:
                    raise ConnectionResetError("the client has gone")  # noqa: TRY301 - as any other end
                piece = await anext(body.pieces)
                left -= len(piece)
                if left < 0:
                    raise ValueError("a stream is longer than declared")  # noqa: TRY301 - as any other fault
                await self._write(head, piece)
                head = b""
        except ConnectionError:
            raise
        except Exception as error:
            log.warning("a response was aborted: %s: %s", type(error).__name__, error)
            self.abort()
            raise ConnectionAbortedError from error

    async def _write_live(self, response: Response, body: LiveBody, message: RawRequestMessage) -> None:
        """Write a body until it ends. What the client sends meanwhile is discarded. Raises ConnectionError."""
        dispatcher, is_chunked = self._dispatcher, message.version is HttpVersion11
        dispatcher.in_flight += 1
        self._live = body
        self._stop_listening()
        try:
            if dispatcher.draining or self.transport is None:
                body.end()
            await self._write(response.head(message, kept=False), b"")
            while message.method != "HEAD" and (piece := await body.next()) is not None:
                await self._write(b"", b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            if is_chunked and message.method != "HEAD":
                await self._write(b"", LAST_CHUNK)
        finally:
            self._live = None
            body.close()
            dispatcher.done()

    async def _write(self, head: bytes, body: bytes, *, is_shared: bool = False) -> None:
        content = memoryview(body)
        for start in range(0, len(content) or 1, PIECE):  # the head is sent alone if there is no content
            if self.transport is None:
                return
            self._unwritten = 0 if is_shared else max(0, len(content) - start - PIECE)
            self.transport.write(head + content[start : start + PIECE])
            head = b""
            if self._writable is not None:
                await self._writable

    def end_live(self) -> None:
        """Have a live body end in order: its last piece is still sent."""
        if self._live is not None:
            self._live.end()

    # Ends ----------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """End now: the request in progress is cancelled, and responses already made are still sent."""
        self._ending = True
        if self.busy and self._task is not None:
            self._task.cancel()
        self._wake()
        if not self.busy:  # no response is in flight that a reset could destroy
            self._close_now()

    def _close(self) -> None:
        """Close. A client that may still be sending gets our end of the stream first, and its bytes are discarded for a
        while: bytes that arrive at a closed connection cause a reset, which destroys the response in flight (RFC 9112,
        9.6).
        """
        transport, self._task, self._ending = self.transport, None, True
        self._arrival = None  # it holds the last request, and so its body
        if transport is None or transport.is_closing():
            return
        reader = self._reader
        may_send = self.busy and (reader.is_closed or reader.body is not None or reader.is_begun)
        self._stop_listening()
        if may_send and transport.can_write_eof():
            try:
                transport.write_eof()
            except OSError:  # the client has reset the connection, and the loop has not seen it yet
                self._close_now()
            else:
                self._loop.call_later(LINGERING_S, self._close_now)
        else:
            self._close_now()

    def _close_now(self) -> None:
        """Close when the client has read its response, or when its time to read is over."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.close()
            if transport.get_write_buffer_size():
                self._loop.call_later(self._timeouts.reader_s, transport.abort)

    def abort(self) -> None:
        """Close at once, without a response."""
        if self.transport is not None:
            self.transport.abort()

    def _look_idle(self) -> None:
        now = self._loop.time()
        ends_at = (now if self.busy else self.idle_since) + self._timeouts.idle_s
        if ends_at <= now:
            self._ending = True
            self._wake()
            self._close_now()
        else:
            self._idle_timer = self._loop.call_at(ends_at, self._look_idle)
