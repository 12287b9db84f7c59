"""The task in which one actor's async handlers run: made at the first of them, parked on a future between batches.

To make a task for each batch costs as much as a message. One that its actor does not need is let go within two seconds.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from callboard.runtime.dispatch.scheduler import Scheduler

if TYPE_CHECKING:
    from callboard.runtime.dispatch.cell import Cell


class ParkedTask:
    """`given` is the message whose handler is to be awaited next, with what the handler has returned."""

    __slots__ = ("_cell", "_park", "_scheduler", "context", "given", "idle", "task")

    def __init__(self, cell: "Cell[Any]", scheduler: Scheduler) -> None:
        self._cell = cell
        self._scheduler = scheduler
        self._park: asyncio.Future[None] | None = None
        self.context = scheduler.clean.copy()
        self.given: tuple[Any, Any] | None = None
        self.idle = False
        self.task = asyncio.Task(self._serve(), loop=scheduler.loop, name=f"actor {cell.name}", context=self.context)
        self.task.add_done_callback(self._ended)

    def begin(self, item: Any, awaitable: Any) -> "asyncio.Task[None]":
        """Await a handler, and go on with what waits."""
        self.given = (item, awaitable)
        self.idle = False
        if self._park is not None:
            self._scheduler.unpark(self)
            if not self._park.done():
                self._park.set_result(None)
        return self.task

    def end(self) -> None:
        """Let go of it, if it waits for nothing but the next message."""
        if self.given is None and self._park is not None:
            self._scheduler.unpark(self)
            if self._cell.work is self:
                self._cell.work = None
            self.task.cancel()

    async def _serve(self) -> None:
        cell = self._cell
        while self.given is not None:
            (item, awaitable), self.given = self.given, None
            try:
                await cell.run_async_batch(item, awaitable, self.context)
            finally:
                item = awaitable = None  # nothing of a message stays while it is parked
                if self.context != self._scheduler.clean and cell.work is self:
                    cell.work = None  # a handler has left something in it: the next one begins in another task
                cell.leave_task()
            if cell.work is not self:
                return
            self._park = self._scheduler.loop.create_future()
            self._scheduler.park(self)
            await self._park
            self._park = None

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        """However it has ended: a handler that was to begin in it has not begun, and begins in another one."""
        self._scheduler.unpark(self)
        cell, given, self.given = self._cell, self.given, None
        if cell.work is self:
            cell.work = None
        if given is not None:
            item, awaitable = given
            awaitable.close()
            cell.put_back(item)
        if cell.task is self.task:
            cell.leave_task()
