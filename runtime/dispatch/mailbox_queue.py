"""The mailbox of one actor: what waits, who waits for room, and what becomes of one message too many."""

import asyncio
from typing import Any

from callboard.runtime.actor.envelope import Envelope
from callboard.runtime.actor.mailbox import Counts

CLOSED = -1  # the limit of a mailbox that needs more than an append: not used yet, full of waiting senders, or closed
SHARE = 16  # of a mailbox: so much of it is free before senders that wait are let in, in the middle of a batch

Waiters = dict["asyncio.Future[Any]", Any]  # what waits for room, by what its sender waits on


def waits_on_reply(item: Any, room: "asyncio.Future[Any]") -> bool:
    """Whether who waits for room is an asker: it waits on its reply."""
    return item.__class__ is Envelope and item.reply is room


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
