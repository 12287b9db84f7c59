"""The mailbox of one actor: what waits, who waits for room, and what becomes of one message too many."""

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from callboard.runtime.actor import events
from callboard.runtime.actor.envelope import Envelope, is_ask, message_of
from callboard.runtime.actor.errors import AskCycleError, MailboxFullError
from callboard.runtime.actor.mailbox import ACCEPTED, Counts, Overflow

if TYPE_CHECKING:
    from callboard.runtime.dispatch.cell import Cell

CLOSED = -1  # the limit of a mailbox that needs more than an append: not used yet, full of waiting senders, or closed
WAIT = Overflow.WAIT  # bound once: see node.NEW
SHARE = 16  # of a mailbox: so much of it is free before senders that wait are let in, in the middle of a batch

Waiters = dict["asyncio.Future[Any]", Any]  # what waits for room, by what its sender waits on


def waits_on_reply(item: Any, room: "asyncio.Future[Any]") -> bool:
    """Whether who waits for room is an asker: it waits on its reply."""
    return item.__class__ is Envelope and item.reply is room


def wait_for_room(cell: "Cell[Any]", item: Any, room: "asyncio.Future[Any]") -> None:
    """Let a sender wait, until it is let in or goes."""
    waiters = cell.cold_state.waiters
    if is_ask(item):
        item.mind()
    else:
        room.add_done_callback(lambda room: waiters.pop(room, None))
    waiters[room] = item
    cell.limit = CLOSED  # until they have been let in: nothing overtakes them


def take_out(waiting: Any, item: Any) -> bool:
    """Take an item out of a mailbox or a stash; whether it was there. By identity: what `==` of two messages does is
    somebody else's code.
    """
    for place, each in enumerate(waiting):
        if each is item:
            del waiting[place]
            return True
    return False


def let_in(waiters: Waiters, queue: Any, capacity: int) -> None:
    """Give room that is free to the senders that wait for it, first come, first served."""
    while waiters and len(queue) < capacity:
        room = next(iter(waiters))
        item = waiters.pop(room)
        if room.done():  # its sender has gone in this turn of the loop
            continue
        queue.append(item)
        if not waits_on_reply(item, room):
            room.set_result(None)


def turn_away(waiters: Waiters, error_of: Any) -> None:
    """There will be no room: give each sender its error."""
    for room, item in waiters.items():
        if waits_on_reply(item, room):
            item.fail(error_of(item))
        elif not room.done():
            room.set_exception(error_of(item))


def total(*counts: Counts) -> Counts:
    """The sum of several."""
    names = Counts.__struct_fields__
    return Counts(**{name: sum(getattr(each, name) for each in counts) for name in names})


def overflow(cell: "Cell[Any]", message: Any, item: Any, may_wait: bool) -> Awaitable[None]:
    """A full mailbox does what is configured with one message more. Raises MailboxFullError."""
    mailbox, policy, asked = cell.spec.mailbox, cell.spec.mailbox.overflow, is_ask(item)
    crowded = cell.cold is not None and len(cell.cold.waiters) >= mailbox.max_waiting
    if policy is WAIT and may_wait and not crowded and sender_can_wait(cell):
        # An ask waits on its reply, which its deadline settles; a tell has only the room to wait for.
        room: asyncio.Future[None] = item.reply if asked else asyncio.get_running_loop().create_future()
        wait_for_room(cell, item, room)
        return room
    if policy is Overflow.DROP_OLDEST:
        drop_oldest(cell, item)
        return ACCEPTED
    overflowed(cell, message)
    if policy is not Overflow.DROP_NEWEST or asked:
        raise MailboxFullError(cell.path, message, mailbox.capacity)
    cell.cold_state.counts.dropped += 1
    return ACCEPTED


def drop_oldest(cell: "Cell[Any]", item: Any) -> None:
    """Make room for a message by dropping the one that has waited longest."""
    oldest = cell.queue.popleft()
    cell.queue.append(item)
    cell.cold_state.counts.dropped += 1
    lost = message_of(oldest)
    overflowed(cell, lost)
    if oldest.__class__ is Envelope:
        oldest.fail(MailboxFullError(cell.path, lost, cell.spec.mailbox.capacity))


def overflowed(cell: "Cell[Any]", message: Any) -> None:
    """Tell who watches that a message has found no room."""
    if cell.scheduler is not None and cell.scheduler.events.watched:
        cell.emit(events.Overflowed(cell.path, message))


def sender_can_wait(cell: "Cell[Any]") -> bool:
    """An actor that waited for room in its own mailbox would wait for ever: it is refused instead."""
    try:
        return not cell.runs_in(asyncio.current_task())
    except RuntimeError:  # outside of any loop
        return False


def refuse_cycle(cell: "Cell[Any]", envelope: Envelope) -> None:
    """Raise AskCycleError if the asked actor itself waits for the reply."""
    chain = [cell.path]
    waits: Envelope | None = envelope.asked_by
    while waits is not None and not waits.answered:
        chain.insert(0, waits.cell.path)
        if waits.cell is cell:
            raise AskCycleError(tuple(chain))
        waits = waits.asked_by
