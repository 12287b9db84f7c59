"""References: an actor's or a pool's address, and the two things one does with it, tell and ask."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

from callboard.runtime.context import CURRENT, Context
from callboard.runtime.errors import AskTimeoutError
from callboard.runtime.mailbox import ACCEPTED, Envelope
from callboard.runtime.message import Message, Request

T = TypeVar("T")
M_contra = TypeVar("M_contra", bound=Message | None, contravariant=True)

ASK_TIMEOUT_S = 5.0  # as OTP's gen_server:call


class Ref(Generic[M_contra]):
    """An address. It stays the same across restarts, and may be handed out before its actor is started."""

    __slots__ = ()

    path: str

    def tell(self, message: M_contra) -> Awaitable[None]:
        """Send a message and forget it: `await ref.tell(m)` suspends only while a full mailbox makes it wait.

        Raises UnhandledMessageError, ActorStoppedError, and MailboxFullError when the mailbox rejects.
        """
        context = CURRENT.get()
        return self.put(message, message if context is None else Envelope(message, context))

    def tell_nowait(self, message: M_contra) -> None:
        """Like `tell`, from synchronous code: where that would wait, this raises MailboxFullError."""
        context = CURRENT.get()
        self.put(message, message if context is None else Envelope(message, context), may_wait=False)

    async def ask(self, message: Request[T], timeout_s: float = ASK_TIMEOUT_S) -> T:
        """Send a request and wait for its reply: `timeout_s`, or what the request being handled has left, if less.

        Raises what the handler raised; AskTimeoutError at the deadline, which also cancels the handler; AskCycleError,
        at once, when the actor itself waits for this reply; and whatever `tell` raises. If the caller is cancelled, a
        queued message is withdrawn and a running handler cancelled.
        """
        loop = asyncio.get_running_loop()
        outer = CURRENT.get()
        deadline = loop.time() + timeout_s
        if outer is None:
            context = Context(None, deadline)
        else:
            if outer.deadline is not None:
                deadline = min(deadline, outer.deadline)
            context = Context(outer.traceparent, deadline, outer.chain)
        reply: asyncio.Future[T] = loop.create_future()
        envelope = Envelope(message, context, reply)
        timer = loop.call_at(deadline, self._expire, envelope)
        try:
            room = self.put(message, envelope)
            if room is not ACCEPTED:
                await _room(room, reply)
            return await reply
        except asyncio.CancelledError:
            if envelope.cell is not None:
                envelope.cell.withdraw(envelope)
            raise
        finally:
            timer.cancel()

    def _expire(self, envelope: Envelope) -> None:
        if not envelope.reply.done():
            envelope.expired = True
            envelope.reply.set_exception(AskTimeoutError(self.path, envelope.message))
            if envelope.cell is not None:
                envelope.cell.withdraw(envelope)

    def put(self, message: Any, item: Any, *, may_wait: bool = True) -> Awaitable[None]:
        """Put `item`, which is `message` or the envelope around it, into a mailbox; await the result for room."""
        raise NotImplementedError


async def _room(room: Awaitable[None], reply: asyncio.Future[Any]) -> None:
    """Wait for room in the mailbox, but not beyond the deadline, at which `reply` is settled."""
    waiting = asyncio.ensure_future(room)
    try:
        await asyncio.wait((waiting, reply), return_when=asyncio.FIRST_COMPLETED)
        if not reply.done():
            waiting.result()
    finally:
        waiting.cancel()
