"""What arrives while a batch is processed is the next batch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from callboard.streams.gathering import Gathering


class Slow:
    """A process that goes on when it may."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.errors: list[Exception] = []
        self.may_go_on = asyncio.Semaphore(0)
        self.began = asyncio.Event()
        self.cancelled = False

    async def process(self, items: list[int]) -> None:
        self.batches.append(items)
        self.began.set()
        try:
            await self.may_go_on.acquire()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if 13 in items:
            raise ZeroDivisionError

    @asynccontextmanager
    async def gathering(self, limit: int = 100) -> AsyncIterator[Gathering[int]]:
        made = Gathering(self.process, size=abs, limit=limit, on_error=self.errors.append)
        yield made
        await made.close()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_arrives_during_a_call_is_one_call_and_in_order() -> None:
    slow = Slow()
    async with slow.gathering() as gathering:
        for item in (1, 2, 3):
            await gathering.add(item)
            await slow.began.wait()
        slow.may_go_on.release()
        await turns()
        assert slow.batches == [[1], [2, 3]]
        slow.may_go_on.release()
        await turns()
        await gathering.add(4)
        await turns()
        assert slow.batches == [[1], [2, 3], [4]]


async def test_what_waits_is_bounded_by_its_size() -> None:
    slow = Slow()
    async with slow.gathering(limit=50) as gathering:
        await gathering.add(1)
        await slow.began.wait()
        await gathering.add(49)
        adding = asyncio.create_task(gathering.add(1))
        await turns()
        assert not adding.done()
        slow.may_go_on.release()
        await asyncio.wait_for(adding, 10)
        assert slow.batches == [[1], [49, 1]]


async def test_an_error_is_told_and_nothing_more_is_processed() -> None:
    slow = Slow()
    async with slow.gathering() as gathering:
        await gathering.add(13)
        slow.may_go_on.release()
        await turns()
        await gathering.add(1)
        await turns()
    assert [type(error) for error in slow.errors] == [ZeroDivisionError]
    assert slow.batches == [[13]]


@pytest.mark.parametrize("items", [(), (1,), (1, 2)])
async def test_it_is_closed_at_any_moment(items: tuple[int, ...]) -> None:
    slow = Slow()
    async with slow.gathering() as gathering:
        for item in items:
            await gathering.add(item)
            await slow.began.wait()
    assert slow.cancelled is bool(items)
    assert slow.errors == []
