"""The sending side of an actor: a bounded mailbox that takes messages, waits, refuses or drops, and counts."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any, NoReturn, TypeVar

from callboard.runtime import events
from callboard.runtime.context import CURRENT, Envelope
from callboard.runtime.deadlines import Deadlines
from callboard.runtime.errors import ActorStoppedError, AskCycleError, MailboxFullError, UnhandledMessageError
from callboard.runtime.handlers import Handlers
from callboard.runtime.mailbox import ACCEPTED, Counts, Overflow
from callboard.runtime.message import Message, Request
from callboard.runtime.ref import ASK_TIMEOUT_S, Ref, time_left
from callboard.runtime.tree import ChildSpec, Node, Record, State

M = TypeVar("M", bound=Message | None)
T = TypeVar("T")

current = CURRENT.get  # bound once: each look-up counts in a tell

SHUT = -1  # the limit of a mailbox that needs more than an append: not used yet, or closed


def message_of(item: Any) -> Any:
    """The message in a mailbox's item, enveloped or bare."""
    return item.message if type(item) is Envelope else item


def waits_on_reply(item: Any, room: "asyncio.Future[Any]") -> bool:
    """Whether who waits for room is an asker: it waits on its reply."""
    return item.__class__ is Envelope and item.reply is room


def timer_of(item: Any) -> Any:
    """The timer whose tick a mailbox's item is; None for any other."""
    return item.asks if type(item) is Envelope and item.reply is None else None


class Rare(Record):
    """What most actors most of the time do not need; made when it is."""

    __slots__ = (
        "after_item",
        "aside",
        "counts",
        "crashes",
        "draining",
        "held",
        "leaves",
        "life",
        "quiet",
        "reason",
        "stash",
        "ticked",
        "timers",
        "waiters",
        "watchers",
        "watching",
        "withdrawn",
    )

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()  # but `handled`, which every actor counts in a slot of its own
        self.waiters: dict[asyncio.Future[Any], Any] = {}  # what waits for room, by what its sender waits on
        self.timers: set[Any] = set()
        self.ticked = False  # a timer's tick may be in the mailbox
        self.life: asyncio.Task[None] | None = None  # Actor.run
        self.quiet: asyncio.Future[None] | None = None  # somebody waits for the burst to end
        self.withdrawn: Any = None  # the asked message whose handler is being cancelled
        self.stash: list[Any] = []
        self.aside: Any = None  # the message in hand, if it has just been stashed
        self.draining = False  # over restarts too
        self.crashes: tuple[Any, int] = (None, 0)  # the item whose handler crashed, and how often
        self.watchers: dict[Any, None] = {}  # who is to be told of the end, in the order they asked
        self.watching: dict[Any, None] = {}  # whose end it is to be told of
        self.reason: BaseException | None = None  # of the end, when that has come
        self.held = 0  # how many messages in hand elsewhere must be done before this actor begins another
        self.after_item: list[Callable[[], None]] = []  # who waits for the message in hand here
        self.leaves: tuple[str | None] | None = None  # it wants to end, for that reason, as soon as it has started


class Inbox(Node, Ref[M]):
    """A node with a mailbox. It takes messages from before its first start until its stop, restarts included."""

    __slots__ = (
        "_handled",
        "_idle",
        "_limit",
        "_queue",
        "_rare",
        "_remaining",
        "_size",
        "_times",
        "handlers",
        "item",
        "table",
        "task",
    )

    def __init__(self, name: str, spec: ChildSpec, handlers: Handlers) -> None:
        super().__init__(name, spec)
        self.handlers = handlers
        self.table: dict[type, Callable[[Any, Any], Any]] = handlers.first  # by type, in the actor's present state
        self.item: Any = None  # what is being handled, outside of a burst of plain messages
        self.task: asyncio.Task[None] | None = None  # the burst, from its first asynchronous handler on
        self._queue: Any = ()  # a deque from the first message on: an empty one is most of an idle actor's memory
        self._limit = SHUT
        self._idle = False  # it runs, and no burst is scheduled or running
        self._handled = 0
        self._remaining: Any = None  # of a burst of plain messages: its iterator ...
        self._size = 0  # ... over so many messages
        self._rare: Rare | None = None
        self._times: Deadlines | None = None

    @property
    def record(self) -> Rare:
        """See Node.record."""
        if self._rare is None:
            self._rare = Rare()
        return self._rare

    def tell(self, message: M) -> Awaitable[None]:
        """See Ref.tell. What is not for a mailbox that is open and has room goes the longer way."""
        queue = self._queue
        if len(queue) > self._limit or message.__class__ not in self.table:
            return super().tell(message)
        outer = current()
        told: Any = message
        if outer is not None:
            told = Envelope(message, outer.traceparent, time_left(outer), None, None, self, None, outer.baggage)
        queue.append(told)
        if self._idle:
            self.wake()
        return ACCEPTED

    def tell_nowait(self, message: M) -> None:
        """See Ref.tell_nowait; the longer way likewise."""
        queue = self._queue
        if len(queue) > self._limit or message.__class__ not in self.table:
            super().tell_nowait(message)
            return
        outer = current()
        told: Any = message
        if outer is not None:
            told = Envelope(message, outer.traceparent, time_left(outer), None, None, self, None, outer.baggage)
        queue.append(told)
        if self._idle:
            self.wake()

    def ask(self, message: Request[T], timeout_s: float = ASK_TIMEOUT_S) -> "asyncio.Future[T]":
        """See Ref.ask; so does what is asked from within a handler, or with less time than it asks for."""
        times = self._times
        if (
            times is None
            or get_ident() != times.thread  # not the running loop: asking for that is a system call in Python 3.11
            or len(self._queue) > self._limit
            or message.__class__ not in self.table
        ):
            return super().ask(message, timeout_s)
        deadline, trace, baggage = times.time() + timeout_s, None, None
        if (outer := current()) is not None:
            if outer.__class__ is Envelope or (outer.deadline is not None and outer.deadline < deadline):
                return super().ask(message, timeout_s)
            trace, baggage = outer.traceparent, outer.baggage
        reply: asyncio.Future[T] = times.create_future()
        due = times.queues.get(timeout_s)
        if due is None or due.timer is None:
            self._queue.append(envelope := Envelope(message, trace, deadline, reply, None, self, None, baggage))
            times.add(envelope, timeout_s)
        else:
            asks = due.asks
            envelope = Envelope(message, trace, deadline, reply, None, self, asks, baggage)
            asks[envelope] = None
            self._queue.append(envelope)
        if self._idle:
            self.wake()
        else:
            envelope.mind()
        return reply

    def put(self, message: Any, item: Any, *, may_wait: bool = True) -> Awaitable[None]:
        """See Ref.put."""
        if message.__class__ not in self.table:
            raise UnhandledMessageError(self.path, message, sorted(kind.__name__ for kind in self.handlers.all))
        if item.__class__ is Envelope:
            if item.outer is not None:
                self._refuse_cycle(item)
            item.cell = self
            if item.reply is not None and not self._idle:
                item.mind()
        if len(self._queue) > self._limit:
            return self._put_rarely(message, item, may_wait)
        self._queue.append(item)
        if self._idle:
            self.wake()
        return ACCEPTED

    def _put_rarely(self, message: Any, item: Any, may_wait: bool) -> Awaitable[None]:
        """Take the first message, or do what is to be done at the end of room or life."""
        if self.closed():
            raise ActorStoppedError(self.path, message)
        if self._limit == SHUT:
            self.admit()
        if len(self._queue) > self._limit:
            return self._overflow(message, item, may_wait)
        self._queue.append(item)
        if self._idle:
            self.wake()
        return ACCEPTED

    def _refuse_cycle(self, envelope: Envelope) -> None:
        chain = [self.path]
        waits: Envelope | None = envelope.outer
        while waits is not None:
            if waits.answered:
                return
            chain.insert(0, waits.cell.path)
            if waits.cell is self:
                raise AskCycleError(tuple(chain))
            waits = waits.outer

    def wake(self) -> None:
        """Schedule a burst, if the actor handles messages."""
        raise NotImplementedError

    def emit(self, event: events.Lifecycle) -> None:
        """Tell whoever watches the system."""
        if self.system is not None:
            self.system.emit(event)

    def _overflowed(self, message: Any) -> None:
        if self.system is not None and self.system.watched:
            self.emit(events.Overflowed(self.path, message))

    def _sender_can_wait(self) -> bool:
        """An actor that waited for room in its own mailbox would wait for ever: it is refused instead."""
        return _inside_loop() and not self.runs_in(asyncio.current_task())

    def _reject(self, message: Any) -> NoReturn:
        self._overflowed(message)
        raise MailboxFullError(self.path, message, self.spec.mailbox.capacity)

    def _overflow(self, message: Any, item: Any, may_wait: bool) -> Awaitable[None]:
        policy = self.spec.mailbox.overflow
        asked = type(item) is Envelope and item.reply is not None
        crowded = self._rare is not None and len(self._rare.waiters) >= self.spec.mailbox.max_waiting
        if policy is Overflow.WAIT and may_wait and not crowded and self._sender_can_wait():
            # An ask waits on its reply, which its deadline settles; a tell has only the room to wait for.
            room: asyncio.Future[None] = item.reply if asked else asyncio.get_running_loop().create_future()
            if asked:
                item.mind()
            else:
                room.add_done_callback(self._sender_gone)
            self.record.waiters[room] = item
            self._limit = SHUT  # until they have been let in: nothing overtakes them
            return room
        if policy is Overflow.DROP_NEWEST and not asked:
            self.record.counts.dropped += 1
            self._overflowed(message)
        elif policy is Overflow.DROP_OLDEST:
            oldest = self._queue.popleft()
            self._queue.append(item)
            self.record.counts.dropped += 1
            lost = message_of(oldest)
            self._overflowed(lost)
            if type(oldest) is Envelope:
                oldest.fail(MailboxFullError(self.path, lost, self.spec.mailbox.capacity))
            if asked:
                item.mind()
        else:
            self._reject(message)
        return ACCEPTED

    def admit(self) -> None:
        """Open the mailbox, to the senders that wait for room first, first come, first served."""
        if self.closed():
            return
        if not isinstance(self._queue, deque):
            self._queue = deque()
        waiters = {} if self._rare is None else self._rare.waiters
        capacity = self.spec.mailbox.capacity
        while waiters and len(self._queue) < capacity:
            room = next(iter(waiters))
            item = waiters.pop(room)
            if room.done():  # its sender has gone in this turn of the loop
                continue
            self._queue.append(item)
            if not waits_on_reply(item, room):
                room.set_result(None)
        self._limit = SHUT if waiters else capacity - 1

    def _sender_gone(self, room: "asyncio.Future[Any]") -> None:
        """A sender waits for room no more, because it has been let in or cancelled."""
        if self._rare is not None:
            self._rare.waiters.pop(room, None)

    def asker_gone(self, envelope: Envelope) -> None:
        """Whoever asked has its answer from elsewhere, or waits no more: a message that waits leaves at once."""
        rare = self._rare
        if rare is not None and rare.waiters.pop(envelope.reply, None) is not None:
            return
        if envelope in self._queue:
            self._queue.remove(envelope)
            self.settle_early(envelope)
            if rare is not None and rare.waiters:
                self.admit()
        elif rare is not None and envelope in rare.stash and envelope not in self.in_hand():
            rare.stash.remove(envelope)
            self.settle_early(envelope)
        if rare is not None and rare.quiet is not None and not (rare.quiet.done() or self._queue or self.busy()):
            rare.quiet.set_result(None)

    def holds(self, item: Any) -> bool:
        """Whether a message waits here, is put aside or is being handled."""
        return item in self._queue or item in self.in_hand() or (self._rare is not None and item in self._rare.stash)

    def closed(self) -> bool:
        """Whether it takes no messages any more."""
        if self.state in (State.DRAINING, State.STOPPING, State.STOPPED):
            return True
        return self._rare is not None and self._rare.draining

    def leave(self) -> None:
        """Give all that still waits its fate: asks are returned to their askers, tells are dead letters."""
        self._limit = SHUT
        rare = self._rare
        if rare is not None:
            waiters, rare.waiters = rare.waiters, {}
            for room, item in waiters.items():
                error = ActorStoppedError(self.path, message_of(item))
                if waits_on_reply(item, room):
                    item.fail(error)
                elif not room.done():
                    room.set_exception(error)
            if rare.stash:
                self._queue = deque((*rare.stash, *self._queue))
                rare.stash.clear()
        while self._queue:
            item = self._queue.popleft()
            message = message_of(item)
            if type(item) is Envelope and item.reply is not None:
                self.settle_early(item)
                item.fail(ActorStoppedError(self.path, message))
            else:
                self.bury(message, None)

    def bury(self, message: Any, reason: BaseException | None) -> None:
        """Make a told message a dead letter."""
        self.record.counts.dead_lettered += 1
        if self.system is not None and self.system.watched:
            self.emit(events.DeadLettered(self.path, message, reason))

    def settle_early(self, envelope: Envelope) -> None:
        """Count an ask that ends without its handler's answer: its deadline has passed, or it goes back."""
        reply = envelope.reply
        if reply.done() and not reply.cancelled():
            self.record.counts.expired += 1
        else:
            self.record.counts.returned += 1

    def expire_ticks(self, timer: Any) -> None:
        """Take the ticks of one timer, or of all, out of the mailbox and the stash. Not within a burst."""
        stale = 0
        for waiting in (self._queue, self.record.stash):
            ticks = [item for item in waiting if (of := timer_of(item)) is not None and timer in (None, of)]
            for tick in ticks:
                waiting.remove(tick)
            stale += len(ticks)
        self.record.counts.expired += stale

    def busy(self) -> bool:
        """Whether a message is in hand."""
        return self.item is not None or self._remaining is not None

    def in_hand(self) -> list[Any]:
        """The messages being handled, outside of a burst of plain ones."""
        return [] if self.item is None else [self.item]

    def runs_in(self, task: "asyncio.Task[Any] | None") -> bool:
        """Whether a handler of this actor runs in that task, or, in a burst of plain messages, without one."""
        return task is self.task

    def tally(self) -> Counts:
        """The fates of all messages up to this instant."""
        counts = Counts() if self._rare is None else self._rare.counts
        begun = 0 if self._remaining is None else self._size - self._remaining.__length_hint__()
        handled = self._handled + max(0, begun - 1)
        stashed = 0 if self._rare is None else len(self._rare.stash)
        in_hand = begun > 0 or self.item is not None
        if in_hand and self._rare is not None and self._rare.aside is not None:  # which was counted back for that
            in_hand, handled = False, handled + 1
        pending = len(self._queue) + in_hand + stashed
        return Counts(
            handled=handled,
            failed=counts.failed,
            expired=counts.expired,
            dropped=counts.dropped,
            dead_lettered=counts.dead_lettered,
            returned=counts.returned,
            pending=pending,
            late=counts.late,
        )


def _inside_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
