"""Snapshots: the tree as an operator sees it, with counts, and rates between two looks at them.

Nothing is measured in between, so that a rate costs only those who look.
"""

from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from callboard.runtime.actor.envelope import message_of
from callboard.runtime.actor.mailbox import Counts
from callboard.runtime.dispatch.cell import Cell
from callboard.runtime.dispatch.node import Node, State

SHORTEST_S = 1.0  # looks that come sooner one after another share a rate


class TreeNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node of the tree as an operator sees it.

    Depth and capacity in messages; `current` is the type being handled; `handled_per_s` is the rate since somebody last
    looked, a second ago or more. `oldest_s` is for how long what waits has been waiting for a handler that takes its
    time, a restart or a start: the age of the oldest message as far as it can be known without a stamp on each.
    `busy_s` is the time of all async handlers that have ended, their waits included.
    """

    name: str
    kind: str
    state: str
    restarts: int = 0
    depth: int | None = None
    capacity: int | None = None
    current: str | None = None
    oldest_s: float | None = None
    handled_per_s: float | None = None
    busy_s: float = 0.0
    counts: Counts | None = None
    children: list["TreeNode"] = []


class Look(msgspec.Struct):
    """When an actor was looked at, how many messages it had handled by then, and its rate since the look before."""

    at: float
    handled: int
    per_s: float | None = None


class Rates:
    """The last look at each actor that anyone has looked at."""

    def __init__(self) -> None:
        self._looks: WeakKeyDictionary[Any, Look] = WeakKeyDictionary()

    def per_s(self, actor: Any, handled: int, now: float) -> float | None:
        """The rate from the last look to this one; from the first one there is none."""
        last = self._looks.get(actor)
        if last is None:
            self._looks[actor] = Look(now, handled)
            return None
        if now - last.at >= SHORTEST_S:
            last.per_s = round((handled - last.handled) / (now - last.at), 1)
            last.at, last.handled = now, handled
        return last.per_s


def snapshot(node: Node, rates: Rates | None = None) -> TreeNode:
    """A node and all below it, as of now; works while every mailbox is full."""
    if isinstance(node, Cell):
        return _snapshot_of_actor(node, rates)
    counts: Counts | None = getattr(node, "gone", None)  # of workers and entities that are no more
    return TreeNode(
        name=node.name,
        kind=getattr(node, "kind", "supervisor"),
        state=node.state.value,
        restarts=node.record.restarts,
        counts=counts if counts is not None and counts.accepted else None,
        children=[snapshot(child, rates) for child in children_of(node)],
    )


def _snapshot_of_actor(cell: Cell[Any], rates: Rates | None) -> TreeNode:
    counts, scheduler = cell.counts(), cell.scheduler
    items = cell.in_progress()
    waits = cell.queue and (items or cell.state is not State.RUNNING)
    return TreeNode(
        name=cell.name,
        kind="actor",
        state=cell.state.value,
        restarts=0 if cell.cold is None else cell.cold.restarts,
        depth=len(cell.queue),
        capacity=cell.spec.mailbox.capacity,
        current=", ".join(sorted({type(message_of(item)).__name__ for item in items})) or None,
        oldest_s=round(scheduler.time() - cell.since, 3) if scheduler is not None and waits else None,
        handled_per_s=None
        if rates is None or scheduler is None
        else rates.per_s(cell, counts.handled, scheduler.time()),
        busy_s=round(cell.busy_s, 6),
        counts=counts,
        children=[snapshot(child, rates) for child in children_of(cell)],
    )


def children_of(node: Node) -> list[Node]:
    """The nodes right below: a supervisor's children, and those that an actor has spawned."""
    if isinstance(node, Cell):
        nursery = None if node.cold is None else node.cold.nursery
        return [] if nursery is None else list(nursery.children)
    return list(getattr(node, "children", ()))
