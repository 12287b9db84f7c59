"""The stash: messages that an actor has put aside, until it takes them back."""

from collections import deque
from typing import TYPE_CHECKING, Any

from callboard.runtime.actor.context import CURRENT
from callboard.runtime.actor.envelope import Envelope, is_ask, message_of
from callboard.runtime.actor.errors import StashFullError
from callboard.runtime.dispatch.mailbox_queue import take_out

if TYPE_CHECKING:
    from callboard.runtime.dispatch.cell import Cell


class Stash:
    """Messages in the order they were put aside. `aside` is the one in progress, if it has just been put there."""

    __slots__ = ("aside", "items")

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.aside: Any = None

    def __len__(self) -> int:
        return len(self.items)

    def put(self, item: Any) -> None:
        """Put the message in progress aside."""
        self.items.append(item)
        self.aside = item

    def holds(self, item: Any) -> bool:
        """Whether a message is here."""
        return any(each is item for each in self.items)

    def remove(self, item: Any) -> None:
        """Take one out, the last that is this object: a message may be told twice. Harmless if it is not here."""
        self.items.reverse()
        take_out(self.items, item)
        self.items.reverse()
        if self.aside is item:
            self.aside = None

    def take_all(self) -> list[Any]:
        """Empty it."""
        items, self.items = self.items, []
        return items


def put_aside(cell: "Cell[Any]", message: Any) -> None:
    """See Actor.stash."""
    cold = cell.cold_state
    if cold.stash is None:
        cold.stash = Stash()
    if len(cold.stash) >= cell.spec.mailbox.capacity:
        raise StashFullError(cell.path, message, cell.spec.mailbox.capacity)
    outer = CURRENT.get()
    item = message
    if outer.__class__ is Envelope and outer.message is message:
        item = outer
    elif outer is not None:
        item = cell.current if message_of(cell.current) is message else (message, outer)
    cold.stash.put(item)
    if is_ask(item):
        item.mind()
    cell.end_batch()
    cell.uncount()


def unstash(cell: "Cell[Any]") -> None:
    """See Actor.unstash."""
    stash = cell.cold_state.stash
    if stash is not None and len(stash):
        cell.queue = cell.queue if isinstance(cell.queue, deque) else deque()
        cell.queue.extendleft(reversed(stash.take_all()))
    if cell.idle and cell.queue:
        cell.schedule()


def is_aside(stash: Stash | None, item: Any) -> bool:
    """Whether the message in progress has just been put aside, and so has no fate yet."""
    return stash is not None and stash.aside is not None and message_of(stash.aside) is message_of(item)


def take_back(cell: "Cell[Any]", item: Any) -> None:
    """Take the message in progress out again, if it has just been put aside: its handler has not ended well."""
    stash = None if cell.cold is None else cell.cold.stash
    if stash is not None and is_aside(stash, item):
        stash.remove(stash.aside)
        cell.handled += 1
