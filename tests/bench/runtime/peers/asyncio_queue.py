"""What most write by hand: an asyncio.Queue and a task that reads it."""

import asyncio
from typing import Any

from jobs import ASKERS, CAPACITY, MEMBERS, SWEEPS, Add, Get, Hop, Stopwatch, until, working


class Reader:
    """A queue, and the total of what came through it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)
        self.total = 0
        self.next: Reader
        self.finished: asyncio.Future[None]

    async def add_up(self) -> None:
        while True:
            message = await self.queue.get()
            self.total += message.n

    async def answer(self) -> None:
        while True:
            message, reply = await self.queue.get()
            self.total += message.n
            reply.set_result(self.total)

    async def hand_on(self) -> None:
        while True:
            message = await self.queue.get()
            if message.left:
                await self.next.queue.put(Hop(message.left - 1))
            else:
                self.finished.set_result(None)

    async def ask(self) -> int:
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await self.queue.put((Get(1), reply))
        return await reply


class SuspendingReader(Reader):
    """Gives way once for each message, as a handler does that waits for a server."""

    async def add_up(self) -> None:
        while True:
            message = await self.queue.get()
            await asyncio.sleep(0)
            self.total += message.n

    async def answer(self) -> None:
        while True:
            message, reply = await self.queue.get()
            await asyncio.sleep(0)
            self.total += message.n
            reply.set_result(self.total)

    async def hand_on(self) -> None:
        while True:
            message = await self.queue.get()
            await asyncio.sleep(0)
            if message.left:
                await self.next.queue.put(Hop(message.left - 1))
            else:
                self.finished.set_result(None)


class AsyncioQueue:
    """See jobs.Peer."""

    reader: type[Reader] = Reader

    async def tell(self, size: int, watch: Stopwatch) -> None:
        reader = self.reader()
        put = reader.queue.put
        async with working(reader.add_up()):
            with watch:
                for _ in range(size):
                    await put(Add(1))
                await until(lambda: reader.total == size)

    async def ask(self, size: int, watch: Stopwatch) -> None:
        reader = self.reader()
        async with working(reader.answer()):
            with watch:
                for _ in range(size):
                    await reader.ask()
        assert reader.total == size

    async def in_flight(self, size: int, watch: Stopwatch) -> None:
        reader = self.reader()

        async def asker() -> None:
            for _ in range(size // ASKERS):
                await reader.ask()

        async with working(reader.answer()):
            with watch:
                await asyncio.gather(*(asker() for _ in range(ASKERS)))
        assert reader.total == size

    async def fan_out(self, size: int, watch: Stopwatch) -> None:
        readers = [self.reader() for _ in range(MEMBERS)]
        async with working(*(reader.add_up() for reader in readers)):
            with watch:
                for sweep in range(size // MEMBERS):
                    for reader in readers:
                        await reader.queue.put(Add(1))
                    if not sweep % SWEEPS:
                        await asyncio.sleep(0)
                await until(lambda: all(reader.total == size // MEMBERS for reader in readers))

    async def ring(self, size: int, watch: Stopwatch) -> None:
        readers = [self.reader() for _ in range(MEMBERS)]
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for reader, after in zip(readers, [*readers[1:], readers[0]], strict=True):
            reader.next, reader.finished = after, finished
        async with working(*(reader.hand_on() for reader in readers)):
            with watch:
                await readers[0].queue.put(Hop(size))
                await finished

    async def spawn(self, size: int, watch: Stopwatch) -> None:
        with watch:
            readers = [self.reader() for _ in range(size)]
            tasks = [asyncio.create_task(reader.add_up()) for reader in readers]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Suspending(AsyncioQueue):
    """The same, with a reader that suspends."""

    reader = SuspendingReader
