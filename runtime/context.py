"""What travels with every message beside its fields: the trace it belongs to, its deadline, and who waits for whom."""

from contextvars import ContextVar
from typing import Any

import msgspec


class Context(msgspec.Struct, frozen=True):
    """`traceparent` is W3C Trace Context's header; `deadline` is in the event loop's time, seconds. `baggage` is any
    value of the program's own, such as the origin of a request: it goes wherever the trace goes within the process.
    """

    traceparent: str | None = None
    deadline: float | None = None
    baggage: Any = None


class Envelope(msgspec.Struct, eq=False):
    """A message with what travels beside it; only one that has a context or wants a reply is wrapped.

    While it is handled it stands in CURRENT, so that what its handler sends finds trace and deadline there, and an ask
    finds, from `outer` to `outer`, everyone who waits for its reply. Once it has been answered nobody waits for it: a
    task that its handler left behind carries its trace and no deadline.
    """

    message: Any
    traceparent: str | None
    deadline: float | None
    reply: Any = None  # the asker's future; None for a tell
    outer: "Envelope | None" = None  # whose handler waits for this reply
    cell: Any = None  # who accepted it
    asks: Any = None  # the deadlines among which it stands, to be taken out when it is answered; of a tick, its timer
    baggage: Any = None
    minded: bool = False  # its cell is called when the asker has gone

    @property
    def due(self) -> float:
        """The deadline of an ask, which always has one."""
        return self.deadline or 0.0

    @property
    def answered(self) -> bool:
        """Whether it is an ask that nobody waits for any more."""
        return self.reply is not None and bool(self.reply.done())

    def mind(self) -> None:
        """Let the cell know when the asker goes: for an ask that may have to wait, or whose handler takes its time."""
        if not self.minded:
            self.minded = True
            self.reply.add_done_callback(self._asker_gone)

    def _asker_gone(self, _reply: Any) -> None:
        self.forget()
        if self.cell is not None:
            self.cell.asker_gone(self)

    def unmind(self) -> None:
        """The answer is coming: the cell need not be told."""
        if self.minded:
            self.minded = False
            self.reply.remove_done_callback(self._asker_gone)

    def forget(self) -> None:
        """Stand among the deadlines no more."""
        if self.reply is not None and self.asks is not None:
            self.asks.pop(self, None)

    def answer(self, result: Any) -> bool:
        """Give the asker the reply; whether it still waited for it."""
        self.unmind()
        self.forget()
        if self.reply.done():
            return False
        self.reply.set_result(result)
        return True

    def fail(self, error: BaseException) -> None:
        """Give the asker, if there is one and it still waits, an error for an answer."""
        if self.reply is None:
            return
        self.unmind()
        self.forget()
        if not self.reply.done():
            self.reply.set_exception(error)


CURRENT: ContextVar[Context | Envelope | None] = ContextVar("callboard_context", default=None)


def current_context() -> Context | None:
    """The context of the message or request that is being handled, or None outside of any."""
    current = CURRENT.get()
    if isinstance(current, Envelope):
        return Context(current.traceparent, None if current.answered else current.deadline, current.baggage)
    return current


class use_context:  # noqa: N801 - it reads as what it does
    """Run a block under `context`: what it tells and asks carries it. A class, since each request enters one."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context | None) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = CURRENT.set(self._context)

    def __exit__(self, *_: object) -> None:
        CURRENT.reset(self._token)
