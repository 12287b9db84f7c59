"""Transfers: pools and entities give a cell's messages to another, change its spec, or put it away."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callboard.runtime.actor.envelope import Envelope, message_of
from callboard.runtime.dispatch import lifecycle
from callboard.runtime.dispatch.child_spec import ChildSpec
from callboard.runtime.dispatch.mailbox_queue import CLOSED, wait_for_room
from callboard.runtime.dispatch.node import HANDLING, State
from callboard.runtime.dispatch.stash import Stash

if TYPE_CHECKING:
    from callboard.runtime.dispatch.cell import Cell

Waiter = tuple[Any, "asyncio.Future[Any]"]  # a message, and what its sender waits on


def load(cell: "Cell[Any]") -> int:
    """How many messages it has, those in progress included."""
    return len(cell.queue) + len(cell.in_progress())


def take_all(cell: "Cell[Any]") -> list[Any]:
    """Give up all that waits in the mailbox."""
    items = list(cell.queue)
    if items:
        cell.queue.clear()
    cell.end_batch()
    return items


def take_stash(cell: "Cell[Any]") -> list[Any]:
    """Give up what is stashed, but for the message in progress, if that is stashed."""
    stash = None if cell.cold is None else cell.cold.stash
    if stash is None:
        return []
    aside = stash.aside if cell.is_busy() else None
    if aside is None:
        return stash.take_all()
    stash.remove(aside)
    items = stash.take_all()
    stash.put(aside)
    return items


def put_stash(cell: "Cell[Any]", item: Any) -> None:
    """Put a message into the stash that was in it before."""
    cold = cell.cold_state
    cold.stash = cold.stash or Stash()
    cold.stash.items.append(item)


def take_waiters(cell: "Cell[Any]") -> list[Waiter]:
    """Give up the senders that wait for room."""
    if cell.cold is None:
        return []
    waiters, cell.cold.waiters = cell.cold.waiters, {}
    return [(item, room) for room, item in waiters.items()]


def take_back(cell: "Cell[Any]", item: Any) -> Any:
    """Give up a message that was in progress, if it is to be handled again, after a crash or from the stash."""
    cold = cell.cold_state
    retried = cold.crashes[0]
    first = cell.queue[0] if cell.queue else None
    if first is item or (first is not None and first is retried and message_of(retried) is message_of(item)):
        return cell.queue.popleft()
    if cell.is_stashed(item) and cold.stash is not None:
        item = cold.stash.aside
        cold.stash.remove(item)
        return item
    return None


def accept_transferred(cell: "Cell[Any]", item: Any, other: "Cell[Any]", *, first: bool = False) -> None:
    """Take a message that `other` has accepted, beyond the capacity if need be, behind or before what waits here."""
    if not isinstance(cell.queue, deque):
        cell.queue = deque()
        cell.limit = cell.spec.mailbox.capacity - 1
    if first:
        cell.queue.appendleft(item)
    else:
        cell.queue.append(item)
    if item.__class__ is Envelope:
        item.cell = cell
    if other.cold is not None and other.cold.crashes[0] is item and cell.cold_state.crashes[0] is None:
        cell.cold_state.crashes, other.cold.crashes = other.cold.crashes, (None, 0)
    if cell.idle:
        cell.schedule()


def accept_waiter(cell: "Cell[Any]", waiter: Waiter) -> None:
    """Let a sender that waited for room elsewhere wait for it here."""
    item, room = waiter
    if item.__class__ is Envelope:
        item.cell = cell
    wait_for_room(cell, item, room)
    let_in(cell)


def let_in(cell: "Cell[Any]") -> None:
    """Admit who waits for room, where there is some, outside of a batch too."""
    if cell.cold is not None and cell.cold.waiters:
        cell.admit()
        if cell.idle and cell.queue:
            cell.schedule()


def adopt(cell: "Cell[Any]", spec: ChildSpec) -> None:
    """Go on by another spec. A mailbox that is made smaller keeps what it has, and takes nothing more till then."""
    cell.spec = spec
    if cell.limit != CLOSED:
        cell.limit = spec.mailbox.capacity - 1
    let_in(cell)


def is_idle(cell: "Cell[Any]") -> bool:
    """Whether it has nothing to do: no message waits, is in progress or put aside, no reply is owed, and nobody waits
    for room.
    """
    if not cell.idle or cell.is_busy():
        return False
    cold = cell.cold
    return cold is None or not (cold.waiters or cold.replies or (cold.stash is not None and len(cold.stash)))


def when_idle(cell: "Cell[Any]", call: Callable[[], None]) -> None:
    """Call once, in another turn, when nothing waits or is in progress here. There is one such call at a time."""
    cold = cell.cold_state
    if cell.scheduler is not None and (cold.quiet is None or cold.quiet.done()):
        cold.quiet = cell.scheduler.loop.create_future()
        cold.quiet.add_done_callback(lambda _: call())


def pause(cell: "Cell[Any]") -> None:
    """Handle no further message in this incarnation; what comes waits for the next one."""
    if cell.state is State.RUNNING:
        lifecycle.fall(cell)


async def passivate(cell: "Cell[Any]", reason: BaseException | None) -> None:
    """End a paused incarnation: after the message in progress, unless there is a `reason`, a crash, to cut it short."""
    await lifecycle.end(cell, cell.spec.shutdown_s if reason is None else 0.0)
    if cell.cold is not None and cell.cold.stash is not None:
        cell.unstash()


def has_messages(cell: "Cell[Any]") -> bool:
    """Whether a message waits, or a sender for room."""
    return bool(cell.queue) or (cell.cold is not None and bool(cell.cold.waiters))


def hold_for(cell: "Cell[Any]", other: "Cell[Any]") -> None:
    """Begin no message until the one that `other` has in progress is done: it is of a key that is ours now."""
    cold = cell.cold_state
    cold.held += 1
    cell.idle = False
    cell.end_batch()

    def done() -> None:
        cold.held -= 1
        if not cold.held and cell.state in HANDLING and cell.task is None:
            cell.finish_batch()

    other.cold_state.after_current.append(done)
