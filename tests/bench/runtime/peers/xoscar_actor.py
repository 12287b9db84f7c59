"""xoscar: actors behind references that find them through a pool, here in one process."""

import asyncio
from typing import Any

import xoscar  # type: ignore[import-untyped, import-not-found, unused-ignore]  # it ships no types
from jobs import ASKERS, MEMBERS, Add, Get, Hop, Stopwatch


class Counter(xoscar.Actor):  # type: ignore[misc]  # the same
    """The handlers are its methods; `next` is a reference."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.finished = False
        self.next: Any = None

    def add(self, message: Add) -> None:
        self.total += message.n

    def get(self, message: Get) -> int:
        self.total += message.n
        return self.total

    def meet(self, after: Any) -> None:
        self.next = after

    async def hop(self, message: Hop) -> None:
        if message.left:
            await self.next.hop.tell(Hop(message.left - 1))
        else:
            self.finished = True

    def is_finished(self) -> bool:
        return self.finished

    def value(self) -> int:
        return self.total


class Xoscar:
    """See jobs.Peer."""

    def __init__(self) -> None:
        self.pool: Any = None

    async def counters(self, count: int) -> list[Any]:
        if self.pool is None:
            self.pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
        return [await xoscar.create_actor(Counter, address=self.pool.external_address) for _ in range(count)]

    async def tell(self, size: int, watch: Stopwatch) -> None:
        (counter,) = await self.counters(1)
        with watch:
            for _ in range(size):
                await counter.add.tell(Add(1))
            while await counter.value() < size:
                pass

    async def ask(self, size: int, watch: Stopwatch) -> None:
        (counter,) = await self.counters(1)
        with watch:
            for _ in range(size):
                await counter.get(Get(1))
        assert await counter.value() == size

    async def in_flight(self, size: int, watch: Stopwatch) -> None:
        (counter,) = await self.counters(1)

        async def asker() -> None:
            for _ in range(size // ASKERS):
                await counter.get(Get(1))

        with watch:
            await asyncio.gather(*(asker() for _ in range(ASKERS)))
        assert await counter.value() == size

    async def fan_out(self, size: int, watch: Stopwatch) -> None:
        counters = await self.counters(MEMBERS)
        with watch:
            for _ in range(size // MEMBERS):
                for counter in counters:
                    await counter.add.tell(Add(1))
            for counter in counters:
                while await counter.value() < size // MEMBERS:
                    pass

    async def ring(self, size: int, watch: Stopwatch) -> None:
        counters = await self.counters(MEMBERS)
        for counter, after in zip(counters, [*counters[1:], counters[0]], strict=True):
            await counter.meet(after)
        last = counters[size % MEMBERS]
        with watch:
            await counters[0].hop.tell(Hop(size))
            while not await last.is_finished():  # noqa: ASYNC110 - what it calls has no signals
                await asyncio.sleep(0.001)

    async def spawn(self, size: int, watch: Stopwatch) -> None:
        await self.counters(1)  # the pool
        with watch:
            _counters = await self.counters(size)
