"""anyio's memory object streams, one a mailbox, each read by a task of one task group."""

import asyncio
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from jobs import ASKERS, CAPACITY, MEMBERS, Add, Get, Hop, Stopwatch, until


class Reader:
    """A stream, and the total of what came through it."""

    def __init__(self) -> None:
        ends = anyio.create_memory_object_stream[Any](CAPACITY)
        self.sender: MemoryObjectSendStream[Any] = ends[0]
        self.receiver: MemoryObjectReceiveStream[Any] = ends[1]
        self.total = 0
        self.next: Reader
        self.finished: anyio.Event

    async def add_up(self) -> None:
        async for message in self.receiver:
            self.total += message.n

    async def answer(self) -> None:
        async for message, answered, replies in self.receiver:
            self.total += message.n
            replies.append(self.total)
            answered.set()

    async def hand_on(self) -> None:
        async for message in self.receiver:
            if message.left:
                await self.next.sender.send(Hop(message.left - 1))
            else:
                self.finished.set()

    async def ask(self) -> int:
        answered = anyio.Event()
        replies: list[int] = []
        await self.sender.send((Get(1), answered, replies))
        await answered.wait()
        return replies[0]


class AnyioStream:
    """See jobs.Peer."""

    async def tell(self, size: int, watch: Stopwatch) -> None:
        reader = Reader()
        async with anyio.create_task_group() as group:
            group.start_soon(reader.add_up)
            await asyncio.sleep(0)
            with watch:
                for _ in range(size):
                    await reader.sender.send(Add(1))
                await until(lambda: reader.total == size)
            group.cancel_scope.cancel()

    async def ask(self, size: int, watch: Stopwatch) -> None:
        reader = Reader()
        async with anyio.create_task_group() as group:
            group.start_soon(reader.answer)
            await asyncio.sleep(0)
            with watch:
                for _ in range(size):
                    await reader.ask()
            group.cancel_scope.cancel()
        assert reader.total == size

    async def in_flight(self, size: int, watch: Stopwatch) -> None:
        reader = Reader()

        async def asker() -> None:
            for _ in range(size // ASKERS):
                await reader.ask()

        async with anyio.create_task_group() as group:
            group.start_soon(reader.answer)
            await asyncio.sleep(0)
            with watch:
                async with anyio.create_task_group() as askers:
                    for _ in range(ASKERS):
                        askers.start_soon(asker)
            group.cancel_scope.cancel()
        assert reader.total == size

    async def fan_out(self, size: int, watch: Stopwatch) -> None:
        readers = [Reader() for _ in range(MEMBERS)]
        async with anyio.create_task_group() as group:
            for reader in readers:
                group.start_soon(reader.add_up)
            await asyncio.sleep(0)
            with watch:
                for _ in range(size // MEMBERS):
                    for reader in readers:
                        await reader.sender.send(Add(1))
                await until(lambda: all(reader.total == size // MEMBERS for reader in readers))
            group.cancel_scope.cancel()

    async def ring(self, size: int, watch: Stopwatch) -> None:
        readers = [Reader() for _ in range(MEMBERS)]
        finished = anyio.Event()
        async with anyio.create_task_group() as group:
            for reader, after in zip(readers, [*readers[1:], readers[0]], strict=True):
                reader.next, reader.finished = after, finished
                group.start_soon(reader.hand_on)
            await asyncio.sleep(0)
            with watch:
                await readers[0].sender.send(Hop(size))
                await finished.wait()
            group.cancel_scope.cancel()

    async def spawn(self, size: int, watch: Stopwatch) -> None:
        async with anyio.create_task_group() as group:
            with watch:
                readers = [Reader() for _ in range(size)]
                for reader in readers:
                    group.start_soon(reader.add_up)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            group.cancel_scope.cancel()
