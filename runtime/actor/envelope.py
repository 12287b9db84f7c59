"""Envelopes: what stands in a mailbox around a message that wants a reply, or is a tick of a timer."""

from typing import Any, TypeGuard

import msgspec

from callboard.runtime.actor.context import Context


class Envelope(msgspec.Struct, eq=False):
    """A message with what travels beside it. A message that is only told under a context is a tuple of both.

    While it is handled it stands in CURRENT, so that what its handler sends finds trace and deadline there, and an ask
    finds, from `asked_by` to `asked_by`, everyone who waits for its reply. Once it has been answered nobody waits for
    it: a task that its handler left behind carries its trace and no deadline.
    """

    message: Any
    traceparent: str | None
    deadline: float | None
    reply: Any = None  # the asker's future; None for a tick or what is tried again
    asked_by: "Envelope | None" = None  # whose handler waits for this reply
    cell: Any = None  # who accepted it
    deadline_queue: Any = None  # the asks of one length, to be taken out when it is answered
    baggage: Any = None
    minded: bool = False  # its cell is called when the asker has gone
    timer: Any = None  # whose tick it is
    carried: Context | None = None  # see `carries`

    @property
    def due(self) -> float:
        """The deadline of an ask, which always has one."""
        return self.deadline or 0.0

    @property
    def answered(self) -> bool:
        """Whether it is an ask that nobody waits for any more."""
        return self.reply is not None and bool(self.reply.done())

    def carries(self) -> Context:
        """The context of what is sent while this is handled."""
        if self.answered:
            return Context(self.traceparent, None, self.baggage)
        if self.carried is None:
            self.carried = Context(self.traceparent, self.deadline, self.baggage)
        return self.carried

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
        if self.deadline_queue is not None:
            self.deadline_queue.pop(self, None)

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


def message_of(item: Any) -> Any:
    """The message in a mailbox's item: bare, in an envelope, or in a tuple with its context."""
    kind = item.__class__
    if kind is Envelope:
        return item.message
    return item[0] if kind is tuple else item


def is_ask(item: Any) -> TypeGuard[Envelope]:
    """Whether somebody waits for the reply to a mailbox's item."""
    return item.__class__ is Envelope and item.reply is not None


def timer_of(item: Any) -> Any:
    """The timer whose tick a mailbox's item is; None for any other."""
    return item.timer if item.__class__ is Envelope else None
