"""The sending side of an actor: a bounded mailbox that takes messages, waits, refuses or drops, and counts."""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any, NoReturn

from callboard.runtime import events
from callboard.runtime.errors import ActorStoppedError, AskCycleError, MailboxFullError, UnhandledMessageError
from callboard.runtime.handlers import Handler
from callboard.runtime.mailbox import ACCEPTED, Counts, Envelope, Overflow
from callboard.runtime.message import Message
from callboard.runtime.tree import ChildSpec, Node, State


def message_of(item: Any) -> Any:
    """The message in a mailbox's item, enveloped or bare."""
    return item.message if type(item) is Envelope else item


class Inbox(Node):
    """A node with a mailbox. It takes messages from before its first start until its stop, restarts included."""

    __slots__ = ("_queue", "_waiters", "counts", "current", "handlers", "idle", "task")

    def __init__(self, name: str, spec: ChildSpec, handlers: dict[type[Message], Handler]) -> None:
        super().__init__(name, spec)
        self.counts = Counts()
        self.handlers = handlers
        self.idle = True  # no burst is scheduled or running
        self.current: Any = None  # the item being handled
        self.task: asyncio.Task[None] | None = None  # the burst, when it has asynchronous handlers
        self._queue: deque[Any] = deque()
        self._waiters: deque[tuple[Any, asyncio.Future[None]]] = deque()

    def put(self, message: Any, item: Any, *, may_wait: bool = True) -> Awaitable[None]:
        """See Ref.put."""
        if type(message) not in self.handlers:
            raise UnhandledMessageError(self.path, message, sorted(kind.__name__ for kind in self.handlers))
        if self.state in (State.DRAINING, State.STOPPING, State.STOPPED):
            raise ActorStoppedError(self.path, message)
        if type(item) is Envelope and item.reply is not None:
            if self.path in (chain := item.context.chain):
                raise AskCycleError((*chain[chain.index(self.path) :], self.path))
            item.cell = self
        if len(self._queue) >= self.spec.mailbox.capacity:
            return self._overflow(message, item, may_wait)
        self._accept(item)
        if self.idle and self.state is State.RUNNING:
            self.wake()
        return ACCEPTED

    def wake(self) -> None:
        """Schedule a burst."""
        raise NotImplementedError

    def emit(self, event: events.Lifecycle) -> None:
        """Tell whoever watches the system."""
        if self.system is not None:
            self.system.emit(event)

    def _accept(self, item: Any) -> None:
        self._queue.append(item)
        self.counts.accepted += 1

    def _reject(self, message: Any) -> NoReturn:
        self.emit(events.Overflowed(self.path, message))
        raise MailboxFullError(self.path, message, self.spec.mailbox.capacity)

    def _overflow(self, message: Any, item: Any, may_wait: bool) -> Awaitable[None]:
        policy = self.spec.mailbox.overflow
        asked = type(item) is Envelope and item.reply is not None
        # An actor that waited for room in its own mailbox would wait for ever: it is refused instead.
        if policy is Overflow.WAIT and may_wait and asyncio.current_task() is not self.task:
            room = asyncio.get_running_loop().create_future()
            self._waiters.append((item, room))
            return room
        if policy is Overflow.DROP_NEWEST and not asked:
            self.counts.accepted += 1
            self.counts.dropped += 1
            self.emit(events.Overflowed(self.path, message))
        elif policy is Overflow.DROP_OLDEST:
            oldest = self._queue.popleft()
            self.counts.dropped += 1
            lost = message_of(oldest)
            self.emit(events.Overflowed(self.path, lost))
            if type(oldest) is Envelope:
                oldest.fail(MailboxFullError(self.path, lost, self.spec.mailbox.capacity))
            self._accept(item)
        else:
            self._reject(message)
        return ACCEPTED

    def admit(self) -> None:
        """Give room that has come free to the senders that wait for it, first come, first served."""
        while self._waiters and len(self._queue) < self.spec.mailbox.capacity:
            item, room = self._waiters.popleft()
            if not room.done():  # its sender may have been cancelled
                self._accept(item)
                room.set_result(None)

    def leave(self) -> None:
        """Give all that still waits its fate: asks are returned to their askers, tells are dead letters."""
        for item, room in self._waiters:
            if not room.done():
                room.set_exception(ActorStoppedError(self.path, message_of(item)))
        self._waiters.clear()
        while self._queue:
            item = self._queue.popleft()
            message = message_of(item)
            if type(item) is Envelope and item.reply is not None:
                self.settle_early(item)
                item.fail(ActorStoppedError(self.path, message))
            else:
                self.counts.dead_lettered += 1
                self.emit(events.DeadLettered(self.path, message))

    def settle_early(self, envelope: Envelope) -> None:
        """Count an ask that ends without its handler's answer: its deadline has passed, or it goes back."""
        if envelope.expired:
            self.counts.expired += 1
        else:
            self.counts.returned += 1

    def tally(self) -> Counts:
        """The fates of all messages up to this instant."""
        self.counts.pending = len(self._queue) + (self.current is not None)
        return self.counts
