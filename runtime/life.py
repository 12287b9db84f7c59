"""The life of an actor: its incarnations, from `on_start` to `on_stop`, its timers, and who is told of its end."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from callboard.runtime import events
from callboard.runtime.actor import Actor
from callboard.runtime.context import CURRENT, Envelope
from callboard.runtime.errors import (
    ENDING,
    ActorKilledError,
    Shutdown,
    StashFullError,
    UnhandledMessageError,
    for_asker,
    shown,
)
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
T = TypeVar("T")

AGAIN_S = 1.0  # cleanup is shielded, so that a second cancellation does it no harm


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
            try:
                self.emit(events.Crashed(self.path, message, error))
            finally:  # whoever watches may be interrupted: the supervisor is told
                self.parent.notice(self, error)  # type: ignore[union-attr]

    def kill(self) -> None:
        """End the incarnation at once, whatever it is doing; the supervisor decides what follows."""
        on_start, _ = self._moving()
        if self.state is State.STARTING and on_start is not None:
            on_start.cancel()
        else:
            self.crash(ActorKilledError(self.path))

    def exit(self, reason: str | None = None) -> None:
        """End the incarnation after the message in hand: normally, or, with a reason, as a Shutdown."""
        if self.state is State.STARTING:
            self.record.leaves = (reason,)
        if self.state not in (State.RUNNING, State.DRAINING):
            return
        rare, actor = self.record, self._actor
        rare.held += 1  # no other message is begun
        self._idle = False
        self.cut_burst()

        def leave() -> None:
            rare.held -= 1
            if self.state in (State.RUNNING, State.DRAINING) and self._actor is actor:  # else it has crashed since
                self._falls()
                self.parent.notice(self, None if reason is None else Shutdown(reason))  # type: ignore[union-attr]

        if self.busy():
            rare.after_item.append(leave)
        else:
            leave()

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
        if self._queue and self.state is State.NEW:
            self.since = system.time()
        self.state = State.STARTING
        self.table = self.handlers.first
        if self._rare is not None:
            self._rare.leaves = None
        try:
            actor = self.make()
            kind = type(actor)
            actor.ref = self  # type: ignore[assignment]
            if kind.on_start is not Actor.on_start:
                await self._prepare(actor, system)
        except BaseException:
            self.state = State.CRASHED if self.state is State.STARTING else self.state
            raise
        self._take_up(actor, kind, system)

    def _take_up(self, actor: Actor[Any], kind: type[Actor[Any]], system: "System") -> None:
        """The start hook is done: handle messages, or leave, if that is what it said."""
        self._actor = actor
        self.state = State.DRAINING if self._rare is not None and self._rare.draining else State.RUNNING
        self._idle = True
        leaves = None if self._rare is None else self._rare.leaves
        if kind.run is not Actor.run and leaves is None:
            self.record.life = system.new_task(self._live(actor), f"run {self.name}")
        if self._rare is not None:
            self._rare.started_at = system.time()
        if system.watched:
            restarts = 0 if self._rare is None else self._rare.restarts
            self.emit(events.Restarted(self.path, restarts) if restarts else events.Started(self.path))
        if leaves is not None:
            self.exit(*leaves)
        elif self._queue:
            self.wake()

    async def _prepare(self, actor: Actor[Any], system: "System") -> None:
        """Run on_start, in a task that kill, halt and stop can cut short, and on_stop if that has failed."""
        on_start = new_task(actor.on_start(), f"on_start {self.name}")
        over = system.loop.create_future()
        system.moving[self] = (on_start, over)
        try:
            try:
                await asyncio.wait((on_start,))
            finally:
                await cancelled(on_start)
            if on_start.cancelled() or self.state is not State.STARTING:
                raise ActorKilledError(self.path)  # noqa: TRY301 - it ends as if on_start had raised
            on_start.result()
        except BaseException:
            await self._clean(actor)
            raise
        finally:
            del system.moving[self]
            over.set_result(None)

    def _moving(self) -> "tuple[asyncio.Task[None] | None, asyncio.Future[None] | None]":
        """The on_start that runs, if one does, and what is done when the start or end under way is over."""
        nothing = (None, None)
        return nothing if self.system is None else self.system.moving.get(self, nothing)

    async def _live(self, actor: Actor[Any]) -> None:
        try:
            await actor.run()
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not in_task():
                raise
            if self._actor is actor:  # else it has been ended, and this was cancelled for that
                self.crash(error if isinstance(error, Exception) else for_asker(error, self.path, None))
            if isinstance(error, (asyncio.CancelledError, *ENDING)):
                raise
        else:
            if self._actor is actor:
                self.exit()

    async def halt(self) -> None:
        """See Node.halt. A handler that still runs is cancelled."""
        if self.state in (State.RUNNING, State.DRAINING):
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
        """Take no more messages, handle the accepted ones, stop; the number left when `grace_s` had passed.

        One that waits for its restart handles them after that; one that crashes goes on after its restart.
        """
        if self.state not in (State.NEW, State.STOPPING, State.STOPPED):
            loop = asyncio.get_running_loop()
            ends = loop.time() + grace_s
            self.record.draining = True
            self._limit = SHUT
            self.state = State.DRAINING if self.state is State.RUNNING else self.state
            while self._has_work() and (left_s := ends - loop.time()) > 0:
                await self._fall_quiet(left_s)
        left = len(self._queue) + (0 if self._rare is None else len(self._rare.stash))
        await self._stop(self.spec.shutdown_s if not left else 0.0, None)
        return left

    async def _stop(self, grace_s: float, reason: BaseException | None) -> None:
        if self.state is State.STOPPED:
            return
        self.state = State.STOPPING
        self._limit = SHUT
        self.cut_burst()
        await self._end(grace_s)
        if self.state is not State.STOPPING:  # somebody else has stopped it meanwhile
            return
        self.state = State.STOPPED
        if self._rare is not None:
            self._rare.draining = False
        self.leave()
        if self.system is not None and self.system.watched:
            self.emit(events.Stopped(self.path))
        if reason is not None or self._rare is not None:
            self._tell_watchers(reason)

    async def _end(self, grace_s: float) -> None:
        """End the incarnation: its timers, its current handler, `run`, then `on_stop`. One end at a time."""
        state = self.state
        on_start, over = self._moving()
        while over is not None:
            if on_start is not None:
                on_start.cancel()
            await asyncio.wait((over,))
            if self.state is not state:  # somebody else has ended it meanwhile, and perhaps started it again
                return
            on_start, over = self._moving()
        if self.system is None or self._actor is None:
            await self._end_now(grace_s)
            return
        over = self.system.loop.create_future()
        self.system.moving[self] = (None, over)
        try:
            await self._end_now(grace_s)
        finally:
            del self.system.moving[self]
            over.set_result(None)

    async def _end_now(self, grace_s: float) -> None:
        rare = self._rare
        self._cancel_timers()
        await self._end_handlers(grace_s)
        self._idle = False
        if rare is not None:
            life, rare.life = rare.life, None
            await cancelled(life)
        actor, self._actor = self._actor, None
        if actor is not None:
            await self._clean(actor)
        self._cancel_timers()  # those too that the last handler or on_stop has made

    async def _end_handlers(self, grace_s: float) -> None:
        """Wait for what is in hand, for `grace_s` at most, then cancel it."""
        if self.task is not None and not await self._fall_quiet(grace_s):
            await cancelled(self.task)

    def _cancel_timers(self) -> None:
        """Cancel the incarnation's timers, and take their ticks out of the mailbox: they have expired with it."""
        rare = self._rare
        if rare is None:
            return
        while rare.timers:
            rare.timers.pop().disarm()
        if rare.ticked:
            rare.ticked = False
            self.expire_ticks(None)

    def _has_work(self) -> bool:
        """Whether it has accepted what it may still handle."""
        return self.state not in (State.STOPPING, State.STOPPED) and (bool(self._queue) or self.busy())

    async def _fall_quiet(self, timeout_s: float) -> bool:
        """Wait, for `timeout_s` at most, until a burst has ended; whether none runs then."""
        rare = self.record
        if rare.quiet is None or rare.quiet.done():
            rare.quiet = asyncio.get_running_loop().create_future()
        await asyncio.wait((rare.quiet,), timeout=timeout_s)
        return self.task is None and not self.in_hand()

    async def _clean(self, actor: Actor[Any]) -> None:
        """Run on_stop to its end, or for `shutdown_s`, whoever cancels us meanwhile; its errors are reported."""
        if type(actor).on_stop is Actor.on_stop:
            return
        task = new_task(actor.on_stop(), f"on_stop {self.name}")
        ends = new_task(asyncio.wait((task,), timeout=self.spec.shutdown_s), f"{self.path}!")
        try:
            await asyncio.shield(ends)
        except asyncio.CancelledError:
            await ends
            raise
        finally:
            if not task.done():
                task.cancel()
                self.emit(events.Crashed(self.path, "on_stop", TimeoutError("on_stop took too long")))
            elif task.cancelled():
                self.emit(events.Crashed(self.path, "on_stop", ActorKilledError(self.path)))
            elif (error := task.exception()) is not None:
                self.emit(events.Crashed(self.path, "on_stop", error))

    # What an actor asks for itself -----------------------------------------------------------------------------------

    def schedule(self, message: Any, delay_s: float, interval_s: float | None = None) -> Timer:
        """Make a timer of the current incarnation. See Actor.after and Actor.every."""
        if message.__class__ not in self.table:
            raise UnhandledMessageError(self.path, message, sorted(kind.__name__ for kind in self.handlers.all))
        if interval_s is not None and interval_s <= 0:
            raise ValueError(f"{self.path} can tick every so many seconds, not every {interval_s:g} s")
        timer = Timer(self, message, delay_s, interval_s)  # pyright: ignore[reportArgumentType]
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
        if len(self.record.stash) >= self.spec.mailbox.capacity:
            raise StashFullError(self.path, message, self.spec.mailbox.capacity)
        self.record.stash.append(item)
        self.record.aside = item
        if type(item) is Envelope and item.reply is not None:
            item.mind()
        self.cut_burst()
        self.uncount()

    def stashed(self, item: Any) -> bool:
        """Whether the message in hand has just been stashed, and so has no fate yet."""
        return self._rare is not None and self._rare.aside is item

    def unstashed(self, item: Any) -> None:
        """Take the message in hand out of the stash, if it is there: its handler has not ended well."""
        if self.stashed(item):
            rare = self.record
            rare.aside = None
            rare.stash = [each for each in rare.stash if each is not item]
            self._handled += 1

    def unstash(self) -> None:
        """See Actor.unstash."""
        stash = self.record.stash
        self._queue = self._queue if isinstance(self._queue, deque) else deque()
        while stash:
            self._queue.appendleft(stash.pop())
        if self._idle and self._queue:
            self.wake()

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
            self.tell_of_end(ref, ref.record.reason)
        else:
            ref.record.watchers[self] = None
            self.record.watching[ref] = None

    def unwatch(self, ref: "Ref[Any]") -> None:
        """See Actor.unwatch."""
        if isinstance(ref, Life):
            ref.record.watchers.pop(self, None)
            self.record.watching.pop(ref, None)

    def _tell_watchers(self, reason: BaseException | None) -> None:
        """Tell everyone who watches of the end, keep its reason for who watches later, and watch nobody any more."""
        rare = self.record
        rare.reason = reason
        watchers, rare.watchers = rare.watchers, {}
        watching, rare.watching = rare.watching, {}
        for other in watching:
            other.record.watchers.pop(self, None)
        for watcher in watchers:
            watcher.record.watching.pop(self, None)
            watcher.tell_of_end(self, reason)

    def tell_of_end(self, other: "Life[Any]", reason: BaseException | None) -> None:
        """Put a Terminated into this mailbox, beyond its capacity if need be: it must not be lost."""
        if self.state in (State.DRAINING, State.STOPPING, State.STOPPED):
            return  # a watcher that ends itself watches no more
        if self._limit == SHUT:
            self.admit()
        why = None if reason is None else f"{type(reason).__name__}: {shown(reason)}"
        self._queue.append(events.Terminated(other.path, why))
        if self._idle:
            self.wake()


def new_task(work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
    """A task whose first step comes in a later turn of the running loop, whatever task factory that has."""
    return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name)


def in_task() -> bool:
    """Whether this runs in a task of a running loop, and not in what closes a coroutine that was left behind."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def cancelled(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel tasks and see them end; again where it was not heard: asyncio.wait_for loses one in Python 3.11."""
    left = {task for task in tasks if task is not None and not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
