"""The life of an actor: its incarnations, from `on_start` to `on_stop`, and the ways in which one ends."""

import asyncio
from typing import TYPE_CHECKING, Any

from callboard.runtime.actor import events
from callboard.runtime.actor.actor import Actor
from callboard.runtime.actor.context import CURRENT
from callboard.runtime.actor.errors import (
    ENDING,
    ActorCrashedError,
    ActorKilledError,
    ActorStoppedError,
    Renewal,
    Shutdown,
    for_asker,
    sound,
)
from callboard.runtime.dispatch.deathwatch import tell_watchers
from callboard.runtime.dispatch.fates import discard_remaining
from callboard.runtime.dispatch.mailbox_queue import CLOSED
from callboard.runtime.dispatch.node import HANDLING, NEW, RUNNING, STARTING, State
from callboard.runtime.dispatch.scheduler import Scheduler, cancelled, in_task

if TYPE_CHECKING:
    from callboard.runtime.dispatch.cell import Cell


def crash(cell: "Cell[Any]", error: BaseException, message: str | None = None) -> None:
    """See Cell.crash."""
    if cell.state in HANDLING:
        fall(cell)
        try:
            cell.emit(events.Crashed(cell.path, message, error))
        finally:  # whoever watches may be interrupted: the supervisor is told
            cell.parent.child_exited(cell, error)  # type: ignore[union-attr]


def kill(cell: "Cell[Any]") -> None:
    """See Cell.kill."""
    on_start, _ = moving(cell)
    if cell.state is State.STARTING and on_start is not None:
        on_start.cancel()
    else:
        crash(cell, ActorKilledError(cell.path))


def leave(cell: "Cell[Any]", reason: str | None, *, renews: bool = False) -> None:
    """See Cell.exit."""
    if cell.state is State.STARTING:
        cell.cold_state.leaves = (reason,)
    if cell.state not in HANDLING:
        return
    cold, actor = cell.cold_state, cell.actor
    cold.held += 1  # no other message is begun
    cell.idle = False
    cell.end_batch()

    def go() -> None:
        cold.held -= 1
        if cell.state in HANDLING and cell.actor is actor:  # else it has crashed since
            fall(cell)
            error = None if reason is None else Renewal(reason) if renews else Shutdown(reason)
            cell.parent.child_exited(cell, error)  # type: ignore[union-attr]

    if cell.is_busy():
        cold.after_current.append(go)
    else:
        go()


def fall(cell: "Cell[Any]") -> None:
    """Handle no further message in this incarnation."""
    cell.state = State.CRASHED
    cell.idle = False
    cell.end_batch()
    cell.since = cell.scheduler.time()  # type: ignore[union-attr]


# The start -----------------------------------------------------------------------------------------------------------


async def start(cell: "Cell[Any]", scheduler: Scheduler) -> None:
    """Make the actor, run its start hook, and let it handle messages."""
    if cell.queue and cell.state is NEW:
        cell.since = scheduler.time()
    cell.state = STARTING
    cell.table = cell.handlers.first
    if cell.cold is not None:
        cell.cold.leaves = None
    try:
        try:
            actor = cell.make()
        except (StopIteration, GeneratorExit, asyncio.CancelledError) as error:  # nobody's end, nobody's cancellation
            raise for_asker(error, cell.path, None) from error
        actor._own_ref = cell  # noqa: SLF001 - it is set here
        if type(actor).on_start is not Actor.on_start:
            await _prepare(cell, actor, scheduler)
    except BaseException:
        cell.state = State.CRASHED if cell.state is State.STARTING else cell.state
        raise
    cell.actor = actor
    _take_up(cell, actor, scheduler)


def _take_up(cell: "Cell[Any]", actor: Actor[Any], scheduler: Scheduler) -> None:
    """The start hook is done: handle messages, or leave, if that is what it said."""
    cold = cell.cold
    cell.state = State.DRAINING if cold is not None and cold.draining else RUNNING
    cell.idle = True
    leaves = None if cold is None else cold.leaves
    if type(actor).run is not Actor.run and leaves is None:
        cell.cold_state.run_task = scheduler.new_task(_run(cell, actor), f"run {cell.name}")
    if cold is not None:
        cold.started_at = scheduler.time()
    if scheduler.events.watched:
        restarts = 0 if cold is None else cold.restarts
        cell.emit(events.Restarted(cell.path, restarts) if restarts else events.Started(cell.path))
    if leaves is not None:
        leave(cell, *leaves)
    elif cell.queue:
        cell.schedule()


async def _prepare(cell: "Cell[Any]", actor: Actor[Any], scheduler: Scheduler) -> None:
    """Run on_start, in a task that kill, halt and stop can cut short, and on_stop if that has failed."""
    on_start = scheduler.new_task(actor.on_start(), f"on_start {cell.name}", CURRENT.get())
    over = scheduler.loop.create_future()
    scheduler.moving[cell] = (on_start, over)
    try:
        try:
            await asyncio.wait((on_start,))
        finally:
            await cancelled(on_start)
        if on_start.cancelled() or cell.state is not State.STARTING:
            raise ActorKilledError(cell.path)  # noqa: TRY301 - it ends as if on_start had raised
        if isinstance(error := on_start.exception(), GeneratorExit):
            raise for_asker(error, cell.path, None)  # noqa: TRY301 - the same
        on_start.result()
    except BaseException:
        await _end_children(cell)
        await _clean(cell, actor, scheduler)
        raise
    finally:
        del scheduler.moving[cell]
        over.set_result(None)


def moving(cell: "Cell[Any]") -> "tuple[asyncio.Task[None] | None, asyncio.Future[None] | None]":
    """The on_start that runs, if one does, and what is done when the start or end under way is over."""
    nothing = (None, None)
    return nothing if cell.scheduler is None else cell.scheduler.moving.get(cell, nothing)


async def _run(cell: "Cell[Any]", actor: Actor[Any]) -> None:
    try:
        await actor.run()
    except BaseException as error:
        if type(error) is GeneratorExit and not in_task():
            raise
        told = sound(error)
        if cell.actor is actor:  # else it has been ended, and this was cancelled for that
            crash(cell, told if isinstance(told, Exception) else for_asker(told, cell.path, None))
        if isinstance(told, (asyncio.CancelledError, *ENDING)):
            raise
    else:
        if cell.actor is actor:
            leave(cell, None)


async def spawn(cell: "Cell[Any]", child: Any) -> None:
    """Start a child of this incarnation's own."""
    if cell.scheduler is None or cell.state not in (State.STARTING, *HANDLING):
        raise ActorStoppedError(cell.path, child)
    cold = cell.cold_state
    if cold.nursery is None:
        cold.nursery = cell.scheduler.nursery(cell)
    await cold.nursery.start_child(child)


# The end -------------------------------------------------------------------------------------------------------------


async def halt(cell: "Cell[Any]") -> None:
    """See Cell.halt."""
    if cell.state in HANDLING:
        fall(cell)
    elif cell.state is State.STARTING:
        cell.state = State.CRASHED  # its start, which is under way elsewhere, fails
    await end(cell, grace_s=0.0)
    if cell.cold is not None and cell.cold.stash is not None:
        cell.unstash()


async def stop(cell: "Cell[Any]", grace_s: float, reason: BaseException | None) -> None:
    """See Cell.stop and Cell.stop_after."""
    if cell.state is State.STOPPED:
        return
    cell.state = State.STOPPING
    cell.limit = CLOSED
    cell.end_batch()
    await end(cell, grace_s)
    if cell.state is not State.STOPPING:  # somebody else has stopped it meanwhile
        return
    cell.state = State.STOPPED
    if cell.cold is not None:
        cell.cold.draining = False
    discard_remaining(cell)
    if cell.scheduler is not None and cell.scheduler.events.watched:
        cell.emit(events.Stopped(cell.path))
    if reason is not None or (cell.cold is not None and cell.cold.deathwatch is not None):
        tell_watchers(cell, reason)


async def drain(cell: "Cell[Any]", grace_s: float) -> int:
    """See Ref.drain."""
    if cell.state not in (State.NEW, State.STOPPING, State.STOPPED):
        loop = asyncio.get_running_loop()
        ends = loop.time() + grace_s
        cell.cold_state.draining = True
        cell.limit = CLOSED
        cell.state = State.DRAINING if cell.state is State.RUNNING else cell.state
        while _has_work(cell) and (left_s := ends - loop.time()) > 0:
            await is_quiet(cell, left_s)
    stash = None if cell.cold is None else cell.cold.stash
    left = len(cell.queue) + (0 if stash is None else len(stash))
    await stop(cell, cell.spec.shutdown_s if not left else 0.0, None)
    return left


def _has_work(cell: "Cell[Any]") -> bool:
    """Whether it has accepted what it may still handle."""
    return cell.state not in (State.STOPPING, State.STOPPED) and (bool(cell.queue) or cell.is_busy())


async def is_quiet(cell: "Cell[Any]", timeout_s: float) -> bool:
    """Wait, for `timeout_s` at most, until a batch has ended; whether none runs then."""
    cold = cell.cold_state
    if cold.quiet is None or cold.quiet.done():
        cold.quiet = asyncio.get_running_loop().create_future()
    await asyncio.wait((cold.quiet,), timeout=timeout_s)
    return cell.task is None and not cell.in_progress()


async def end(cell: "Cell[Any]", grace_s: float) -> None:
    """End the incarnation: its timers, its current handler, `run`, its children, then `on_stop`. One end at a time."""
    state = cell.state
    on_start, over = moving(cell)
    while over is not None:
        if on_start is not None:
            on_start.cancel()
        await asyncio.wait((over,))
        if cell.state is not state:  # somebody else has ended it meanwhile, and perhaps started it again
            return
        on_start, over = moving(cell)
    if cell.scheduler is None or cell.actor is None:
        await _end_now(cell, grace_s)
        return
    over = cell.scheduler.loop.create_future()
    cell.scheduler.moving[cell] = (None, over)
    try:
        await _end_now(cell, grace_s)
    finally:
        del cell.scheduler.moving[cell]
        over.set_result(None)


async def _end_now(cell: "Cell[Any]", grace_s: float) -> None:
    _cancel_timers(cell)
    await cell.end_handlers(grace_s)
    cell.idle = False
    if cell.cold is not None:
        run_task, cell.cold.run_task = cell.cold.run_task, None
        await cancelled(run_task)
        await _end_children(cell)
    actor, cell.actor = cell.actor, None
    if actor is not None and cell.scheduler is not None:
        await _clean(cell, actor, cell.scheduler)
    _cancel_timers(cell)  # those too that the last handler or on_stop has made
    if cell.cold is not None:
        for envelope in list(cell.cold.replies):
            envelope.fail(ActorCrashedError(cell.path, envelope.message))


async def _end_children(cell: "Cell[Any]") -> None:
    """Stop what this incarnation has spawned."""
    if cell.cold is not None and cell.cold.nursery is not None:
        nursery, cell.cold.nursery = cell.cold.nursery, None
        await nursery.stop()


async def end_handlers(cell: "Cell[Any]", grace_s: float) -> None:
    """See Cell.end_handlers."""
    if cell.task is not None and not await is_quiet(cell, grace_s):
        await cancelled(cell.task)
    if cell.work is not None:
        work, cell.work = cell.work, None
        await cancelled(work.task)


def _cancel_timers(cell: "Cell[Any]") -> None:
    """Cancel the incarnation's timers, and take their ticks out of the mailbox: they have expired with it."""
    timers = None if cell.cold is None else cell.cold.timers
    if timers is None:
        return
    timers.cancel_all()
    if timers.ticked:
        timers.ticked = False
        cell.expire_ticks(None)


async def _clean(cell: "Cell[Any]", actor: Actor[Any], scheduler: Scheduler) -> None:
    """Run on_stop to its end, or for `shutdown_s`, whoever cancels us meanwhile; its errors are reported."""
    if type(actor).on_stop is Actor.on_stop:
        return
    task = scheduler.new_task(actor.on_stop(), f"on_stop {cell.name}", CURRENT.get())
    ends = scheduler.new_task(asyncio.wait((task,), timeout=cell.spec.shutdown_s), f"{cell.path}!")
    try:
        await asyncio.shield(ends)
    except asyncio.CancelledError:
        await ends
        raise
    finally:
        if not task.done():
            task.cancel()
            cell.emit(events.Crashed(cell.path, "on_stop", TimeoutError("on_stop took too long")))
        elif task.cancelled():
            cell.emit(events.Crashed(cell.path, "on_stop", ActorKilledError(cell.path)))
        elif (error := task.exception()) is not None:
            cell.emit(events.Crashed(cell.path, "on_stop", sound(error)))
