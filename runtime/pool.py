"""Pools: several workers of one kind behind one reference, each message routed to one of them."""

from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, TypeVar

from callboard.runtime.actor import Actor
from callboard.runtime.cell import Cell
from callboard.runtime.handlers import Handler
from callboard.runtime.message import Message
from callboard.runtime.ref import Ref
from callboard.runtime.supervisor import Intensity, Supervisor
from callboard.runtime.tree import ChildSpec, TreeNode

M = TypeVar("M", bound=Message | None)


class Pool(Supervisor, Ref[M]):
    """A supervisor, one_for_one, of equal workers; told and asked like one actor.

    With a `key`, messages of one key go to one worker, in order; without, workers take turns.
    """

    __slots__ = ("_key", "_next")

    def __init__(
        self,
        name: str,
        worker: ChildSpec,
        handlers: dict[type[Message], Handler],
        *,
        size: int,
        key: Callable[[Any], Hashable] | None,
        intensity: Intensity,
    ) -> None:
        if size < 1:
            raise ValueError(f"pool {name} has at least 1 worker, not {size}")
        workers: list[Cell[M]] = [Cell(str(n), worker, handlers) for n in range(size)]
        super().__init__(name, workers, intensity=intensity, spec=worker)
        self._key = key
        self._next = -1

    def put(self, message: Any, item: Any, *, may_wait: bool = True) -> Awaitable[None]:
        """Put the message into the mailbox of the worker whose turn it is, or whose key it is."""
        workers: list[Any] = self.children
        if self._key is not None and type(message) in workers[0].handlers:
            turn = hash(self._key(message)) % len(workers)
        else:
            turn = self._next = (self._next + 1) % len(workers)
        room: Awaitable[None] = workers[turn].put(message, item, may_wait=may_wait)
        return room

    def dump(self) -> TreeNode:
        """The pool and its workers."""
        node = super().dump()
        return TreeNode(name=node.name, kind="pool", state=node.state, restarts=node.restarts, children=node.children)


def worker(
    name: str,
    kind: Callable[..., Actor[M]],
    *args: Any,
    **spec: Any,
) -> Cell[M]:
    """An actor of class `kind`, or a partial of one, made with `args` at each start; `spec` holds fields of ChildSpec.

    The result is its reference, good before the start too, and its place in a supervisor.
    """
    return Cell(name, ChildSpec(start=lambda: kind(*args), **spec), _handlers(kind))


def pool(
    name: str,
    kind: Callable[..., Actor[M]],
    *args: Any,
    size: int,
    key: Callable[[Any], Hashable] | None = None,
    intensity: Intensity = Intensity(),  # noqa: B008 - immutable
    **spec: Any,
) -> Pool[M]:
    """A pool of `size` actors of class `kind`; `key` maps a message to what must stay in order."""
    child = ChildSpec(start=lambda: kind(*args), **spec)
    return Pool(name, child, _handlers(kind), size=size, key=key, intensity=intensity)


def _handlers(kind: Any) -> dict[type[Message], Handler]:
    kind = kind.func if isinstance(kind, partial) else kind
    if not (isinstance(kind, type) and issubclass(kind, Actor)):
        raise TypeError(f"a worker is made of an Actor class and its arguments, not of {kind!r}")
    return kind.handlers
