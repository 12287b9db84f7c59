"""Pools: several workers of one kind behind one reference, each message routed to one of them."""

from collections.abc import Awaitable, Callable, Hashable
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from callboard.runtime.actor import Actor
from callboard.runtime.cell import Cell
from callboard.runtime.errors import ActorStoppedError
from callboard.runtime.handlers import Handlers
from callboard.runtime.inbox import message_of
from callboard.runtime.message import Message
from callboard.runtime.ref import Ref
from callboard.runtime.supervisor import Intensity, Supervisor
from callboard.runtime.tree import DEFAULT, ChildSpec, Node, State, TreeNode

M = TypeVar("M", bound=Message | None)

Make = Callable[[], Actor[Any]]


class Route(StrEnum):
    """How a pool chooses among its workers."""

    ROUND_ROBIN = "round_robin"  # in turn
    LEAST_BUSY = "least_busy"  # the one with the fewest messages
    KEY = "key"  # by the message's key: those of one key stay in order, also through a resize


class Pool(Supervisor, Ref[M]):
    """A supervisor, one_for_one, of equal workers; told and asked like one actor."""

    __slots__ = ("_handlers", "_key", "_make", "_next", "_route", "_workers")

    def __init__(
        self,
        name: str,
        make: Make,
        handlers: Handlers,
        *,
        size: int,
        route: Route,
        key: Callable[[Any], Hashable] | None,
        intensity: Intensity,
        spec: ChildSpec,
    ) -> None:
        _check(name, size)
        if (key is not None) is not (route is Route.KEY):
            raise ValueError(f"pool {name} is routed by key if, and only if, it is given one")
        self._workers: list[Cell[M]] = [Cell(str(n), make, spec, handlers) for n in range(size)]
        super().__init__(name, self._workers, intensity=intensity, spec=spec)
        self._make = make
        self._handlers = handlers
        self._route = route
        self._key = key
        self._next = -1

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    def put(self, message: Any, item: Any, *, may_wait: bool = True) -> Awaitable[None]:
        """Put the message into the mailbox of the worker whose turn it is, or whose key it is."""
        if not self._workers:
            raise ActorStoppedError(self.path, message)
        return self._choose(message).put(message, item, may_wait=may_wait)

    def _choose(self, message: Any) -> Cell[M]:
        workers = self._workers
        if self._route is Route.ROUND_ROBIN or message.__class__ not in self._handlers.all:
            self._next = turn = (self._next + 1) % len(workers)
            return workers[turn]
        if self._key is not None:
            return workers[hash(self._key(message)) % len(workers)]
        return min(workers, key=Cell.busyness)

    async def resize(self, size: int) -> None:
        """Have `size` workers. Nothing is lost: what waits is spread anew over the workers there are then.

        With a key, a message waits until an earlier one of its key, which was in hand at the old worker, is done.
        Workers that are too many finish what they have in hand.
        """
        _check(self.name, size)
        workers = self._workers
        added: list[Cell[M]] = [Cell(str(n), self._make, self.spec, self._handlers) for n in range(len(workers), size)]
        for worker in added:
            await self.start_child(worker)
        surplus = workers[size:]
        self._workers = [*workers[:size], *added]
        self._spread(workers)
        for worker in surplus:
            await self.stop_child(worker)

    def _spread(self, before: list[Cell[M]]) -> None:
        """Give what waits at the old workers to those it belongs to now, each queue in its order, without a pause."""
        waiting = [(worker, worker.take_all()) for worker in before]
        for worker, items in waiting:
            in_hand = worker.item
            if self._key is not None and in_hand is not None:
                heir = self._choose(message_of(in_hand))
                if heir is not worker:
                    heir.wait_for(worker)
            for item in items:
                self._choose(message_of(item)).take_over(item)

    async def _let_go(self, child: Node, error: BaseException | None) -> None:
        """A worker that ended for good gives its slot back: what waited for it goes to the others."""
        if not isinstance(child, Cell) or len(self._workers) == 1 or child not in self._workers:
            await super()._let_go(child, error)
            return
        before, self._workers = self._workers, [each for each in self._workers if each is not child]
        self._spread(before)
        await self.stop_child(child)

    async def stop(self) -> None:
        """See Node.stop."""
        await super().stop()
        self._workers = [] if self.state is State.STOPPED else self._workers

    def dump(self) -> TreeNode:
        """The pool and its workers."""
        node = super().dump()
        return TreeNode(name=node.name, kind="pool", state=node.state, restarts=node.restarts, children=node.children)


def _check(name: str, size: int) -> None:
    if size < 1:
        raise ValueError(f"pool {name} has at least 1 worker, not {size}")


def worker(name: str, kind: Callable[..., Actor[M]], *args: Any, **spec: Any) -> Cell[M]:
    """An actor of class `kind`, or a partial of one, made with `args` at each start; `spec` holds fields of ChildSpec.

    The result is its reference, good before the start too, and its place in a supervisor.
    """
    make, handlers = _made(kind, args)
    return Cell(name, make, ChildSpec(**spec) if spec else DEFAULT, handlers)


def pool(
    name: str,
    kind: Callable[..., Actor[M]],
    *args: Any,
    size: int,
    key: Callable[[Any], Hashable] | None = None,
    route: Route | None = None,
    intensity: Intensity = Intensity(),  # noqa: B008 - immutable
    **spec: Any,
) -> Pool[M]:
    """A pool of `size` actors of class `kind`; `key` maps a message to what must stay in order."""
    make, handlers = _made(kind, args)
    way = route or (Route.ROUND_ROBIN if key is None else Route.KEY)
    return Pool(name, make, handlers, size=size, route=way, key=key, intensity=intensity, spec=ChildSpec(**spec))


def _made(kind: Any, args: tuple[Any, ...]) -> tuple[Make, Handlers]:
    cls = kind.func if isinstance(kind, partial) else kind
    if not (isinstance(cls, type) and issubclass(cls, Actor)):
        raise TypeError(f"a worker is made of an Actor class and its arguments, not of {kind!r}")
    return partial(kind, *args) if args else kind, cls.handlers
