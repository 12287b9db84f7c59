"""Deathwatch: who is told of an actor's end for good, and whose end an actor is told of."""

from typing import TYPE_CHECKING, Any

from callboard.runtime.actor.errors import as_text
from callboard.runtime.actor.events import Terminated
from callboard.runtime.dispatch.node import State

if TYPE_CHECKING:
    from callboard.runtime.dispatch.cell import Cell


class Deathwatch:
    """Both directions, each in the order in which they were asked for, and the reason of the end when that has come."""

    __slots__ = ("reason", "watchers", "watching")

    def __init__(self) -> None:
        self.watchers: dict[Cell[Any], None] = {}
        self.watching: dict[Cell[Any], None] = {}
        self.reason: BaseException | None = None


def watch(watcher: "Cell[Any]", other: "Cell[Any]") -> None:
    """Tell `watcher` of the end of `other`, at once if that has come."""
    if Terminated not in watcher.handlers.all:
        raise TypeError(f"{watcher.path} watches {other.path} and does not handle Terminated")
    if other.state is State.STOPPED:
        tell_of_end(watcher, other, other.deathwatch.reason)
    else:
        other.deathwatch.watchers[watcher] = None
        watcher.deathwatch.watching[other] = None


def unwatch(watcher: "Cell[Any]", other: "Cell[Any]") -> None:
    """Tell it no more."""
    other.deathwatch.watchers.pop(watcher, None)
    watcher.deathwatch.watching.pop(other, None)


def tell_watchers(cell: "Cell[Any]", reason: BaseException | None) -> None:
    """Tell everyone who watches of the end, keep its reason for who watches later, and watch nobody any more."""
    own = cell.deathwatch
    own.reason = reason
    watchers, own.watchers = own.watchers, {}
    watching, own.watching = own.watching, {}
    for other in watching:
        other.deathwatch.watchers.pop(cell, None)
    for watcher in watchers:
        watcher.deathwatch.watching.pop(cell, None)
        tell_of_end(watcher, cell, reason)


def tell_of_end(watcher: "Cell[Any]", other: "Cell[Any]", reason: BaseException | None) -> None:
    """Put a Terminated into the watcher's mailbox, beyond its capacity if need be: it must not be lost."""
    if watcher.state not in (State.DRAINING, State.STOPPING, State.STOPPED):  # who ends itself watches no more
        why = None if reason is None else f"{type(reason).__name__}: {as_text(reason)}"
        watcher.accept(Terminated(other.path, why))
