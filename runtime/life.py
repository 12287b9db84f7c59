"""The life of an actor: its incarnations, from `on_start` to `on_stop`, its timers, and who is told of its end."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from callboard.runtime import events
from callboard.runtime.actor import Actor
from callboard.runtime.context import CURRENT, Envelope
from callboard.runtime.errors import ActorKilledError, ActorStoppedError, MailboxFullError
from callboard.runtime.handlers import Handlers
from callboard.runtime.inbox import SHUT, Inbox
from callboard.runtime.message import Message
from callboard.runtime.timer import Timer
from callboard.runtime.tree import ChildSpec, State

if TYPE_CHECKING:
    from callboard.runtime.ref import Ref
    from callboard.runtime.supervisor import Supervisor
    from callboard.runtime.system import System

M = TypeVar("M", bound=Message | None)


class Life(Inbox[M]):
    """What a supervisor does with an actor, and what an actor may ask for itself."""

    __slots__ = ("_actor", "make", "since")

    def __init__(self, name: str, make: Callable[[], Actor[Any]], spec: ChildSpec, handlers: Handlers) -> None:
        super().__init__(name, spec, handlers)
        self.make = make
        self.since = 0.0  # when it last began to be busy, in the event loop's time
        self._actor: Actor[Any] | None = None

    def crash(self, error: BaseException, message: str | None = None) -> None:
        """Report a crash to the supervisor, once for each incarnation."""
        if self.state in (State.RUNNING, State.DRAINING):
            self._falls()
            self.emit(events.Crashed(self.path, message, error))
            self.parent.notice(self, error)  # type: ignore[union-attr]

    def kill(self) -> None:
        """End the incarnation at once, whatever it is doing; the supervisor decides what follows."""
        self.crash(ActorKilledError(self.path))

    def exit(self) -> None:
        """End the incarnation normally, after the message in hand."""
        if self.state is State.RUNNING:
            self._falls()
            self.parent.notice(self, None)  # type: ignore[union-attr]

    def _falls(self) -> None:
        self.state = State.CRASHED
        self._idle = False
        self.cut_burst()
        self.since = self.system.time()  # type: ignore[union-attr]

    def cut_burst(self) -> None:
        """See Cell.cut_burst."""
        raise NotImplementedError

    # Incarnations ----------------------------------------------------------------------------------------------------

    async def start(self, parent: "Supervisor | System") -> None:
        """See Node.start."""
        self.parent = parent
        self.system = system = parent.system
        if system is None:
            raise RuntimeError(f"start {parent.path} before its child {self.name}")
        self._times = system.deadlines
        self.state = State.STARTING
        actor = self.make()
        kind = type(actor)
        actor.ref = self  # type: ignore[assignment]
        self.table = self.handlers.first
        if kind.on_start is not Actor.on_start:
            try:
                await actor.on_start()
                if self.state is not State.STARTING:  # it was halted or stopped meanwhile
                    raise ActorKilledError(self.path)
            except BaseException:
                self.state = State.CRASHED if self.state is State.STARTING else self.state
                await self._clean(actor)
                raise
        self._actor = actor
        self.state = State.RUNNING
        self._idle = True
        if kind.run is not Actor.run:
            context = system.context.copy()
            self.record.life = system.loop.create_task(self._live(actor), name=f"run {self.name}", context=context)
        if self._rare is not None:
            self._rare.started_at = system.time()
        if system.watched:
            restarts = 0 if self._rare is None else self._rare.restarts
            self.emit(events.Restarted(self.path, restarts) if restarts else events.Started(self.path))
        if self._queue:
            self.wake()

    async def _live(self, actor: Actor[Any]) -> None:
        try:
            await actor.run()
        except Exception as error:  # noqa: BLE001 - as in the actor loop: a crash
            self.crash(error)
        else:
            self.exit()

    async def halt(self) -> None:
        """See Node.halt. A handler that still runs is cancelled."""
        if self.state is State.RUNNING:
            self._falls()
        elif self.state is State.STARTING:
            self.state = State.CRASHED  # its start, which is under way elsewhere, fails
        await self._end(grace_s=0.0)
        if self._rare is not None and self._rare.stash:
            self.unstash()

    async def stop(self) -> None:
        """Take no more messages, let the handler that runs finish within `shutdown_s`, end.

        What waits in the mailbox is returned to who asked it; what was only told is a dead letter.
        """
        await self._stop(self.spec.shutdown_s, None)

    async def stop_after(self, reason: BaseException | None) -> None:
        """Like `stop`, after an exit that is not followed by a restart."""
        await self._stop(0.0, reason)

    async def drain(self, grace_s: float) -> int:
        """Take no more messages, handle the accepted ones, stop; the number left when `grace_s` had passed."""
        if self.state is State.RUNNING:
            self.state = State.DRAINING
            self._limit = SHUT
            await self._fall_quiet(grace_s)
        left = len(self._queue)
        await self._stop(self.spec.shutdown_s if not left else 0.0, None)
        return left

    async def _stop(self, grace_s: float, reason: BaseException | None) -> None:
        if self.state is State.STOPPED:
            return
        self.state = State.STOPPING
        self._limit = SHUT
        self.cut_burst()
        await self._end(grace_s)
        self.state = State.STOPPED
        self.leave()
        if self.system is not None and self.system.watched:
            self.emit(events.Stopped(self.path))
        if self._rare is not None:
            watchers, self._rare.watchers = self._rare.watchers, []
            for watcher in watchers:
                watcher.tell_of_end(self, reason)

    async def _end(self, grace_s: float) -> None:
        """End the incarnation: its timers, its current handler, `run`, then `on_stop`."""
        rare = self._rare
        if rare is not None:
            while rare.timers:
                rare.timers.pop().cancel()
        if self.task is not None and not await self._fall_quiet(grace_s):
            await _cancelled(self.task)
        self._idle = False
        if rare is not None:
            life, rare.life = rare.life, None
            await _cancelled(life)
        actor, self._actor = self._actor, None
        if actor is not None:
            await self._clean(actor)

    async def _fall_quiet(self, timeout_s: float) -> bool:
        """Wait until no burst runs or is due; False when one still does in `timeout_s`."""
        if self.task is None and (not self._queue or self.state is not State.DRAINING):
            return True
        quiet = self.record.quiet = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((quiet,), timeout=timeout_s)
            return quiet.done()
        finally:
            self.record.quiet = None

    async def _clean(self, actor: Actor[Any]) -> None:
        """Run on_stop to its end, or for `shutdown_s`, whoever cancels us meanwhile; its errors are reported."""
        if type(actor).on_stop is Actor.on_stop:
            return
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

    # What an actor asks for itself -----------------------------------------------------------------------------------

    def schedule(self, message: Any, delay_s: float, interval_s: float | None = None) -> Timer:
        """Make a timer of the current incarnation. See Actor.after and Actor.every."""
        timer = Timer(self, message, delay_s, interval_s)
        self.record.timers.add(timer)
        return timer

    def become(self, state: str | None) -> None:
        """See Actor.become."""
        if state is not None and state not in self.handlers.by_state:
            known = ", ".join(sorted(self.handlers.by_state)) or "none"
            raise ValueError(f"{self.path} has no handlers for a state {state!r}; it has {known}")
        self.table = self.handlers.first if state is None else self.handlers.by_state[state]
        self.cut_burst()

    def stash(self, message: Any) -> None:
        """See Actor.stash."""
        current = CURRENT.get()
        item = current if type(current) is Envelope and current.message is message else message
        self.record.stash.append(item)
        self.uncount()

    def stashed(self, item: Any) -> bool:
        """Whether the message in hand has just been stashed, and so has no fate yet."""
        return self._rare is not None and any(each is item for each in self._rare.stash)

    def unstash(self) -> None:
        """See Actor.unstash."""
        stash = self.record.stash
        self._queue = self._queue if isinstance(self._queue, deque) else deque()
        while stash:
            self._queue.appendleft(stash.pop())

    def uncount(self) -> None:
        """The message in hand, which will be counted as handled when the burst goes on, has or gets another fate."""
        self._handled -= 1

    # Deathwatch ------------------------------------------------------------------------------------------------------

    def watch(self, ref: "Ref[Any]") -> None:
        """See Actor.watch."""
        if events.Terminated not in self.handlers.all:
            raise TypeError(f"{self.path} watches {ref.path} and does not handle Terminated")
        if not isinstance(ref, Life):
            raise TypeError(f"{self.path} cannot watch {ref.path}: only actors are watched")
        if ref.state is State.STOPPED:
            self.tell_of_end(ref, None)
        elif self not in ref.record.watchers:
            ref.record.watchers.append(self)

    def tell_of_end(self, other: "Life[Any]", reason: BaseException | None) -> None:
        """Put a Terminated into this mailbox, beyond its capacity if need be: it must not be lost."""
        notice = events.Terminated(other.path, None if reason is None else f"{type(reason).__name__}: {reason}")
        limit, self._limit = self._limit, max(self._limit, len(self._queue))
        try:
            self.put(notice, notice, may_wait=False)
        except (ActorStoppedError, MailboxFullError):
            return  # a watcher that has ended itself watches no more
        finally:
            self._limit = limit


async def _cancelled(task: "asyncio.Task[None] | None") -> None:
    """Cancel a task and see it end."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait((task,))
