"""The task in which one actor's async handlers run: made at the first of them, parked on a future between batches.

While there is one, each message wakes it directly, and plain handlers run in it too: a turn of the scheduler before
would cost as much as the message. It is let go within ten seconds after the last async handler.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any

from callboard.runtime.actor.context import CURRENT
from callboard.runtime.actor.envelope import Envelope, is_ask
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

    __slots__ = ("_cell", "_given", "_scheduler", "_suspended", "_unused", "handling", "park", "task")

    def __init__(self, cell: "Cell[Any]", scheduler: Scheduler, item: Any, awaitable: Any) -> None:
        self._cell = cell
        self._scheduler = scheduler
        self._given: tuple[Any, Any] | None = (item, awaitable)
        self._suspended = False  # a handler of this batch has suspended
        self._unused = False  # no async handler since the last sweep
        self.handling = True  # a batch, from its first message on
        self.park: asyncio.Future[None] | None = None  # None before the end of the first batch
        own = scheduler.clean.copy()
        self.task = asyncio.Task(self._serve(own), loop=scheduler.loop, name=f"actor {cell.name}", context=own)
        self.task.add_done_callback(self._ended)
        scheduler.parked[self] = None

    def sweep(self) -> bool:
        """Let go of it if it had no async handler since the last sweep; whether it waits and is to be swept again."""
        if self.park is None or self.park.done():
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
            cell.work = None
            cell.finish_batch()

    async def _serve(self, own: Context) -> None:
        await self._step_by_step(self._handle(own))

    @coroutine
    def _step_by_step(self, work: Coroutine[Any, Any, None]) -> Generator[Any, None, None]:
        """Drive `work` as a task does, to see which handlers suspend: only while one does can its asker go."""
        cell, send = self._cell, work.send
        thrown: BaseException | None = None
        try:
            while True:
                awaited = send(None) if thrown is None else work.throw(thrown)
                if cell.current is not None:
                    self._suspended = True
                    if is_ask(cell.current):
                        cell.current.mind()
                thrown = None
                try:
                    yield awaited
                except BaseException as error:  # noqa: BLE001 - it is the handler's
                    thrown = error
        except StopIteration:
            return
        finally:
            thrown = None  # which has this frame in its traceback

    async def _handle(self, own: Context) -> None:  # noqa: C901, PLR0912, PLR0915
        """Handle what waits, batch by batch, in the task's context `own`.

        One flat loop: each call would be a tenth of a message.
        """
        cell, scheduler = self._cell, self._scheduler
        if self._given is None or not cell.may_begin():  # it was ended before the first step of this: see _ended
            return
        (item, first), self._given = self._given, None
        actor, queue, time, create_future = cell.actor, cell.queue, scheduler.time, scheduler.deadlines.create_future
        queue.appendleft(item)
        spec, room = None, 0
        under: Any = None  # what stands in CURRENT
        expected = clean = scheduler.clean
        while True:
            cell.since = now = time()
            if cell.spec is not spec:
                spec = cell.spec
                capacity = spec.mailbox.capacity
                room = capacity - (capacity // SHARE or 1)  # senders that wait are let in some at a time
            cold = cell.cold
            may_begin = cell.state in HANDLING and (cold is None or not cold.held)
            cell.size = scheduler.batch if may_begin else 0
            remaining: Any = iter(range(cell.size))
            cell.remaining = remaining
            try:
                for _ in remaining:
                    if not queue:
                        cell.size -= 1 + remaining.__length_hint__()
                        break
                    cell.current = item = queue.popleft()
                    kind, reply = item.__class__, None
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
                    while result is not None:
                        awaitable = result if result.__class__ is CoroutineType else to_await(result)
                        if awaitable is None:
                            break
                        self._unused = False
                        result = await awaitable
                    if reply is not None:
                        reply_with(cell, item, result)
                    now = 0.0
                    if cell.limit < 0 and len(queue) <= room:
                        cell.admit()
                    if own != expected:
                        cell.end_batch()
                cell.handled += cell.size
                cell.remaining = None
            except asyncio.CancelledError as error:
                cell.leave_batch(item)
                fates.was_cancelled(cell, item, error)
            except BaseException as error:  # noqa: BLE001 - see Cell
                cell.leave_batch(item)
                cell.has_raised(item, error)
            if self._suspended:
                self._suspended = False
                cell.busy_s += time() - cell.since
            cold = cell.cold
            if cold is not None and cold.withdrawn is not None:
                cold.withdrawn = None
                self.task.uncancel()
            if own != expected:  # a handler has left something in it: the next one begins in another task
                return
            if under is not None:
                under = None
                enter(None)
                expected = clean
            cell.current = item = message = carried = reply = result = awaitable = None  # nothing is kept while parked
            self.handling = False
            self.park = park = create_future()
            if queue or cold is not None or cell.state is not RUNNING:
                cell.finish_batch()
            else:
                cell.idle = True
            if scheduler.sweep is None:
                scheduler.sweep_later()
            if park.done():  # there is more, and others have their turn before that
                await asyncio.sleep(0)
            else:
                await park
            self.handling = True
