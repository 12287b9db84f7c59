"""callboard.runtime as everyone uses it: supervised, bounded, counted, every ask with its deadline.

Product is as the product runs: handlers are coroutines, and messages have a trace. Suspending gives way in each
handler. Plain has plain handlers and no trace; Traced and Asynchronous have one of both.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

from jobs import ASKERS, CAPACITY, MEMBERS, SWEEPS, Stopwatch, until

from callboard.runtime import (
    Actor,
    Cell,
    Context,
    Mailbox,
    Message,
    Props,
    Request,
    System,
    on,
    supervisor,
    use_context,
    worker,
)

TRACE = Context("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
assert Mailbox().capacity == CAPACITY  # what an actor has by default is what the peers are given


class Add(Message, frozen=True, gc=False):
    """As jobs.Add."""

    n: int


class Get(Request[int], frozen=True, gc=False):
    """As jobs.Get."""

    n: int


class Hop(Message, frozen=True, gc=False):
    """As jobs.Hop."""

    left: int


class Counter(Actor[Add | Get | Hop]):
    """`made` collects the actors themselves, so that a job can see what they got without asking."""

    __slots__ = ("finished", "next", "total")

    def __init__(self, made: list["Counter"] | None = None) -> None:
        if made is not None:
            made.append(self)
        self.total = 0
        self.next: Cell[Any]
        self.finished: asyncio.Future[None]

    @on(Add)
    def add(self, message: Add) -> None:
        self.total += message.n

    @on(Get)
    def get(self, message: Get) -> int:
        self.total += message.n
        return self.total

    @on(Hop)
    def hop(self, message: Hop) -> None:
        if message.left:
            self.next.tell_nowait(Hop(message.left - 1))
        else:
            self.finished.set_result(None)


class AsyncCounter(Counter):
    """The same with coroutines."""

    __slots__ = ()

    @on(Add)
    async def add(self, message: Add) -> None:
        self.total += message.n

    @on(Get)
    async def get(self, message: Get) -> int:
        self.total += message.n
        return self.total

    @on(Hop)
    async def hop(self, message: Hop) -> None:
        if message.left:
            await self.next.tell(Hop(message.left - 1))
        else:
            self.finished.set_result(None)


class SuspendingCounter(Counter):
    """The same with coroutines that give way once, as one does that waits for a server."""

    __slots__ = ()

    @on(Add)
    async def add(self, message: Add) -> None:
        await asyncio.sleep(0)
        self.total += message.n

    @on(Get)
    async def get(self, message: Get) -> int:
        await asyncio.sleep(0)
        self.total += message.n
        return self.total

    @on(Hop)
    async def hop(self, message: Hop) -> None:
        await asyncio.sleep(0)
        if message.left:
            await self.next.tell(Hop(message.left - 1))
        else:
            self.finished.set_result(None)


class Plain:
    """See jobs.Peer."""

    kind: type[Counter] = Counter
    context: Callable[[], AbstractContextManager[None]] = nullcontext

    @asynccontextmanager
    async def counters(self, count: int) -> AsyncIterator[tuple[list[Cell[Any]], list[Counter]]]:
        """A running tree of so many; nothing that they have accepted may be without its fate at the end."""
        made: list[Counter] = []
        refs: list[Cell[Any]] = [worker(str(n), Props(self.kind, made)) for n in range(count)]
        async with System(supervisor("root", *refs)):
            yield refs, made
            counts = [ref.tally() for ref in refs]
        assert all(each.accepted == each.handled for each in counts)

    async def tell(self, size: int, watch: Stopwatch) -> None:
        async with self.counters(1) as ((ref,), (actor,)):
            with watch, self.context():
                for _ in range(size):
                    await ref.tell(Add(1))
                await until(lambda: actor.total == size)

    async def ask(self, size: int, watch: Stopwatch) -> None:
        async with self.counters(1) as ((ref,), (actor,)):
            with watch, self.context():
                for _ in range(size):
                    await ref.ask(Get(1))
            assert actor.total == size

    async def in_flight(self, size: int, watch: Stopwatch) -> None:
        async with self.counters(1) as ((ref,), (actor,)):

            async def asker() -> None:
                for _ in range(size // ASKERS):
                    await ref.ask(Get(1))

            with watch, self.context():
                await asyncio.gather(*(asker() for _ in range(ASKERS)))
            assert actor.total == size

    async def fan_out(self, size: int, watch: Stopwatch) -> None:
        async with self.counters(MEMBERS) as (refs, actors):
            with watch, self.context():
                for sweep in range(size // MEMBERS):
                    for ref in refs:
                        await ref.tell(Add(1))
                    if not sweep % SWEEPS:
                        await asyncio.sleep(0)
                await until(lambda: all(actor.total == size // MEMBERS for actor in actors))

    async def ring(self, size: int, watch: Stopwatch) -> None:
        async with self.counters(MEMBERS) as (refs, actors):
            finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            for actor, after in zip(actors, [*refs[1:], refs[0]], strict=True):
                actor.next, actor.finished = after, finished
            with watch, self.context():
                await refs[0].tell(Hop(size))
                await finished
            await asyncio.sleep(0)  # the last one's handler has returned, and is counted

    async def spawn(self, size: int, watch: Stopwatch) -> None:
        root = supervisor("root")
        async with System(root):
            with watch:
                for n in range(size):
                    await root.start_child(worker(str(n), self.kind))
            assert len(root.children) == size


class Traced(Plain):
    """Every message is told or asked under a trace context."""

    def context(self) -> AbstractContextManager[None]:
        return use_context(TRACE)


class Asynchronous(Plain):
    """Every handler is a coroutine."""

    kind = AsyncCounter


class Product(Asynchronous):
    """Both, as the product runs: every handler is a coroutine, and every message has a trace."""

    def context(self) -> AbstractContextManager[None]:
        return use_context(TRACE)


class Suspending(Product):
    """The same, with handlers that suspend, as all do that talk to a server."""

    kind = SuspendingCounter
