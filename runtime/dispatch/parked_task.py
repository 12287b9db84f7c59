"""The task in which one actor's async handlers run: made at the first of them, parked on a future between batches.

While there is one, each message wakes it directly, and plain handlers run in it too: a turn of the scheduler before
would cost as much as the message. It is let go within two seconds after the last async handler.
"""

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any

from callboard.runtime.actor.context import CURRENT
from callboard.runtime.actor.envelope import Envelope
from callboard.runtime.actor.handlers import reply_with, to_await
from callboard.runtime.dispatch import fates
from callboard.runtime.dispatch.mailbox_queue import SHARE
from callboard.runtime.dispatch.node import HANDLING, RUNNING
from callboard.runtime.dispatch.scheduler import Scheduler

if TYPE_CHECKING:
    from callboard.runtime.dispatch.cell import Cell

enter = CURRENT.set


class ParkedTask:
    """`given` is the message whose handler is to be awaited first, with the coroutine that it has returned."""

    __slots__ = ("_cell", "_given", "_park", "_scheduler", "_unused", "task")

    def __init__(self, cell: "Cell[Any]", scheduler: Scheduler, item: Any, awaitable: Any) -> None:
        self._cell = cell
        self._scheduler = scheduler
        self._given: tuple[Any, Any] | None = (item, awaitable)
        self._park: asyncio.Future[None] | None = None  # None before the end of the first batch
        self._unused = False  # no async handler since the last sweep
        own = scheduler.clean.copy()
        self.task = asyncio.Task(self._serve(own), loop=scheduler.loop, name=f"actor {cell.name}", context=own)
        self.task.add_done_callback(self._ended)
        scheduler.parked[self] = None

    def wake(self) -> None:
        """A message has come."""
        if self._park is not None and not self._park.done():
            self._park.set_result(None)

    def sweep(self) -> bool:
        """Let go of it if it had no async handler since the last sweep; whether it waits and is to be swept again."""
        if self._park is None or self._park.done():
            return False
        if self._unused:
            self._cell.work = None
            self.task.cancel()
            return False
        self._unused = True
        return True

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        """However it has ended: a handler that was to begin in it has not begun, and begins in another one."""
        del self._scheduler.parked[self]
        cell, given, self._given = self._cell, self._given, None
        if given is not None:
            item, awaitable = given
            awaitable.close()
            cell.put_back(item)
        if cell.work is self:
            cell.work = cell.task = None
            cell.finish_batch()

    async def _serve(self, own: Context) -> None:  # noqa: C901, PLR0912, PLR0915
        """Handle what waits, batch by batch, in the task's context `own`.

        One flat loop: each call would be a tenth of a message.
        """
        cell, scheduler = self._cell, self._scheduler
        if self._given is None or not cell.may_begin():  # it was ended before the first step of this: see _ended
            return
        (item, first), self._given = self._given, None
        actor, queue, time = cell.actor, cell.queue, scheduler.time
        queue.appendleft(item)
        under: Any = None  # what stands in CURRENT
        expected = own.copy()
        while True:
            cell.since = now = time()
            capacity = cell.spec.mailbox.capacity
            room = capacity - (capacity // SHARE or 1)  # senders that wait are let in some at a time
            for _ in range(scheduler.batch):
                if not queue or cell.state not in HANDLING or (cell.cold is not None and cell.cold.held):
                    break
                cell.current = item = queue.popleft()
                kind = item.__class__
                reply = None
                if kind is tuple:
                    message, carried = item
                elif kind is Envelope:
                    message, carried, reply = item.message, item, item.reply
                else:
                    message, carried = item, None
                if carried is not under:
                    under = carried
                    enter(under)
                    expected = own.copy()
                try:
                    if (carried is not None and carried.deadline is not None) and (
                        (now or time()) >= carried.deadline or (reply is not None and reply.done())
                    ):
                        if first is not None:
                            first.close()
                            first = None
                        fates.too_late(cell, item)
                        continue
                    if first is None:
                        result = cell.table[message.__class__](actor, message)
                    else:
                        result, first = first, None
                    now = 0.0
                    if result is not None and (awaitable := to_await(result)) is not None:
                        self._unused = False
                        if reply is not None:
                            item.mind()
                        result = await awaitable
                        while result is not None and (later := to_await(result)) is not None:
                            result = await later
                    cell.handled += 1
                    if reply is not None:
                        reply_with(cell, item, result)
                except asyncio.CancelledError as error:
                    fates.was_cancelled(cell, item, error)
                except BaseException as error:  # noqa: BLE001 - see Cell
                    cell.has_raised(item, error)
                finally:
                    cell.current = None
                cold = cell.cold
                if cold is not None:
                    if cold.after_current or cold.withdrawn is not None or cold.stash is not None:
                        cell.passed(item)
                    if cold.waiters and len(queue) <= room:
                        cell.admit()
                if own != expected:  # a handler has left something in it: the next one begins in another task
                    return
            item = message = carried = reply = result = awaitable = (
                None  # nothing of a message stays while it is parked
            )
            if under is not None:
                under = None
                enter(None)
                expected = own.copy()
            cell.task = None
            self._park = park = scheduler.loop.create_future()
            if queue or cell.cold is not None or cell.state is not RUNNING:
                cell.finish_batch()
            else:
                cell.idle = True
            if scheduler.sweep is None:
                scheduler.sweep_later()
            if park.done():  # there is more, and others have their turn before that
                await asyncio.sleep(0)
            else:
                await park
            cell.task = self.task
