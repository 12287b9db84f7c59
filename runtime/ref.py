"""References: an actor's or a pool's address, and the two things one does with it, tell and ask."""

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from callboard.runtime.context import CURRENT, Context, Envelope
from callboard.runtime.deadlines import deadlines
from callboard.runtime.errors import WrongLoopError
from callboard.runtime.message import Message, Request

if TYPE_CHECKING:
    from callboard.runtime.system import System

T = TypeVar("T")
M_contra = TypeVar("M_contra", bound=Message | None, contravariant=True)

ASK_TIMEOUT_S = 5.0  # as OTP's gen_server:call


class Ref(Generic[M_contra]):
    """An address. It stays the same across restarts, and may be handed out before its actor is started.

    It is used in the thread of the actor's event loop. From another one, tell by
    `loop.call_soon_threadsafe(ref.tell_nowait, message)`: only an ask notices that it is in a wrong one.
    """

    __slots__ = ()

    system: "System | None"

    @property
    def path(self) -> str:
        """The full name."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """The class and the path: `<Cell root/users>`."""
        return f"<{type(self).__name__} {self.path}>"

    def tell(self, message: M_contra) -> Awaitable[None]:
        """Send a message and forget it: `await ref.tell(m)` suspends only while a full mailbox makes it wait.

        Raises UnhandledMessageError, ActorStoppedError, and MailboxFullError when the mailbox rejects.
        """
        return self.put(message, _told(message))

    def tell_nowait(self, message: M_contra) -> None:
        """Like `tell`, from synchronous code: where that would wait, this raises MailboxFullError."""
        self.put(message, _told(message), may_wait=False)

    def ask(self, message: Request[T], timeout_s: float = ASK_TIMEOUT_S) -> "asyncio.Future[T]":
        """Send a request; await the result for its reply: `timeout_s` at most, or what the request being handled has
        left, if that is less. It is a future, sent at once, not a coroutine.

        Raises what the handler raised; AskTimeoutError at the deadline, which also cancels the handler; AskCycleError,
        at once, when the actor itself waits for this reply; OutsideLoopError without a running event loop,
        WrongLoopError on another one than the actor's; and whatever `tell` raises. If the caller is cancelled, a
        queued message is withdrawn and a running handler cancelled.
        """
        outer = CURRENT.get()
        times = deadlines()
        if self.system is not None and self.system.deadlines is not times:
            raise WrongLoopError(self.path)
        reply: asyncio.Future[T] = times.create_future()
        deadline = times.time() + timeout_s
        length: float | None = timeout_s
        if outer is None:
            envelope = Envelope(message, None, deadline, reply)
        else:
            due = time_left(outer)
            if due is not None and due < deadline:
                deadline, length = due, None
            waits = outer if type(outer) is Envelope and outer.reply is not None and not outer.answered else None
            envelope = Envelope(message, outer.traceparent, deadline, reply, waits, baggage=outer.baggage)
        self.put(message, envelope)
        times.add(envelope, length)
        return reply

    def put(self, message: Any, item: Any, *, may_wait: bool = True) -> Awaitable[None]:
        """Put `item`, which is `message` or the envelope around it, into a mailbox; await the result for room."""
        raise NotImplementedError


def _told(message: Any) -> Any:
    """The message, in an envelope if there is something to carry beside it."""
    current = CURRENT.get()
    if current is None:
        return message
    return Envelope(message, current.traceparent, time_left(current), baggage=current.baggage)


def time_left(current: Context | Envelope) -> float | None:
    """The deadline of what is being handled, unless that has been answered and a task of its handler goes on."""
    return None if current.__class__ is Envelope and current.answered else current.deadline
