"""The cell: handles one actor's messages, in bursts.

There is no task for an idle actor, and none for plain handlers. The first message puts the cell on the system's list of
the ready, which one callback of the event loop works off. An asynchronous handler turns the rest of its burst into a
task.
"""

import asyncio
from contextvars import copy_context
from typing import Any, TypeVar

from callboard.runtime import events
from callboard.runtime.context import CURRENT, Envelope
from callboard.runtime.deadlines import expire
from callboard.runtime.errors import ENDING, ActorCrashedError, AskTimeoutError, Refusal, for_asker
from callboard.runtime.handlers import to_await
from callboard.runtime.handover import HANDLING, RUNNING, Handover
from callboard.runtime.inbox import message_of
from callboard.runtime.life import in_task
from callboard.runtime.message import Message
from callboard.runtime.tree import Abandoned, State, TreeNode

M = TypeVar("M", bound=Message | None)

BURST = 256  # messages handled before other actors have their turn: enough to amortise the turn, about 0.1 ms
RESOLUTION_S = 0.002  # of the loops' timers: two that are due at the same time may fire so far apart


class Cell(Handover[M]):
    """An actor in its place in the tree. Everyone but its supervisor sees only the Ref."""

    __slots__ = ()

    def wake(self) -> None:
        """Schedule a burst. Only a running actor is ever idle, so only a running one is woken."""
        self._idle = False
        system = self.system
        system.ready.append(self)  # type: ignore[union-attr]
        if not system.turning:  # type: ignore[union-attr]
            system.turn_soon()  # type: ignore[union-attr]

    def burst(self) -> None:
        """Handle what waits, BURST messages at most, or begin to, when a handler is asynchronous."""
        if self.state not in HANDLING or self.task is not None:  # it was stopped, or woken twice by a restart
            return
        if self._rare is not None and self._rare.held:
            self._idle = False
            return
        queue = self._queue
        size = len(queue)
        if not size:  # what waited has left
            self.rest()
            return
        if size == 1:
            self._handle_one(queue.popleft())
        else:
            self._handle_many(min(size, self.system.burst))  # type: ignore[union-attr]
        if self.task is not None:
            return
        if queue or self._rare is not None or self.state is not RUNNING:
            self.rest()
        else:
            self._idle = True

    def _handle_many(self, size: int) -> None:
        """The hot path: what has been handled is counted by how far the iterator has come.

        A handler that leaves something in the context of this turn, a ContextVar of its own, ends the turn.
        """
        table, actor, pop = self.table, self._actor, self._queue.popleft
        context, clean = self.system.context, self.system.clean  # type: ignore[union-attr]
        self._size = size
        self._remaining = remaining = iter(range(size))
        result = item = None
        try:
            for _ in remaining:
                item = pop()
                result = table[item.__class__](actor, item)
                if result is not None and (result := to_await(result)) is not None:
                    break
                if context != clean:
                    self.cut_burst()
        except BaseException as error:  # noqa: BLE001 - the actor loop is where a crash, of any class, becomes a fate
            self._leave_burst(item)
            self._has_raised(item, error)
            return
        if result is not None:
            self._leave_burst(item)
            self._start_task(item, result)
        else:
            self._handled += self._size
            self._remaining = None

    def _handle_one(self, item: Any) -> None:
        """A burst of one message: most asks are."""
        self.item = item
        try:
            result = self.table[item.__class__](self._actor, item)
            if result is not None:
                result = to_await(result)
        except BaseException as error:  # noqa: BLE001 - see _handle_many
            self._has_raised(item, error)
            return
        if result is not None:
            self._start_task(item, result)
        else:
            self._handled += 1
            self.item = None

    def _leave_burst(self, item: Any) -> None:
        """Count what the burst has handled before `item`, which is in hand."""
        self._handled += self._size - self._remaining.__length_hint__() - 1
        self._remaining = None
        self.item = item

    def cut_burst(self) -> None:
        """End a burst after the message in hand, so that the next one sees another state of the actor."""
        if self._remaining is not None:
            self._size -= self._remaining.__length_hint__()
            self._remaining.__setstate__(BURST)

    def rest(self) -> None:
        """After a burst: go on in another turn of the loop, or fall idle."""
        self.item = None
        rare = self._rare
        if rare is not None and rare.after_item:
            waiting, rare.after_item = rare.after_item, []
            for done in waiting:
                done()
        if rare is not None:
            rare.aside = None
            if rare.waiters:
                self.admit()
        if self.state not in HANDLING or (rare is not None and rare.held):
            self._idle = False
        elif self._queue:
            self.wake()
            return
        else:
            self._idle = self.state is State.RUNNING
        if rare is not None and rare.quiet is not None and not rare.quiet.done():
            rare.quiet.set_result(None)

    def _start_task(self, item: Any, coroutine: Any) -> None:
        system = self.system
        assert system is not None  # noqa: S101 - a cell is awake only between start and stop
        self.since = system.time()
        if self._rare is not None and self._rare.waiters:
            self.admit()
        self.task = system.new_task(self._go_on(item, coroutine), f"actor {self.name}")

    async def _go_on(self, item: Any, result: Any) -> None:
        """The rest of a burst from its first asynchronous handler: one task for all of them, not one for each."""
        system = self.system
        try:
            if self.state not in HANDLING:  # killed or stopped before the task had its first step: it has not begun
                result.close()
                self._queue.appendleft(item)
                return
            clean = system.clean  # type: ignore[union-attr]
            for _ in range(system.burst):  # type: ignore[union-attr]
                if result is not None:
                    await self._finish(item, result)
                if not self._queue or self.state not in HANDLING or (self._rare is not None and self._rare.held):
                    return
                if copy_context() != clean:  # a handler has left something in it: the next one begins in another task
                    return
                self.item = item = self._queue.popleft()
                if self._rare is not None and self._rare.waiters:
                    self.admit()
                result = self._begin(item)
            if result is not None:
                await self._finish(item, result)
        finally:
            self.task = None
            self.rest()

    def _begin(self, item: Any) -> Any:
        """Call the handler of one message, outside of a burst. A coroutine is given back to be awaited."""
        try:
            result = self.table[item.__class__](self._actor, item)
            if result is not None:
                result = to_await(result)
        except BaseException as error:  # noqa: BLE001 - see _handle_many
            self._has_raised(item, error)
            return None
        if result is None:
            self._handled += 1
            self.item = None
            if self._rare is not None:
                self._rare.aside = None
        return result

    async def _finish(self, item: Any, coroutine: Any) -> None:
        """Await an asynchronous handler, to its end or until its asker has gone."""
        asked = item.__class__ is Envelope and item.reply is not None
        if item.__class__ is Envelope:
            CURRENT.set(item)
            if asked:
                item.mind()
        try:
            result = await _whole(coroutine)
        except asyncio.CancelledError as error:
            if self._is_withdrawn(item):
                self.unstashed(item)
                self.settle_early(item)
            elif asyncio.current_task().cancelling():  # type: ignore[union-attr]  # we are being killed
                self.unstashed(item)
                self.record.counts.failed += 1
                if asked:
                    item.fail(ActorCrashedError(self.path, item.message))
                raise
            else:
                self._failed(item, error)
        except BaseException as error:  # noqa: BLE001 - see _handle_many
            self._has_raised(item, error)
        else:
            self._succeeded(item, result, asked)
        finally:
            CURRENT.set(None)
            self._out_of_hand(item)

    def _out_of_hand(self, item: Any) -> None:
        """A message that took its time is done: go on, and let those go on who waited for it."""
        self.item = None
        rare = self._rare
        if rare is None:
            return
        if rare.withdrawn is item:
            rare.withdrawn = None
            if self.task is not None:
                self.task.uncancel()
        waiting, rare.after_item = rare.after_item, []
        for done in waiting:
            done()
        rare.aside = None

    def _succeeded(self, item: Any, result: Any, asked: bool) -> None:
        self._handled += 1
        if asked and not self.stashed(item) and not item.answer(result):
            self.record.counts.late += 1

    def _is_withdrawn(self, item: Any) -> bool:
        """Whether the handler of `item` is being cancelled because its asker has gone."""
        return self._rare is not None and self._rare.withdrawn is item

    def asker_gone(self, envelope: Envelope) -> None:
        """See Inbox. The handler that works for it is cancelled, by policy."""
        if self.item is not envelope or self.task is None:
            super().asker_gone(envelope)
        elif self.spec.abandoned is not Abandoned.FINISH and not self.task.done():
            self.record.withdrawn = envelope
            self.task.cancel()

    def _is_over(self, item: Any) -> bool:
        """Whether the deadline of an ask has passed."""
        system = self.system
        return bool(item.reply.done()) or (system is not None and system.time() >= item.due - RESOLUTION_S)

    def _has_raised(self, item: Any, error: BaseException) -> None:
        """Whatever a handler raises is a crash; what is to end the program ends it after that."""
        if isinstance(error, GeneratorExit) and not in_task() and self.task is not None:
            raise error  # the loop is gone, and the task of this handler is being closed
        self._failed(item, error)
        if isinstance(error, ENDING):
            raise error

    def _failed(self, item: Any, error: BaseException) -> None:
        """A handler raised: an answer if it is a Refusal, else a crash, after which the message may be tried again."""
        self.item = None
        message = message_of(item)
        asked = item.__class__ is Envelope and item.reply is not None
        rare = self.record
        self.unstashed(item)
        if asked and isinstance(error, AskTimeoutError) and self._is_over(item):
            item.unmind()
            item.forget()
            expire(item)  # what its handler asked had the same deadline, and was told a moment before
            self.settle_early(item)
            return
        if isinstance(error, asyncio.CancelledError):
            error, cause = ActorCrashedError(self.path, message), error
            error.__cause__ = cause
        if isinstance(error, Refusal):
            if asked:
                self._handled += 1
                item.fail(error)
            else:
                rare.counts.failed += 1
                self.emit(events.Refused(self.path, message, error))
            return
        crashes = rare.crashes[1] + 1 if rare.crashes[0] is item else 1
        if crashes <= self.spec.retry.times and not (asked and item.reply.done()):  # pyright: ignore[reportOptionalMemberAccess]
            if item.__class__ is not Envelope:  # the same message may be told again, and is another then
                item = Envelope(message, None, None, cell=self)
            rare.crashes = (item, crashes)
            self._queue.appendleft(item)
        else:
            rare.crashes = (None, 0)
            if self.spec.retry.times and not asked:
                self.bury(message, error)
            else:
                rare.counts.failed += 1
            if asked:
                item.fail(for_asker(error, self.path, message))
        self.crash(error, type(message).__name__)

    # Watching --------------------------------------------------------------------------------------------------------

    def dump(self) -> TreeNode:
        """This actor as the tree shows it."""
        counts, system = self.tally(), self.system
        waits = system is not None and self._queue and (self.task is not None or self.state is not State.RUNNING)
        return TreeNode(
            name=self.name,
            kind="actor",
            state=self.state.value,
            restarts=0 if self._rare is None else self._rare.restarts,
            depth=len(self._queue),
            capacity=self.spec.mailbox.capacity,
            current=None if self.item is None else type(message_of(self.item)).__name__,
            oldest_s=round(system.time() - self.since, 3) if system is not None and waits else None,
            handled_per_s=None if system is None else system.rates.per_s(self, counts.handled, system.time()),
            counts=counts,
        )


async def _whole(coroutine: Any) -> Any:
    """Await what a handler has returned, and what that gives to be awaited."""
    result = await coroutine
    while result is not None and (later := to_await(result)) is not None:
        result = await later
    return result
