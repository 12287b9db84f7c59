"""References: an actor's or a pool's address, and what one does with it: tell, ask, count, kill, drain."""

import asyncio
from collections.abc import Awaitable
from threading import get_ident
from typing import Any, Generic, Protocol, TypeVar

from callboard.runtime.actor.context import CURRENT
from callboard.runtime.actor.deadlines import Deadlines, deadlines
from callboard.runtime.actor.envelope import Envelope
from callboard.runtime.actor.errors import WrongLoopError
from callboard.runtime.actor.mailbox import Counts
from callboard.runtime.actor.messages import Asked, Message
from callboard.runtime.actor.spans import Recording, SpanKind, begin_span, is_sampled

T = TypeVar("T")
M_contra = TypeVar("M_contra", bound=Message | None, contravariant=True)

ASK_TIMEOUT_S = 5.0  # as OTP's gen_server:call


class Clock(Protocol):
    """Of a reference's scheduler: the deadlines on its event loop."""

    deadlines: Deadlines


class Ref(Generic[M_contra]):
    """An address. It stays the same across restarts, and may be handed out before its actor is started.

    It is used in the thread of the actor's event loop. From another one, tell by
    `loop.call_soon_threadsafe(ref.tell_nowait, message)`: only an ask notices that it is in a wrong one.
    """

    __slots__ = ()

    @property
    def path(self) -> str:
        """The full name, `root/users`."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """The class and the path: `<Cell root/users>`."""
        return f"<{type(self).__name__} {self.path}>"

    def tell(self, message: M_contra) -> Awaitable[None]:
        """Send a message and forget it: `await ref.tell(m)` suspends only while a full mailbox makes it wait.

        Raises UnhandledMessageError, ActorStoppedError, and MailboxFullError when the mailbox rejects.
        """
        current = CURRENT.get()
        return self.enqueue(message, message if current is None else (message, current.carries()))

    def tell_nowait(self, message: M_contra) -> None:
        """Like `tell`, from synchronous code: where that would wait, this raises MailboxFullError."""
        current = CURRENT.get()
        self.enqueue(message, message if current is None else (message, current.carries()), may_wait=False)

    def ask(self, message: "Asked[M_contra, T]", timeout_s: float = ASK_TIMEOUT_S) -> "asyncio.Future[T]":
        """Send a request; await the result for its reply: `timeout_s` at most, or what the request being handled has
        left, if that is less. It is a future, sent at once, not a coroutine: it needs no task of its own.

        Raises what the handler raised; AskTimeoutError at the deadline, which also cancels the handler; AskCycleError,
        at once, when the actor itself waits for this reply; OutsideLoopError without a running event loop,
        WrongLoopError on another one than the actor's; and whatever `tell` raises. If the caller is cancelled, a
        queued message is withdrawn and a running handler cancelled.
        """
        outer = CURRENT.get()
        clock = self.clock()
        times = deadlines() if clock is None or get_ident() != clock.deadlines.thread else clock.deadlines
        if clock is not None and clock.deadlines is not times:
            raise WrongLoopError(self.path)
        reply: asyncio.Future[T] = times.create_future()
        deadline = times.time() + timeout_s
        length: float | None = timeout_s
        if outer is None:
            envelope = Envelope(message, None, deadline, reply)
        else:
            carried = outer.carries()
            if carried.deadline is not None and carried.deadline < deadline:
                deadline, length = carried.deadline, None
            waits = outer if type(outer) is Envelope and outer.reply is not None and not outer.answered else None
            trace = carried.traceparent
            if Recording.recorder is not None and is_sampled(trace):
                trace = self._trace_ask(message, trace, deadline, reply)
            envelope = Envelope(message, trace, deadline, reply, waits, baggage=carried.baggage)
        self.enqueue(message, envelope)
        times.add(envelope, length)
        return reply

    def _trace_ask(self, message: Any, parent: str | None, deadline: float, reply: "asyncio.Future[Any]") -> str | None:
        """Begin the span of an ask, which its reply ends; the traceparent of what its handler causes."""
        path = self.path
        left_ms = round((deadline - reply.get_loop().time()) * 1000)
        attributes = {"actor.path": path, "deadline_ms": left_ms}
        name = f"ACTOR {path.rpartition('/')[2]} {type(message).__name__}"
        span = begin_span(name, SpanKind.INTERNAL, attributes, parent=parent)
        if span is None:
            return parent
        reply.add_done_callback(span.end_with)
        return span.traceparent

    def counts(self) -> Counts:
        """The fates of all messages up to this instant."""
        raise NotImplementedError

    def tally(self) -> Counts:
        """The name that `counts` had."""
        return self.counts()

    def kill(self) -> None:
        """End what runs at once; the supervisor decides what follows. A pool's workers are all killed."""
        raise NotImplementedError

    async def drain(self, grace_s: float) -> int:
        """Take no more messages, handle the accepted ones, stop; the number left when `grace_s` had passed."""
        raise NotImplementedError

    def clock(self) -> Clock | None:
        """Where its event loop's deadlines are; None before its first start."""
        raise NotImplementedError

    def enqueue(self, message: Any, item: Any, *, may_wait: bool = True) -> Awaitable[None]:
        """Put `item`, which is `message` or what is around it, into a mailbox; await the result for room."""
        raise NotImplementedError
