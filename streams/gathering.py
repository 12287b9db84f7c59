"""Gathering: what arrives while earlier things are processed is processed next, all together.

A slow process so gets fewer and larger batches, and nothing waits longer than for the batch before its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathering(Generic[T]):
    """Calls `process` with all that was added since its last call, in order, one call at a time.

    `limit` bounds the size of what waits. The error of a call ends it, and goes to `on_error`.
    """

    def __init__(
        self,
        process: Callable[[list[T]], Awaitable[None]],
        *,
        size: Callable[[T], int],
        limit: int,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._process = process
        self._size_of = size
        self._limit = limit
        self._on_error = on_error
        self._waiting: list[T] = []
        self._size = 0
        self._arrived = asyncio.Event()
        self._has_room = asyncio.Event()
        self._working = asyncio.create_task(self._work())

    async def add(self, item: T) -> None:
        """Add an item; return when there is room for the next one."""
        self._waiting.append(item)
        self._size += self._size_of(item)
        self._arrived.set()
        if self._size >= self._limit:
            self._has_room.clear()
            await self._has_room.wait()

    async def close(self) -> None:
        """Cancel the call that runs, and drop what waits."""
        self._working.cancel()
        await asyncio.wait({self._working})

    async def _work(self) -> None:
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                items, self._waiting, self._size = self._waiting, [], 0
                self._has_room.set()
                await self._process(items)
        except Exception as error:  # noqa: BLE001 - whatever it is, its owner decides
            self._on_error(error)
