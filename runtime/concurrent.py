"""The cell of an actor that opts into running several handlers at once, up to its `concurrency`.

Each asynchronous handler has a task of its own beside the actor; plain ones run between them, in bursts as everywhere.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from callboard.runtime.actor import Actor
from callboard.runtime.cell import Cell
from callboard.runtime.context import Envelope
from callboard.runtime.errors import ConcurrentStashError
from callboard.runtime.handlers import Handlers
from callboard.runtime.handover import HANDLING
from callboard.runtime.inbox import message_of
from callboard.runtime.life import cancelled
from callboard.runtime.mailbox import Counts
from callboard.runtime.message import Message
from callboard.runtime.tree import Abandoned, ChildSpec, State, TreeNode

M = TypeVar("M", bound=Message | None)


class ConcurrentCell(Cell[M]):
    """Begins messages in the order they came, `concurrency` at most at once; they end in any order.

    A crash ends the incarnation, and with it the other handlers: their messages have failed, as at a kill.
    """

    __slots__ = ("_beside", "_full", "_gone")

    def __init__(self, name: str, make: Callable[[], Actor[Any]], spec: ChildSpec, handlers: Handlers) -> None:
        super().__init__(name, make, spec, handlers)
        self._beside: dict[asyncio.Task[Any], Any] = {}  # the messages in hand, by the tasks that handle them
        self._full = False  # as many run as may, and the cell is held until one has ended
        self._gone: set[Any] = set()  # those whose asker has gone

    def in_hand(self) -> list[Any]:
        """See Handover.in_hand."""
        return [*super().in_hand(), *self._beside.values()]

    def busy(self) -> bool:
        """See Inbox.busy."""
        return bool(self._beside) or super().busy()

    def busyness(self) -> int:
        """See Handover.busyness."""
        return super().busyness() + len(self._beside)

    def runs_in(self, task: "asyncio.Task[Any] | None") -> bool:
        """See Inbox.runs_in."""
        return task in self._beside or super().runs_in(task)

    def stash(self, message: Any) -> None:
        """Refuse: which of the messages in hand were to be put aside would be anybody's guess."""
        raise ConcurrentStashError(self.path, message)

    def _start_task(self, item: Any, coroutine: Any) -> None:
        system = self.system
        assert system is not None  # noqa: S101 - a cell is awake only between start and stop
        if not self._beside:
            self.since = system.time()
        self.item = None
        task = system.new_task(self._handle_beside(item, coroutine), f"actor {self.name}")
        self._beside[task] = item
        self.record.held += 1  # until this one has begun: no later message overtakes it

    async def _handle_beside(self, item: Any, coroutine: Any) -> None:
        begun = False
        try:
            if self.state not in HANDLING or self.record.held > 1:  # it was ended before the first step of this one
                coroutine.close()
                self._queue.appendleft(item)
                return
            begun = True
            self._full = len(self._beside) == self.handlers.concurrency
            if not self._full:
                self.record.held -= 1
                self.rest()  # the next message begins in another turn, after the first step of this one
            await self._finish(item, coroutine)
        finally:
            del self._beside[asyncio.current_task()]  # type: ignore[arg-type]  # a coroutine of ours runs in a task
            if self._full or not begun:
                self._full = False
                self.record.held -= 1
            self.rest()

    def rest(self) -> None:
        """After a burst or a handler: go on while there is room beside those that run."""
        if not self._beside:
            super().rest()
            return
        rare = self.record
        if rare.waiters:
            self.admit()
        if self._queue and self.state in HANDLING and not rare.held:
            self.wake()
        else:
            self._idle = self.state is State.RUNNING and not rare.held

    def _out_of_hand(self, item: Any) -> None:
        self._gone.discard(item)

    def _is_withdrawn(self, item: Any) -> bool:
        return item in self._gone

    def asker_gone(self, envelope: Envelope) -> None:
        """See Cell."""
        tasks = [task for task, item in self._beside.items() if item is envelope]
        if not tasks:
            super().asker_gone(envelope)
        elif self.spec.abandoned is not Abandoned.FINISH and not tasks[0].done():
            self._gone.add(envelope)
            tasks[0].cancel()

    async def _end_handlers(self, grace_s: float) -> None:
        if self._beside and not await self._fall_quiet(grace_s):
            await cancelled(*self._beside)

    # Watching --------------------------------------------------------------------------------------------------------

    def tally(self) -> Counts:
        """See Inbox.tally."""
        counts = super().tally()
        return msgspec.structs.replace(counts, pending=counts.pending + len(self._beside))

    def dump(self) -> TreeNode:
        """See Cell.dump; `current` has each type in hand once."""
        node, system = super().dump(), self.system
        if not self._beside or system is None:
            return node
        current = ", ".join(sorted({type(message_of(item)).__name__ for item in self._beside.values()}))
        oldest_s = round(system.time() - self.since, 3) if self._queue else None
        return msgspec.structs.replace(node, current=current, oldest_s=oldest_s)


def cell_of(name: str, make: Callable[[], Actor[Any]], spec: ChildSpec, handlers: Handlers) -> Cell[Any]:
    """The cell for an actor with these handlers."""
    kind = ConcurrentCell if handlers.concurrency > 1 else Cell
    return kind(name, make, spec, handlers)
