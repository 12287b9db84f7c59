"""The cell of an actor that opts into running several handlers at once, up to its `concurrency`.

Each async handler has a task of its own beside the actor; plain ones run between them, in batches as everywhere.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from callboard.runtime.actor.actor import Actor
from callboard.runtime.actor.context import CURRENT
from callboard.runtime.actor.envelope import Envelope, is_ask
from callboard.runtime.actor.errors import ConcurrentStashError
from callboard.runtime.actor.handlers import Handlers, reply_with, to_await
from callboard.runtime.actor.mailbox import Counts
from callboard.runtime.actor.messages import Message
from callboard.runtime.dispatch import fates, lifecycle
from callboard.runtime.dispatch.cell import Cell
from callboard.runtime.dispatch.child_spec import Abandoned, ChildSpec
from callboard.runtime.dispatch.node import HANDLING, State
from callboard.runtime.dispatch.scheduler import cancelled

M = TypeVar("M", bound=Message | None)


class ConcurrentCell(Cell[M]):
    """Begins messages in the order they came, `concurrency` at most at once; they end in any order.

    A crash ends the incarnation, and with it the other handlers: their messages have failed, as at a kill.
    """

    __slots__ = ("_full", "_gone", "beside")

    def __init__(self, name: str, make: Callable[[], Actor[Any]], spec: ChildSpec, handlers: Handlers) -> None:
        super().__init__(name, make, spec, handlers)
        self.beside: dict[asyncio.Task[Any], Any] = {}  # the messages in progress, by the tasks that handle them
        self._full = False  # as many run as may, and the cell is held until one has ended
        self._gone: set[Any] = set()  # those whose asker has gone

    def in_progress(self) -> list[Any]:
        """See Cell."""
        return [*super().in_progress(), *self.beside.values()]

    def is_busy(self) -> bool:
        """See Cell."""
        return bool(self.beside) or super().is_busy()

    def runs_in(self, task: "asyncio.Task[Any] | None") -> bool:
        """See Cell."""
        return task in self.beside or super().runs_in(task)

    def stash(self, message: Any) -> None:
        """Refuse: which of the messages in progress were to be put aside would be anybody's guess."""
        raise ConcurrentStashError(self.path, message)

    def begin_async(self, item: Any, awaitable: Any) -> None:
        """See Cell. Each handler has a task of its own."""
        scheduler = self.scheduler
        assert scheduler is not None  # noqa: S101 - a cell has turns only between start and stop
        if not self.beside:
            self.since = scheduler.time()
        self.current = None
        task = scheduler.new_task(self._handle_beside(item, awaitable), f"actor {self.name}")
        self.beside[task] = item
        self.cold_state.held += 1  # until this one has begun: no later message overtakes it

    async def _handle_beside(self, item: Any, awaitable: Any) -> None:
        begun, began_at = False, self.scheduler.time()  # type: ignore[union-attr]
        try:
            if self.state not in HANDLING or self.cold_state.held > 1:  # it was ended before the first step of this one
                awaitable.close()
                self.put_back(item)
                return
            begun = True
            self._full = len(self.beside) == self.handlers.concurrency
            if not self._full:
                self.cold_state.held -= 1
                self.finish_batch()  # the next message begins in another turn, after the first step of this one
            await self._finish(item, awaitable)
        finally:
            del self.beside[asyncio.current_task()]  # type: ignore[arg-type]  # a coroutine of ours runs in a task
            if begun:
                self.busy_s += self.scheduler.time() - began_at  # type: ignore[union-attr]
            if self._full or not begun:
                self._full = False
                self.cold_state.held -= 1
            self.finish_batch()

    async def _finish(self, item: Any, awaitable: Any) -> None:
        """Await a handler, to its end or until its asker has gone."""
        if item.__class__ is Envelope:
            CURRENT.set(item)
        elif item.__class__ is tuple:
            CURRENT.set(item[1])
        if is_ask(item):
            item.mind()
        try:
            result = await awaitable
            while result is not None and (later := to_await(result)) is not None:
                result = await later
            self.handled += 1
            if is_ask(item):
                reply_with(self, item, result)
        except asyncio.CancelledError as error:
            fates.was_cancelled(self, item, error)
        except BaseException as error:  # noqa: BLE001 - see Cell
            self.has_raised(item, error)
        finally:
            self._gone.discard(item)

    def finish_batch(self) -> None:
        """After a batch or a handler: go on while there is room beside those that run."""
        if not self.beside:
            super().finish_batch()
            return
        cold = self.cold_state
        if cold.waiters:
            self.admit()
        if self.queue and self.state in HANDLING and not cold.held:
            self.schedule()
        else:
            self.idle = self.state is State.RUNNING and not cold.held

    def is_withdrawn(self, item: Any) -> bool:
        """See Cell."""
        return item in self._gone

    def asker_gone(self, envelope: Envelope) -> None:
        """See Cell."""
        tasks = [task for task, item in self.beside.items() if item is envelope]
        if not tasks:
            super().asker_gone(envelope)
        elif self.spec.abandoned is not Abandoned.FINISH and not tasks[0].done():
            self._gone.add(envelope)
            tasks[0].cancel()

    async def end_handlers(self, grace_s: float) -> None:
        """See Cell."""
        if self.beside and not await lifecycle.is_quiet(self, grace_s):
            await cancelled(*self.beside)

    def counts(self) -> Counts:
        """See Ref.counts."""
        counts = super().counts()
        return msgspec.structs.replace(counts, pending=counts.pending + len(self.beside))


def cell_of(name: str, make: Callable[[], Actor[Any]], spec: ChildSpec, handlers: Handlers) -> Cell[Any]:
    """The cell for an actor with these handlers."""
    kind = ConcurrentCell if handlers.concurrency > 1 else Cell
    return kind(name, make, spec, handlers)
