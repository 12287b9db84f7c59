"""One of the entities: a key, its actor, and where that is between coming and going."""

from collections.abc import Hashable
from enum import Enum, auto
from typing import Any

from callboard.runtime.dispatch.cell import Cell


class Phase(Enum):
    """Where an entity is in its life; only one that is awake or leaving has a place among `limit`."""

    WAITING = auto()  # it has messages and no incarnation: for want of a place, or because nothing runs
    AWAKE = auto()
    LEAVING = auto()  # its incarnation ends, and messages wait for the next one


class Entity:
    """One key's actor. `used_at` is when it was last seen to have work, `told` how many messages came by its key, and
    `others` how many came otherwise, from itself mostly, when it was last looked at.
    """

    __slots__ = ("cell", "key", "others", "phase", "told", "used_at")

    def __init__(self, key: Hashable, cell: Cell[Any]) -> None:
        self.key = key
        self.cell = cell
        self.phase = Phase.WAITING
        self.used_at = 0.0
        self.told = 0
        self.others = 0
