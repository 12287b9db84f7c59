"""Pools: several workers of one kind behind one reference, each message routed to one of them."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Hashable
from enum import StrEnum
from functools import partial
from threading import get_ident
from typing import Any, TypeVar, Unpack

from callboard.runtime.actor.actor import Actor
from callboard.runtime.actor.envelope import message_of, timer_of
from callboard.runtime.actor.errors import ActorKilledError, ActorStoppedError, PoolStoppedError
from callboard.runtime.actor.events import Terminated
from callboard.runtime.actor.handlers import Handlers
from callboard.runtime.actor.mailbox import Counts
from callboard.runtime.actor.messages import Asked, Message
from callboard.runtime.actor.options import check_key
from callboard.runtime.actor.ref import ASK_TIMEOUT_S, Ref
from callboard.runtime.actor.spans import is_recorded
from callboard.runtime.dispatch import transfer
from callboard.runtime.dispatch.cell import Cell
from callboard.runtime.dispatch.child_spec import ChildOptions, ChildSpec, spec_of
from callboard.runtime.dispatch.concurrent import cell_of
from callboard.runtime.dispatch.mailbox_queue import total
from callboard.runtime.dispatch.node import GOING, RUNNING, STOPPED, Node, Parent, State
from callboard.runtime.supervision.elastic import Elasticity
from callboard.runtime.supervision.props import ActorFactory, Props, props_of
from callboard.runtime.supervision.supervisor import Intensity, Supervisor

M = TypeVar("M", bound=Message | None)
T = TypeVar("T")


class Route(StrEnum):
    """How a pool chooses among its workers."""

    ROUND_ROBIN = "round_robin"  # in turn
    LEAST_BUSY = "least_busy"  # the one with the fewest messages
    KEY = "key"  # by the message's key: those of one key stay in order, also through a resize


ROUND_ROBIN = Route.ROUND_ROBIN  # see node.NEW


class Pool(Supervisor, Ref[M]):
    """A supervisor, one_for_one, of equal workers; told and asked like one actor.

    `spec` is the workers', and the pool's own as a child. By key, a message goes to worker hash(key) % size: the same
    one within a process, but, as Python salts the hashes of text, not in another process.
    """

    kind = "pool"

    __slots__ = (
        "_handlers",
        "_key",
        "_leaving",
        "_make",
        "_next",
        "_resizing",
        "_route",
        "_workers",
        "elastic",
        "gone",
    )

    def __init__(
        self,
        name: str,
        make: ActorFactory,
        handlers: Handlers,
        *,
        size: int,
        route: Route,
        key: Callable[[Any], Hashable] | None,
        intensity: Intensity,
        spec: ChildSpec,
    ) -> None:
        _check(name, size)
        route = Route(route)
        if key is not None:
            check_key(name, key)
        if (key is not None) is not (route is Route.KEY):
            raise ValueError(f"pool {name} is routed by key if, and only if, it is given one")
        if key is not None and handlers.concurrency > 1:
            raise ValueError(f"pool {name} keeps the order of a key, and its actors run several handlers at once")
        self._workers: list[Cell[M]] = [cell_of(str(n), make, spec, handlers) for n in range(size)]
        super().__init__(name, self._workers, intensity=intensity, spec=spec)
        self._make = make
        self._handlers = handlers
        self._route = route
        self._key = key
        self._next = -1
        self._leaving: list[Cell[M]] = []  # workers that get no more messages and have one in hand
        self._resizing = asyncio.Lock()
        self.elastic: Elasticity | None = None  # for a PoolScaler
        self.gone = Counts()  # the fates of the messages of workers that have gone

    @property
    def size(self) -> int:
        """How many workers there are; one that has given its slot back and finishes its message is none of them."""
        return len(self._workers)

    @property
    def slots(self) -> int:
        """How many messages its workers can handle at once."""
        return len(self._workers) * self._handlers.concurrency

    @property
    def route(self) -> Route:
        """How a worker is chosen."""
        return self._route

    @route.setter
    def route(self, route: Route) -> None:
        route = Route(route)
        if (route is Route.KEY) is not (self._key is not None):
            raise ValueError(f"pool {self.name} is routed by key if, and only if, it was made with one")
        self._route = route

    def enqueue(self, message: Any, item: Any, *, may_wait: bool = True) -> Awaitable[None]:
        """Put the message into the mailbox of the worker whose turn it is, or whose key it is."""
        return self._receiver(message).enqueue(message, item, may_wait=may_wait)

    def tell(self, message: M) -> Awaitable[None]:
        """See Ref.tell."""
        return self._receiver(message).tell(message)

    def tell_nowait(self, message: M) -> None:
        """See Ref.tell_nowait."""
        self._receiver(message).tell_nowait(message)

    def ask(self, message: "Asked[M, T]", timeout_s: float = ASK_TIMEOUT_S) -> "asyncio.Future[T]":
        """See Ref.ask. One that is to be recorded, or is asked in a wrong thread, bears the pool's name."""
        scheduler = self.scheduler
        if scheduler is None or get_ident() != scheduler.deadlines.thread or is_recorded():
            return super().ask(message, timeout_s)
        return self._receiver(message).ask(message, timeout_s)

    def _receiver(self, message: Any) -> Cell[M]:
        if self.state is STOPPED:
            raise ActorStoppedError(self.path, message)
        return self._choose(message)

    def _choose(self, message: Any) -> Cell[M]:
        workers = self._workers
        if self._route is ROUND_ROBIN or message.__class__ not in self._handlers.all:
            self._next = turn = (self._next + 1) % len(workers)
            return workers[turn]
        if self._key is not None:
            return workers[hash(self._key(message)) % len(workers)]
        return min(workers, key=_burden)

    # Resizing --------------------------------------------------------------------------------------------------------

    async def resize(self, size: int) -> None:
        """Have `size` workers. Nothing is lost: what waits is spread anew over the workers there are then.

        With a key, a message waits until an earlier one of its key, which was in hand at the old worker, is done.
        Workers that are too many finish the message they have in hand, however long it takes; this waits for them
        `shutdown_s` at most. Resizes come one after the other, and a pool that is not running is resized too.

        Raises ValueError for less than 1, what a new worker's start hook raises (then nothing has changed), and
        PoolStoppedError.
        """
        _check(self.name, size)
        async with self._resizing:
            added = await self._grown(size - sum(worker.state is not State.STOPPED for worker in self._workers))
            before = self._workers
            alive = [worker for worker in (*before, *added) if worker.state is not State.STOPPED]
            self._workers = alive[:size]
            leaving = [worker for worker in (*before, *added) if worker not in self._workers]
            retiring = self._retire(before, leaving)
        if retiring:
            await asyncio.wait(retiring, timeout=self.spec.shutdown_s)

    async def _grown(self, count: int) -> list[Cell[M]]:
        """That many new workers, started if the pool is; all or none."""
        added: list[Cell[M]] = []
        try:
            while self.state not in GOING:
                if len(added) >= count:
                    return added
                name = next(each for each in map(str, itertools.count()) if each not in self._children)
                child: Cell[M] = cell_of(name, self._make, self.spec, self._handlers)
                if self.state is State.RUNNING:
                    await self.start_child(child)
                else:
                    self._add(child)  # it will be started with the pool
                    child.parent, child.scheduler = self, self.scheduler
                added.append(child)
        except BaseException as error:
            for child in added:
                await self._forget(child)
            if self.state in GOING and isinstance(error, ActorKilledError):
                raise PoolStoppedError(self.path) from None
            raise
        raise PoolStoppedError(self.path)

    def _retire(
        self, before: list[Cell[M]], leaving: list[Cell[M]], reason: BaseException | None = None
    ) -> list[asyncio.Task[None]]:
        """Give everything to whom it belongs now, without a pause, and let those that leave go their way."""
        self._leaving += leaving
        self._spread([*before, *(worker for worker in self._leaving if worker not in before)])
        if self.scheduler is None:  # not started, so there is nothing in hand
            for child in leaving:
                self._leaving.remove(child)
                del self._children[child.name]
            return []
        tasks = [self.scheduler.new_task(self._farewell(child, reason), f"{self.path}!") for child in leaving]
        for task in tasks:
            self._recovers(task)
        return tasks

    async def _farewell(self, child: Cell[M], reason: BaseException | None) -> None:
        """Stop a worker that leaves when its message in hand is done, or at once, if the reason is a crash."""
        if child.in_progress() and reason is None:
            done = asyncio.get_running_loop().create_future()
            child.cold_state.after_current.append(lambda: None if done.done() else done.set_result(None))
            await done
        await self._forget(child, reason)

    async def _forget(self, child: Cell[M], reason: BaseException | None = None) -> None:
        """Stop a worker for good, and keep only its counts."""
        if reason is None:
            await child.stop()
        else:
            await child.stop_after(reason)
        if self._children.get(child.name) is child:  # else it was forgotten before, and its name may be another's
            del self._children[child.name]
            self.gone = total(self.gone, child.counts())
        if child in self._leaving:
            self._leaving.remove(child)

    def _spread(self, before: list[Cell[M]]) -> None:
        """Give what waits at the old workers to those it belongs to now, each queue in its order, without a pause."""
        waiting = []
        for worker in before:
            apart = self._key is not None or worker not in self._workers
            stash = transfer.take_stash(worker) if apart else []
            waiting.append((worker, stash, transfer.take_all(worker), transfer.take_waiters(worker)))
            for item in worker.in_progress() if apart else ():
                self._follow(worker, item)
        for worker, stash, items, _ in waiting:
            for item in stash:
                owner = self._owner(item, worker)
                if owner is worker:
                    transfer.put_stash(worker, item)
                else:
                    transfer.accept_transferred(owner, item, worker)
            for item in items:
                transfer.accept_transferred(self._owner(item, worker), item, worker)
        for worker, _, _, waiters in waiting:
            for waiter in waiters:
                transfer.accept_waiter(self._owner(waiter[0], worker), waiter)

    def _follow(self, worker: Cell[M], item: Any) -> None:
        """See to it that what is in hand is done before its new owner, if it has one, begins anything."""
        owner = self._owner(item, worker)
        if owner is not worker:
            worker.cold_state.after_current.append(partial(self._settle, worker, item))
            if self._key is not None:
                transfer.hold_for(owner, worker)

    def _owner(self, item: Any, worker: Cell[M]) -> Cell[M]:
        """Return the worker that owns this item. Ticks, and what it told itself without a key, stay its own."""
        message = message_of(item)
        if timer_of(item) is not None or isinstance(message, Terminated):
            return worker
        try:
            owner = self._choose(message)
            return worker if owner.is_closed() else owner  # in a pool that stops, it has its fate where it is
        except Exception:  # noqa: BLE001 - the key function is the user's, and nothing may be lost by what it raises
            return worker

    def _settle(self, worker: Cell[M], item: Any) -> None:
        """Finish a message that was in progress while it changed its owner; the new owner handles any retry."""
        owner = self._owner(item, worker)
        again = None if owner is worker else transfer.take_back(worker, item)
        if again is not None:
            transfer.accept_transferred(owner, again, worker, first=True)

    # Life ------------------------------------------------------------------------------------------------------------

    async def start(self, parent: Parent) -> None:
        """See Node.start. A resize under way comes to its end first."""
        async with self._resizing:
            for child in list(self._leaving):
                await self._forget(child)
            await super().start(parent)

    async def _recover(self, child: Node, error: BaseException | None) -> None:
        """A worker that leaves anyway is not restarted."""
        if child in self._leaving:
            await child.halt()
        else:
            await super()._recover(child, error)

    async def _let_go(self, child: Node, error: BaseException | None) -> None:
        """A worker that ended for good gives its slot back: what waited for it goes to the others."""
        if not isinstance(child, Cell) or len(self._workers) == 1 or child not in self._workers:
            await child.stop_after(error)
            return
        before, self._workers = self._workers, [each for each in self._workers if each is not child]
        self._retire(before, [child], error)

    def adopt(self, spec: ChildSpec, intensity: Intensity) -> None:
        """Go on by another spec and intensity, at once, for the pool and its workers; nothing is restarted or lost."""
        self.spec = spec
        self.intensity = intensity
        for child in self.children:
            if isinstance(child, Cell):
                transfer.adopt(child, spec)

    # Watching --------------------------------------------------------------------------------------------------------

    def oldest_s(self) -> float:
        """For how long a message has waited behind one that takes its time, as far as that can be known."""
        now = None if self.scheduler is None else self.scheduler.time()
        waits = (
            each.since
            for each in self._workers
            if each.queue and (each.in_progress() or each.state is not State.RUNNING)
        )
        return 0.0 if now is None else max((now - since for since in waits), default=0.0)

    def counts(self) -> Counts:
        """The fates of all messages up to this instant, those of workers that have gone included."""
        return total(self.gone, *(child.counts() for child in self.children if isinstance(child, Cell)))

    def kill(self) -> None:
        """Kill each worker; the pool restarts them as after any crash."""
        for worker in self._workers:
            worker.kill()

    async def drain(self, grace_s: float) -> int:
        """See Ref.drain: no worker takes a message any more."""
        left = await asyncio.gather(*(worker.drain(grace_s) for worker in list(self._workers)))
        await self.stop()
        return sum(left)


def _burden(worker: Cell[Any]) -> tuple[bool, int]:
    """How busy a worker is; one that does not run, because it waits for its restart, is busier than any that does."""
    return worker.state is not RUNNING, transfer.load(worker)


def _check(name: str, size: int) -> None:
    if size < 1:
        raise ValueError(f"pool {name} has at least 1 worker, not {size}")


def worker(name: str, props: "Props[M] | Callable[[], Actor[M]]", **options: Unpack[ChildOptions]) -> Cell[M]:
    """An actor made of Props, or of a class that needs no arguments; options are fields of ChildSpec.

    The result is its reference, good before the start too, and its place in a supervisor.
    """
    recipe = props_of(props)
    return cell_of(name, recipe.make, spec_of(name, options), recipe.handlers)


def pool(
    name: str,
    props: "Props[M] | Callable[[], Actor[M]]",
    *,
    size: int,
    key: Callable[[Any], Hashable] | None = None,
    route: Route | None = None,
    intensity: Intensity = Intensity(),  # noqa: B008 - immutable
    **options: Unpack[ChildOptions],
) -> Pool[M]:
    """A pool of `size` actors made of Props; `key` maps a message to what must stay in order."""
    recipe = props_of(props)
    way = route or (Route.ROUND_ROBIN if key is None else Route.KEY)
    spec = spec_of(name, options)
    return Pool(name, recipe.make, recipe.handlers, size=size, route=way, key=key, intensity=intensity, spec=spec)
