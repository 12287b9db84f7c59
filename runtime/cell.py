"""The cell: runs one actor. It handles its messages, starts and ends its incarnations, and outlives them.

There is no task for an idle actor, and none for synchronous handlers: the first message schedules one callback of the
event loop, which handles a burst. An asynchronous handler turns the rest of that burst into a task.
"""

import asyncio
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

from callboard.runtime import events
from callboard.runtime.actor import Actor
from callboard.runtime.context import CURRENT, Context
from callboard.runtime.errors import ActorCrashedError, AskTimeoutError, Refusal
from callboard.runtime.handlers import Handler
from callboard.runtime.inbox import Inbox, message_of
from callboard.runtime.mailbox import Envelope
from callboard.runtime.message import Message
from callboard.runtime.ref import Ref
from callboard.runtime.timer import Timer
from callboard.runtime.tree import ChildSpec, State, TreeNode

if TYPE_CHECKING:
    from callboard.runtime.supervisor import Supervisor
    from callboard.runtime.system import System

M = TypeVar("M", bound=Message | None)

BURST = 256  # messages handled before other actors have their turn: enough to amortise the turn, about 0.1 ms


class Cell(Inbox, Ref[M]):
    """An actor in its place in the tree. Everyone but its supervisor sees only the Ref."""

    __slots__ = ("_actor", "_life", "_quiet", "_timers", "_withdrawn")

    def __init__(self, name: str, spec: ChildSpec, handlers: dict[type[Message], Handler]) -> None:
        super().__init__(name, spec, handlers)
        self._actor: Actor[Any] | None = None
        self._life: asyncio.Task[None] | None = None  # Actor.run
        self._quiet: asyncio.Future[None] | None = None  # somebody waits for the burst to end
        self._timers: set[Timer] = set()
        self._withdrawn: Envelope | None = None  # its handler is being cancelled

    # Handling --------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Schedule a burst."""
        assert self.system is not None  # noqa: S101 - a cell is awake only between start and stop
        self.idle = False
        self.system.loop.call_soon(self._burst, context=self.system.context)

    def _burst(self) -> None:
        queue = self._queue
        for _ in range(min(len(queue), BURST)):
            if self.state not in (State.RUNNING, State.DRAINING):
                break
            self.current = item = queue.popleft()
            result = self._begin(item)
            if type(result) is CoroutineType:
                assert self.system is not None  # noqa: S101 - see wake
                self.task = self.system.loop.create_task(
                    self._go_on(item, result), name=self.path, context=self.system.context.copy()
                )
                return
        self._rest()

    async def _go_on(self, item: Any, result: Any) -> None:
        """The rest of a burst from its first asynchronous handler: one task for all of them, not one for each."""
        try:
            for _ in range(BURST):
                if type(result) is CoroutineType:
                    await self._finish(item, result)
                if self._waiters:
                    self.admit()
                if not self._queue or self.state not in (State.RUNNING, State.DRAINING):
                    return
                self.current = item = self._queue.popleft()
                result = self._begin(item)
            if type(result) is CoroutineType:
                await self._finish(item, result)
        finally:
            self.task = None
            self._rest()

    def _rest(self) -> None:
        """After a burst: go on in the next turn of the loop, or fall idle."""
        self.current = None
        self.idle = True
        if self._waiters:
            self.admit()
        if self._queue and self.state in (State.RUNNING, State.DRAINING):
            self.wake()
        elif self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    def _begin(self, item: Any) -> Any:
        """Call the handler. A coroutine is given back to be awaited; anything else has had its fate."""
        message = item
        if type(item) is Envelope:
            message = item.message
            if not self._due(item):
                self.current = None
                return None
            CURRENT.set(item.context)
        try:
            result = self.handlers[type(message)](self._actor, message)
        except Exception as error:  # noqa: BLE001 - the actor loop is the one place where a crash becomes a fate
            result = None
            self._failed(item, error)
        else:
            if type(result) is not CoroutineType:
                self._handled(item, result)
                result = None
        if message is not item:
            CURRENT.set(None)
        return result

    def _due(self, envelope: Envelope) -> bool:
        """Whether an enveloped message is still wanted; if not, it is counted. One past its deadline never starts."""
        context = envelope.context
        if envelope.reply is not None:
            if envelope.reply.done():
                self.settle_early(envelope)
                return False
            envelope.context = Context(context.traceparent, context.deadline, (*context.chain, self.path))
        if context.deadline is not None and asyncio.get_running_loop().time() >= context.deadline:
            self.counts.expired += 1
            envelope.fail(AskTimeoutError(self.path, envelope.message))
            return False
        return True

    async def _finish(self, item: Any, coroutine: "CoroutineType[Any, Any, Any]") -> None:
        enveloped = type(item) is Envelope
        if enveloped:
            CURRENT.set(item.context)
        try:
            result = await coroutine
        except asyncio.CancelledError:
            if self._withdrawn is None:  # it is not the asker who has gone: we are being killed
                self.counts.failed += 1
                if enveloped:
                    item.fail(ActorCrashedError(self.path, item.message))
                raise
            self.settle_early(self._withdrawn)
        except Exception as error:  # noqa: BLE001 - see _begin
            self._failed(item, error)
        else:
            self._handled(item, result)
        finally:
            self.current = None
            CURRENT.set(None)
            if self._withdrawn is not None and self.task is not None:
                self._withdrawn = None
                self.task.uncancel()

    def _handled(self, item: Any, result: Any) -> None:
        self.counts.handled += 1
        self.current = None
        if type(item) is Envelope and item.reply is not None:
            if item.reply.done():
                self.counts.late += 1
            else:
                item.reply.set_result(result)

    def _failed(self, item: Any, error: Exception) -> None:
        self.current = None
        message = message_of(item)
        asked = type(item) is Envelope and item.reply is not None
        if asked:
            item.fail(error)
        if not isinstance(error, Refusal):
            self.counts.failed += 1
            self.crash(error, type(message).__name__)
        elif asked:
            self.counts.handled += 1
        else:
            self.counts.failed += 1
            self.emit(events.Refused(self.path, message, error))

    def withdraw(self, envelope: Envelope) -> None:
        """The asker has gone: cancel the handler if it runs; a queued message is skipped when its turn comes."""
        if self.current is envelope and self.task is not None and self._withdrawn is None:
            self._withdrawn = envelope
            self.task.cancel()

    # Life ------------------------------------------------------------------------------------------------------------

    def crash(self, error: BaseException, message: str | None = None) -> None:
        """Report a crash to the supervisor, once for each incarnation."""
        if self.state in (State.RUNNING, State.DRAINING):
            self.state = State.CRASHED
            self.emit(events.Crashed(self.path, message, error))
            if self.parent is not None:
                self.parent.notice(self, error)

    async def start(self, parent: "Supervisor | System") -> None:
        """See Node.start."""
        self.parent = parent
        system = self.attach(parent)
        self.state = State.STARTING
        actor: Actor[Any] = self.spec.start()
        actor.ref = self
        try:
            await actor.on_start()
        except BaseException:
            self.state = State.CRASHED
            await self._clean(actor)
            raise
        self._actor = actor
        self.state = State.RUNNING
        if type(actor).run is not Actor.run:
            self._life = system.loop.create_task(
                self._live(actor), name=f"{self.path}.run", context=system.context.copy()
            )
        self.emit(events.Restarted(self.path, self.restarts) if self.restarts else events.Started(self.path))
        if self._queue and self.idle:
            self.wake()

    async def _live(self, actor: Actor[Any]) -> None:
        try:
            await actor.run()
        except Exception as error:  # noqa: BLE001 - see _begin
            self.crash(error)
        else:
            if self.state is State.RUNNING and self.parent is not None:
                self.state = State.CRASHED
                self.parent.notice(self, None)

    async def halt(self) -> None:
        """See Node.halt. A handler that still runs is cancelled."""
        if self.state is State.RUNNING:
            self.state = State.CRASHED
        await self._end(grace_s=0.0)

    async def stop(self) -> None:
        """Take no more messages, let the handler that runs finish within `shutdown_s`, end.

        What waits in the mailbox is returned to who asked it; what was only told is a dead letter.
        """
        await self._stop(self.spec.shutdown_s)

    async def drain(self, grace_s: float) -> int:
        """Take no more messages, handle the accepted ones, stop; the number left when `grace_s` had passed."""
        if self.state is State.RUNNING:
            self.state = State.DRAINING
            await self._fall_quiet(grace_s)
        left = len(self._queue)
        await self._stop(self.spec.shutdown_s if not left else 0.0)
        return left

    async def _stop(self, grace_s: float) -> None:
        if self.state is State.STOPPED:
            return
        self.state = State.STOPPING
        await self._end(grace_s)
        self.state = State.STOPPED
        self.leave()
        self.emit(events.Stopped(self.path))

    async def _end(self, grace_s: float) -> None:
        """End the incarnation: its timers, its current handler, `run`, then `on_stop`."""
        while self._timers:
            self._timers.pop().cancel()
        if not await self._fall_quiet(grace_s):
            await _cancelled(self.task)
        life, self._life = self._life, None
        await _cancelled(life)
        actor, self._actor = self._actor, None
        if actor is not None:
            await self._clean(actor)

    async def _fall_quiet(self, timeout_s: float) -> bool:
        """Wait until no burst runs; False when one still does in `timeout_s`."""
        if self.idle:
            return True
        self._quiet = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((self._quiet,), timeout=timeout_s)
            return self._quiet.done()
        finally:
            self._quiet = None

    async def _clean(self, actor: Actor[Any]) -> None:
        """Run on_stop to its end, or for `shutdown_s`, whoever cancels us meanwhile; its errors are reported."""
        task = asyncio.ensure_future(actor.on_stop())
        ends = asyncio.ensure_future(asyncio.wait((task,), timeout=self.spec.shutdown_s))
        try:
            await asyncio.shield(ends)
        except asyncio.CancelledError:
            await ends
            raise
        finally:
            if not task.done():
                task.cancel()
                self.emit(events.Crashed(self.path, "on_stop", TimeoutError("on_stop took too long")))
            elif not task.cancelled() and (error := task.exception()) is not None:
                self.emit(events.Crashed(self.path, "on_stop", error))

    def schedule(self, message: Any, delay_s: float, interval_s: float | None = None) -> Timer:
        """Make a timer of the current incarnation. See Actor.after and Actor.every."""
        assert self.system is not None  # noqa: S101 - only a started actor has timers
        timer = Timer(self, self._timers, message, system=self.system, delay_s=delay_s, interval_s=interval_s)
        self._timers.add(timer)
        return timer

    def dump(self) -> TreeNode:
        """This actor as the tree shows it."""
        return TreeNode(
            name=self.name,
            kind="actor",
            state=self.state.value,
            restarts=self.restarts,
            depth=len(self._queue),
            capacity=self.spec.mailbox.capacity,
            current=None if self.current is None else type(message_of(self.current)).__name__,
            counts=self.tally(),
        )


async def _cancelled(task: "asyncio.Task[None] | None") -> None:
    """Cancel a task and see it end."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait((task,))
