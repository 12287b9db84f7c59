"""The limit: a deque, a future to sleep on, and one loop for each job. No bounds, no errors, no types: no actor."""

import asyncio
from collections import deque
from typing import Any

from jobs import ASKERS, CAPACITY, MEMBERS, SWEEPS, Add, Get, Hop, Stopwatch, until, working


class Box:
    """A mailbox, and what its consumer knows."""

    __slots__ = ("asleep", "finished", "loop", "next", "queue", "total")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: deque[Any] = deque()
        self.asleep: asyncio.Future[None] | None = None
        self.total = 0
        self.next: Box
        self.finished: asyncio.Future[None]

    def put(self, item: Any) -> None:
        self.queue.append(item)
        if self.asleep is not None:
            asleep, self.asleep = self.asleep, None
            asleep.set_result(None)

    async def add_up(self) -> None:
        queue, pop = self.queue, self.queue.popleft
        while True:
            while queue:
                self.total += pop().n
            self.asleep = self.loop.create_future()
            await self.asleep

    async def answer(self) -> None:
        queue, pop = self.queue, self.queue.popleft
        while True:
            while queue:
                message, reply = pop()
                self.total += message.n
                reply.set_result(self.total)
            self.asleep = self.loop.create_future()
            await self.asleep

    async def hand_on(self) -> None:
        queue, pop = self.queue, self.queue.popleft
        while True:
            while queue:
                left = pop().left
                if left:
                    self.next.put(Hop(left - 1))
                else:
                    self.finished.set_result(None)
            self.asleep = self.loop.create_future()
            await self.asleep


class Raw:
    """See jobs.Peer."""

    async def tell(self, size: int, watch: Stopwatch) -> None:
        box = Box()
        async with working(box.add_up()):
            with watch:
                for n in range(size):
                    box.put(Add(1))
                    if not n % CAPACITY:
                        await asyncio.sleep(0)
                await until(lambda: box.total == size)

    async def ask(self, size: int, watch: Stopwatch) -> None:
        box = Box()
        async with working(box.answer()):
            with watch:
                for _ in range(size):
                    reply = box.loop.create_future()
                    box.put((Get(1), reply))
                    await reply
        assert box.total == size

    async def in_flight(self, size: int, watch: Stopwatch) -> None:
        box = Box()

        async def asker() -> None:
            for _ in range(size // ASKERS):
                reply = box.loop.create_future()
                box.put((Get(1), reply))
                await reply

        async with working(box.answer()):
            with watch:
                await asyncio.gather(*(asker() for _ in range(ASKERS)))
        assert box.total == size

    async def fan_out(self, size: int, watch: Stopwatch) -> None:
        boxes = [Box() for _ in range(MEMBERS)]
        async with working(*(box.add_up() for box in boxes)):
            with watch:
                for sweep in range(size // MEMBERS):
                    for box in boxes:
                        box.put(Add(1))
                    if not sweep % SWEEPS:
                        await asyncio.sleep(0)
                await until(lambda: all(box.total == size // MEMBERS for box in boxes))

    async def ring(self, size: int, watch: Stopwatch) -> None:
        boxes = [Box() for _ in range(MEMBERS)]
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for box, after in zip(boxes, [*boxes[1:], boxes[0]], strict=True):
            box.next, box.finished = after, finished
        async with working(*(box.hand_on() for box in boxes)):
            with watch:
                boxes[0].put(Hop(size))
                await finished

    async def spawn(self, size: int, watch: Stopwatch) -> None:
        with watch:
            boxes = [Box() for _ in range(size)]
            tasks = [asyncio.create_task(box.add_up()) for box in boxes]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert all(box.asleep for box in boxes)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
