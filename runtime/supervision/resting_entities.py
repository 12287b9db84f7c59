"""Which entity leaves first when places are wanted: the one used longest ago of those that have nothing to do."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from callboard.runtime.dispatch import transfer
from callboard.runtime.supervision.entity import Entity, Phase


class RestingEntities:
    """To look at all entities is dear. Once all were busy, each says when it has nothing to do, and while places are
    wanted the first to say so leaves first.
    """

    __slots__ = ("_found", "_queue")

    def __init__(self, found: Callable[[], None]) -> None:
        self._found = found  # called when one that was busy has nothing to do
        self._queue: deque[Entity] | None = None  # None: all may be looked at

    def take(self, entities: Iterable[Entity]) -> Entity | None:
        """Return one that may leave; None when all of `entities`, least recently used first, are busy."""
        while self._queue is not None:
            if not self._queue:
                return None
            entity = self._queue.popleft()
            if _is_resting(entity):
                return entity
            self.mind(entity)
        first = next(filter(_is_resting, entities), None)
        if first is None:
            self._queue = deque()
            for entity in entities:
                self.mind(entity)
        return first

    def mind(self, entity: Entity) -> None:
        """Take note when an entity has nothing to do, if that is wanted."""
        if self._queue is None or entity.phase is not Phase.AWAKE:
            return
        if transfer.is_idle(entity.cell):
            self._has_rest(entity)
        else:
            transfer.when_idle(entity.cell, partial(self._has_rest, entity))

    def clear(self) -> None:
        """Forget them: no place is wanted."""
        self._queue = None

    def _has_rest(self, entity: Entity) -> None:
        if self._queue is not None:
            self._queue.append(entity)
            self._found()


def _is_resting(entity: Entity) -> bool:
    return entity.phase is Phase.AWAKE and transfer.is_idle(entity.cell)
