"""The cell: one actor in its place in the tree. It takes the actor's messages, and handles them in batches.

There is no task for an idle actor, and none for plain handlers. The first message puts the cell on the scheduler's list
of the ready, which one callback of the event loop works off. An async handler turns the rest of its batch over to a
task.

Names without an underscore are for the modules beside this one, which do the rarer things: lifecycle, stash, timers,
deathwatch, transfer. What these remember hangs on `cold`, made when it is needed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from threading import get_ident
from typing import Any, TypeVar

from callboard.runtime.actor import events
from callboard.runtime.actor.actor import Actor, ActorContext
from callboard.runtime.actor.context import CURRENT
from callboard.runtime.actor.context import Context as Carried
from callboard.runtime.actor.deadlines import Deadlines
from callboard.runtime.actor.envelope import Envelope
from callboard.runtime.actor.errors import ENDING, ActorCrashedError, ActorStoppedError, UnhandledMessageError, sound
from callboard.runtime.actor.handlers import DeferredReply, Handlers, to_await
from callboard.runtime.actor.mailbox import ACCEPTED, Counts
from callboard.runtime.actor.messages import Asked, Message
from callboard.runtime.actor.ref import ASK_TIMEOUT_S, Ref
from callboard.runtime.actor.spans import Recording, is_sampled
from callboard.runtime.dispatch import deathwatch, fates, lifecycle, stash, timers
from callboard.runtime.dispatch.child_spec import ChildSpec
from callboard.runtime.dispatch.cold_state import ColdState
from callboard.runtime.dispatch.mailbox_queue import CLOSED, let_in, overflow, refuse_cycle
from callboard.runtime.dispatch.node import HANDLING, RUNNING, Node, Parent, State
from callboard.runtime.dispatch.parked_task import ParkedTask
from callboard.runtime.dispatch.scheduler import BATCH, in_task
from callboard.runtime.dispatch.timers import ActorTimer, Timers

M = TypeVar("M", bound=Message | None)
T = TypeVar("T")

RESOLUTION_S = 0.002  # of the loops' timers: two that are due at the same time may fire so far apart
CLOSED_STATES = (State.DRAINING, State.STOPPING, State.STOPPED)

current = CURRENT.get  # bound once: each look-up counts in a tell
enter = CURRENT.set


class Cell(Node, ActorContext[M]):
    """Everyone but its supervisor sees only the Ref. It takes messages from before its first start until its stop,
    restarts included.
    """

    __slots__ = (
        "_times",
        "actor",
        "busy_s",
        "cold",
        "current",
        "handled",
        "handlers",
        "idle",
        "limit",
        "make",
        "queue",
        "remaining",
        "since",
        "size",
        "table",
        "work",
    )

    def __init__(self, name: str, make: Callable[[], Actor[Any]], spec: ChildSpec, handlers: Handlers) -> None:
        super().__init__(name, spec)
        self.make = make
        self.handlers = handlers
        self.table: dict[type, Callable[[Any, Any], Any]] = handlers.first  # by type, in the actor's present state
        self.actor: Actor[Any] | None = None  # the incarnation
        self.current: Any = None  # the message in progress, outside of a batch of plain ones
        self.work: ParkedTask | None = None  # what runs the batches from the first async handler on, and waits between
        self.queue: Any = ()  # a deque from the first message on: an empty one is most of an idle actor's memory
        self.limit = CLOSED
        self.idle = False  # it runs, and no batch is scheduled or running
        self.handled = 0
        self.busy_s = 0.0  # in batches with a handler that waited
        self.since = 0.0  # when it last began to be busy, in the event loop's time
        self.cold: ColdState | None = None
        self.remaining: Any = None  # of a batch of plain messages: its iterator ...
        self.size = 0  # ... over so many messages
        self._times: Deadlines | None = None

    @property
    def cold_state(self) -> ColdState:
        """Return the state that most actors do not need most of the time; it is made when it is needed."""
        if self.cold is None:
            self.cold = ColdState()
        return self.cold

    @property
    def record(self) -> ColdState:
        """See Node.record."""
        return self.cold_state

    # Sending ---------------------------------------------------------------------------------------------------------

    def tell(self, message: M) -> Awaitable[None]:
        """See Ref.tell. A message that needs more than an append to an open mailbox goes the longer way."""
        queue = self.queue
        if len(queue) > self.limit or message.__class__ not in self.table:
            return super().tell(message)
        outer = current()
        if outer is None:
            queue.append(message)
        else:
            queue.append((message, outer if outer.__class__ is Carried else outer.carries()))
        if self.idle:
            self.schedule()
        return ACCEPTED

    def tell_nowait(self, message: M) -> None:
        """See Ref.tell_nowait; the longer way likewise."""
        queue = self.queue
        if len(queue) > self.limit or message.__class__ not in self.table:
            super().tell_nowait(message)
            return
        outer = current()
        if outer is None:
            queue.append(message)
        else:
            queue.append((message, outer if outer.__class__ is Carried else outer.carries()))
        if self.idle:
            self.schedule()

    def ask(self, message: "Asked[M, T]", timeout_s: float = ASK_TIMEOUT_S) -> "asyncio.Future[T]":
        """See Ref.ask; so does an ask from within a handler, with less time than it asks for, or recorded."""
        times = self._times
        if (
            times is None
            or get_ident() != times.thread  # not the running loop: asking for that is a system call in Python 3.11
            or len(self.queue) > self.limit
            or message.__class__ not in self.table
        ):
            return super().ask(message, timeout_s)
        deadline, trace, baggage = times.time() + timeout_s, None, None
        if (outer := current()) is not None:
            if (
                outer.__class__ is Envelope
                or (outer.deadline is not None and outer.deadline < deadline)
                or (Recording.recorder is not None and is_sampled(outer.traceparent))
            ):
                return super().ask(message, timeout_s)
            trace, baggage = outer.traceparent, outer.baggage
        reply: asyncio.Future[T] = times.create_future()
        due = times.queues.get(timeout_s)
        if due is None or due.timer is None:
            self.queue.append(envelope := Envelope(message, trace, deadline, reply, None, self, None, baggage))
            times.add(envelope, timeout_s)
        else:
            asks = due.asks
            envelope = Envelope(message, trace, deadline, reply, None, self, asks, baggage)
            asks[envelope] = None
            self.queue.append(envelope)
        if self.idle:
            self.schedule()
        else:
            envelope.mind()
        return reply

    def enqueue(self, message: Any, item: Any, *, may_wait: bool = True) -> Awaitable[None]:
        """See Ref.enqueue."""
        if message.__class__ not in self.table:
            raise UnhandledMessageError(self.path, message, sorted(kind.__name__ for kind in self.handlers.all))
        if item.__class__ is Envelope:
            if item.asked_by is not None:
                refuse_cycle(self, item)
            item.cell = self
            if item.reply is not None and not self.idle:
                item.mind()
        if len(self.queue) > self.limit:
            if self.is_closed():
                raise ActorStoppedError(self.path, message)
            if self.limit == CLOSED:
                self.admit()
            if len(self.queue) > self.limit:
                return overflow(self, message, item, may_wait)
        self.queue.append(item)
        if self.idle:
            self.schedule()
        return ACCEPTED

    def accept(self, item: Any) -> None:
        """Take a message beyond the capacity if need be."""
        if self.limit == CLOSED:
            self.admit()
        self.queue.append(item)
        if self.idle:
            self.schedule()

    def admit(self) -> None:
        """Open the mailbox, to the senders that wait for room first."""
        if self.is_closed():
            return
        if not isinstance(self.queue, deque):
            self.queue = deque()
        capacity = self.spec.mailbox.capacity
        if self.cold is not None and self.cold.waiters:
            let_in(self.cold.waiters, self.queue, capacity)
        self.limit = CLOSED if self.cold is not None and self.cold.waiters else capacity - 1

    def asker_gone(self, envelope: Envelope) -> None:
        """The asker has its answer from elsewhere, or no longer waits."""
        fates.asker_gone(self, envelope)

    def is_closed(self) -> bool:
        """Whether it takes no messages any more."""
        return self.state in CLOSED_STATES or (self.cold is not None and self.cold.draining)

    def may_begin(self) -> bool:
        """Whether the next message may be begun."""
        return self.state in HANDLING and not (self.cold is not None and self.cold.held)

    # Turns: plain handlers -------------------------------------------------------------------------------------------

    def schedule(self) -> None:
        """Have a batch in the next turn. Only a running actor is ever idle, so only a running one is scheduled."""
        self.idle = False
        if self.work is not None:
            park = self.work.park
            if park is not None and not park.done():
                park.set_result(None)
            return
        scheduler = self.scheduler
        scheduler.ready.append(self)  # type: ignore[union-attr]
        if not scheduler.turning:  # type: ignore[union-attr]
            scheduler.schedule_turn()  # type: ignore[union-attr]

    def run_batch(self) -> None:
        """Handle what waits, as many messages as the scheduler says at most, or begin to, when a handler is async."""
        if self.state not in HANDLING or self.work is not None:  # it was stopped, or woken twice by a restart
            return
        if self.cold is not None and self.cold.held:
            self.idle = False
            return
        queue = self.queue
        size = len(queue)
        if size == 1:
            self._handle_one(queue.popleft())
        elif size:  # else what waited has left
            self._handle_many(min(size, self.scheduler.batch))  # type: ignore[union-attr]
        if self.work is not None:
            return
        if queue or self.cold is not None or self.state is not RUNNING:
            self.finish_batch()
        else:
            self.idle = True

    def _handle_many(self, size: int) -> None:
        """The hot path: what has been handled is counted by how far the iterator has come.

        A handler that leaves something in the context of this turn, a ContextVar of its own, ends the batch.
        """
        table, actor, pop = self.table, self.actor, self.queue.popleft
        context, clean = self.scheduler.context, self.scheduler.clean  # type: ignore[union-attr]
        self.size = size
        self.remaining = remaining = iter(range(size))
        result = item = None
        try:
            for _ in remaining:
                item = pop()
                result = table[item.__class__](actor, item)
                if result is not None and (result := to_await(result)) is not None:
                    break
                if context != clean:
                    self.end_batch()
        except BaseException as error:  # noqa: BLE001 - the actor loop is where a crash, of any class, becomes a fate
            self.leave_batch(item)
            self.has_raised(item, error)
            return
        if result is not None:
            self.leave_batch(item)
            self.begin_async(item, result)
        else:
            self.handled += self.size
            self.remaining = None

    def _handle_one(self, item: Any) -> None:
        """A batch of one message: most asks are."""
        self.current = item
        try:
            result = self.table[item.__class__](self.actor, item)
            if result is not None:
                result = to_await(result)
        except BaseException as error:  # noqa: BLE001 - see _handle_many
            self.has_raised(item, error)
            return
        if result is not None:
            self.begin_async(item, result)
        else:
            self.handled += 1
            self.current = None

    def leave_batch(self, item: Any) -> None:
        """Count what the batch has handled before `item`, which is in progress."""
        self.handled += self.size - self.remaining.__length_hint__() - 1
        self.remaining = None
        self.current = item

    def end_batch(self) -> None:
        """End a batch after the message in progress, so that the next one sees another state of the actor."""
        if self.remaining is not None:
            self.size -= self.remaining.__length_hint__()
            self.remaining.__setstate__(BATCH)

    def finish_batch(self) -> None:
        """After a batch: go on in another turn of the loop, or fall idle."""
        self.current = None
        cold = self.cold
        if cold is not None:
            cold.passed()
            if cold.waiters:
                self.admit()
        if self.state not in HANDLING or (cold is not None and cold.held):
            self.idle = False
        elif self.queue:
            self.schedule()
            return
        else:
            self.idle = self.state is RUNNING
        if cold is not None:
            cold.fall_quiet()

    # Turns: async handlers -------------------------------------------------------------------------------------------

    def begin_async(self, item: Any, awaitable: Any) -> None:
        """Turn the rest of a batch, and those that follow, over to a task of the actor's."""
        assert self.scheduler is not None  # noqa: S101 - a cell has turns only between start and stop
        if self.cold is not None and self.cold.waiters:
            self.admit()
        self.work = ParkedTask(self, self.scheduler, item, awaitable)

    def put_back(self, item: Any) -> None:
        """A message that was to be handled has not been begun."""
        self.queue.appendleft(item)

    def is_withdrawn(self, item: Any) -> bool:
        """Whether the handler of `item` is being cancelled because its asker has gone."""
        return self.cold is not None and self.cold.withdrawn is item

    # Fates -----------------------------------------------------------------------------------------------------------

    def defer(self, envelope: Envelope, reply: "DeferredReply[Any]") -> None:
        """The reply comes later; at the incarnation's end at the latest, as an error."""
        fates.defer(self, envelope, reply)

    def too_late(self, item: Any) -> None:
        """Nobody waits for a message any more: it is not begun."""
        fates.too_late(self, item)

    def counts(self) -> Counts:
        """See Ref.counts."""
        return fates.counts_of(self)

    def has_raised(self, item: Any, error: BaseException) -> None:
        """Whatever a handler raises is a crash; what is to end the program ends it after that."""
        error = sound(error)
        if isinstance(error, GeneratorExit) and self.task is not None and not in_task():
            raise error  # the loop is gone, and the task of this handler is being closed
        fates.failed(self, item, error)
        if isinstance(error, ENDING):
            raise error

    def uncount(self) -> None:
        """The message in progress, which is counted as handled when the batch goes on, has or gets another fate."""
        self.handled -= 1

    # What is in progress ---------------------------------------------------------------------------------------------

    @property
    def task(self) -> "asyncio.Task[None] | None":
        """The task in which a batch runs now, from its first async handler on."""
        return None if self.work is None or not self.work.handling else self.work.task

    def is_busy(self) -> bool:
        """Whether a message is in progress."""
        return self.current is not None or self.remaining is not None

    def in_progress(self) -> list[Any]:
        """The messages being handled, outside of a batch of plain ones."""
        return [] if self.current is None else [self.current]

    def holds(self, item: Any) -> bool:
        """Whether a message waits here, is put aside or is in progress."""
        aside = None if self.cold is None else self.cold.stash
        here = any(each is item for each in (*self.in_progress(), *self.queue))
        return here or (aside is not None and aside.holds(item))

    def runs_in(self, task: "asyncio.Task[Any] | None") -> bool:
        """Whether a handler of this actor runs in that task, or, in a batch of plain messages, without one."""
        return task is self.task

    # Life ------------------------------------------------------------------------------------------------------------

    def emit(self, event: events.Lifecycle) -> None:
        """Tell whoever watches the system."""
        if self.scheduler is not None:
            self.scheduler.events.emit(event)

    def crash(self, error: BaseException, message: str | None = None) -> None:
        """Report a crash to the supervisor, once for each incarnation."""
        lifecycle.crash(self, error, message)

    def kill(self) -> None:
        """End the incarnation at once, whatever it is doing; the supervisor decides what follows."""
        lifecycle.kill(self)

    def exit(self, reason: str | None = None, *, renews: bool = False) -> None:
        """End the incarnation after the message in progress: normally, or, with a reason, as a Shutdown or Renewal."""
        lifecycle.leave(self, reason, renews=renews)

    def start(self, parent: Parent) -> Coroutine[Any, Any, None]:
        """See Node.start. No coroutine of its own: that would be a tenth of a start."""
        scheduler = parent.scheduler
        if scheduler is None:
            raise RuntimeError(f"start {parent.path} before its child {self.name}")
        self.parent, self.scheduler, self._times = parent, scheduler, scheduler.deadlines
        return lifecycle.start(self, scheduler)

    async def halt(self) -> None:
        """See Node.halt. A handler that still runs is cancelled."""
        await lifecycle.halt(self)

    async def stop(self) -> None:
        """Take no more messages, let the handler that runs finish within `shutdown_s`, end.

        Asks that wait are returned to their askers; messages that were only told are dead letters.
        """
        await lifecycle.stop(self, self.spec.shutdown_s, None)

    async def stop_after(self, reason: BaseException | None) -> None:
        """Like `stop`, after an exit that is not followed by a restart."""
        await lifecycle.stop(self, 0.0, reason)

    async def drain(self, grace_s: float) -> int:
        """See Ref.drain. An actor that waits for its restart handles its messages after that."""
        return await lifecycle.drain(self, grace_s)

    async def end_handlers(self, grace_s: float) -> None:
        """Wait for what is in progress, for `grace_s` at most, then cancel it; and let go of the task."""
        await lifecycle.end_handlers(self, grace_s)

    def child_exited(self, child: Node, error: BaseException | None) -> None:
        """The actor's own children have crashed too often: so has the actor."""
        self.crash(error or ActorCrashedError(child.path, None))

    async def spawn(self, child: Any) -> None:
        """See Actor.spawn."""
        await lifecycle.spawn(self, child)

    def find(self, path: str) -> Ref[Any]:
        """See Actor.find."""
        if self.scheduler is None:
            raise RuntimeError(f"{self.path} has not been started: find others in on_start or later")
        return self.scheduler.find(path)  # type: ignore[no-any-return]

    # What an actor asks for itself -----------------------------------------------------------------------------------

    @property
    def timers(self) -> Timers:
        """The timers of this incarnation."""
        cold = self.cold_state
        if cold.timers is None:
            cold.timers = Timers()
        return cold.timers

    def start_timer(self, message: Any, delay_s: float, interval_s: float | None = None) -> ActorTimer:
        """Make a timer of the current incarnation. See Actor.after and Actor.every."""
        return timers.start_timer(self, message, delay_s, interval_s)

    def expire_ticks(self, timer: Any) -> None:
        """Take the ticks of one timer, or of all, out of the mailbox and the stash."""
        timers.expire_ticks(self, timer)

    def stash(self, message: Any) -> None:
        """See Actor.stash."""
        stash.put_aside(self, message)

    def unstash(self) -> None:
        """See Actor.unstash."""
        stash.unstash(self)

    def become(self, state: str | None) -> None:
        """See Actor.become."""
        if state is not None and state not in self.handlers.by_state:
            known = ", ".join(sorted(self.handlers.by_state)) or "none"
            raise ValueError(f"{self.path} has no handlers for a state {state!r}; it has {known}")
        self.table = self.handlers.first if state is None else self.handlers.by_state[state]
        self.end_batch()

    def is_stashed(self, item: Any) -> bool:
        """Whether the message in progress has just been stashed, and so has no fate yet."""
        return self.cold is not None and stash.is_aside(self.cold.stash, item)

    def take_from_stash(self, item: Any) -> None:
        """Take the message in progress out of the stash, if it is there: its handler has not ended well."""
        stash.take_back(self, item)

    @property
    def deathwatch(self) -> deathwatch.Deathwatch:
        """The actors that watch this one, and those that it watches."""
        cold = self.cold_state
        if cold.deathwatch is None:
            cold.deathwatch = deathwatch.Deathwatch()
        return cold.deathwatch

    def watch(self, ref: Ref[Any]) -> None:
        """See Actor.watch."""
        if not isinstance(ref, Cell):
            raise TypeError(f"{self.path} cannot watch {ref!r}: only actors are watched")
        deathwatch.watch(self, ref)

    def unwatch(self, ref: Ref[Any]) -> None:
        """See Actor.unwatch."""
        if isinstance(ref, Cell):
            deathwatch.unwatch(self, ref)
