"""One client's connection: requests in, answers out, in order; and bounds on what a slow or broken client can hold.

It stands on aiohttp's parser and flow control alone. aiohttp's own server makes a task, a request, a writer and a
response object for each answer, which costs as much as all that a front door does.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web import RequestPayloadError

from callboard.http.exchange import NOT_HTTP, Exchange
from callboard.http.front import Front

LINGERING_S = 2.0  # how long the rest of a refused body is read away, so that the client sees the answer
MAX_LINE = 8_190
MAX_HEADERS = 100
MAX_OPEN = 10_000  # connections of one listener, each about 5 kB: whoever comes then is cut off at once
MAX_WAITING = 16  # requests that a client may send ahead of their answers
BUFFER = 1 << 16  # bytes of a body that wait to be read


@dataclass(frozen=True)
class Patience:
    """How long a slow client may hold a connection: over a request's line and headers, from their first byte; between
    requests; and over reading what it was answered. Over a body it may take as long as its request.
    """

    head_s: float = 10.0
    idle_s: float = 60.0
    reader_s: float = 30.0


class Connection(BaseProtocol):
    """Serves one request at a time, in the order they come.

    A client that is slower than `Patience` is cut off without a word: it would not read that either. One that has gone
    does not cancel its request: what it asked for may be half done.
    """

    __slots__ = (
        "_arrival",
        "_ending",
        "_front",
        "_head_timer",
        "_idle_since",
        "_idle_timer",
        "_open",
        "_patience",
        "_payload",
        "_reader_timer",
        "_task",
        "_waiting",
        "busy",
        "gone",
        "peer",
    )

    def __init__(
        self, front: Front[Any], open_: "set[Connection]", patience: Patience, loop: asyncio.AbstractEventLoop
    ) -> None:
        parser = HttpRequestParser(
            self,
            loop,
            BUFFER,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            payload_exception=RequestPayloadError,
            auto_decompress=False,  # a body is never inflated: a small one could become a large one
            max_msg_queue_size=MAX_WAITING,
        )
        super().__init__(loop, parser)
        self.busy = False  # a request is being served
        self.gone = asyncio.Event()
        self.peer: str | None = None
        self._front = front
        self._open = open_
        self._patience = patience
        self._waiting: deque[tuple[RawRequestMessage, StreamReader]] = deque()
        self._payload: StreamReader = EMPTY_PAYLOAD  # the body that comes in, or came in last
        self._arrival: asyncio.Future[None] | None = None  # of a request, while none is there
        self._task: asyncio.Task[None] | None = None
        self._ending = False
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    # What the transport says ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        if len(self._open) >= MAX_OPEN:
            self.cut()
        self._open.add(self)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else None
        self._idle_since = self._loop.time()
        self._idle_timer = self._loop.call_at(self._idle_since + self._patience.idle_s, self._look_idle)
        self._task = self._loop.create_task(self._serve(), name="connection")

    def data_received(self, data: bytes) -> None:
        """Queue the requests that are whole in their heads, and serve them."""
        if self._ending or self._parser is None:
            return
        messages: Sequence[tuple[RawRequestMessage, StreamReader]]
        try:
            messages, upgraded, _ = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self._break_body(RequestPayloadError(str(error)))
            messages, upgraded = ((NOT_HTTP, EMPTY_PAYLOAD),), True
        if upgraded:  # what follows is not HTTP, and we speak nothing else
            self._ending = True
        if not messages:
            if data and not self.busy and self._head_timer is None:
                self._head_timer = self._loop.call_later(self._patience.head_s, self.cut)
            return
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._waiting.extend(messages)
        self._payload = messages[-1][1]
        if len(self._waiting) >= MAX_WAITING and not self._buffer_paused:
            self._pause_reading_for_buffer()
        self._wake()

    def eof_received(self) -> bool:
        """The client says no more; what it asked before is still answered."""
        self._ending = True
        return self.busy and self._payload.is_eof()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """The body is being read: called for each piece of it, also where nothing was paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        """What the client does not read piles up here: it has so long to read it down again."""
        super().pause_writing()
        self._reader_timer = self._loop.call_later(self._patience.reader_s, self.cut)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of the timers, and of a request that waits for the rest of its body."""
        for timer in (self._idle_timer, self._head_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()
        self._break_body(ConnectionResetError("the client has gone"))
        self._ending = True
        self._waiting.clear()
        self._wake()
        super().connection_lost(exc)
        self._parser = None
        self._open.discard(self)
        self.gone.set()

    # Serving -------------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Answer what comes, until the connection ends."""
        try:
            while (self._waiting or await self._arrived()) and self.transport is not None:
                self.busy = True
                message, payload = self._next()
                response = await self._front.handle(Exchange(message, payload, self.transport, self._task, self.peer))
                kept = not (response.closing or message.should_close or (self._ending and not self._waiting))
                if self.transport is None:
                    return
                self.transport.write(response.encode(message, kept=kept))
                if self._paused:
                    await self._drain_helper()
                if not payload.is_eof():
                    kept = await self._read_away(payload) and kept
                if not kept:
                    return
        except ConnectionError:  # it has gone
            pass
        finally:
            self._waiting.clear()
            self._close()

    async def _arrived(self) -> bool:
        """Whether there is another request, once there is; not, when there will be none."""
        self.busy = False
        self._idle_since = self._loop.time()
        if not self._ending:
            self._arrival = self._loop.create_future()
            await self._arrival
        return bool(self._waiting)

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _next(self) -> tuple[RawRequestMessage, StreamReader]:
        taken = self._waiting.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._waiting) <= MAX_WAITING // 2:
            self.data_received(b"")  # the parser has kept the rest
            if len(self._waiting) < MAX_WAITING:
                self._resume_reading_for_buffer()
        return taken

    async def _read_away(self, payload: StreamReader) -> bool:
        """Whether the rest of a body that nobody wanted came in time."""
        try:
            async with asyncio.timeout(LINGERING_S):
                while not payload.is_eof():
                    await payload.readany()
        except (TimeoutError, RequestPayloadError):
            return False
        return True

    def _break_body(self, error: Exception) -> None:
        if not self._payload.is_eof() and self._payload.exception() is None:
            self._payload.set_exception(error)

    # Ends ----------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """End now: whatever is being served is cancelled, and what has been answered is still written."""
        self._ending = True
        if self.busy and self._task is not None:
            self._task.cancel()
        self._wake()

    def _close(self) -> None:
        """Close when the client has read what it was answered, for which it has so long."""
        self._ending = True
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.close()
            if transport.get_write_buffer_size():
                self._loop.call_later(self._patience.reader_s, transport.abort)

    def cut(self) -> None:
        """Close without another word."""
        if self.transport is not None:
            self.transport.abort()

    def _look_idle(self) -> None:
        ends_at = (self._loop.time() if self.busy else self._idle_since) + self._patience.idle_s
        if ends_at <= self._loop.time():
            self._close()
        else:
            self._idle_timer = self._loop.call_at(ends_at, self._look_idle)
