"""A resize among other things that happen to a pool: another resize, a start, a stop, a crash."""

import asyncio
from functools import partial

import pytest
from kit.recorder import Note, Recorder, Wait
from kit.shelves import Put, Seen, Shelf, key_of, settled, shelves

from callboard.runtime import (
    Actor,
    ActorStoppedError,
    Counts,
    Intensity,
    PoolStoppedError,
    System,
    on,
    pool,
    supervisor,
)


async def test_resizes_at_the_same_time_come_one_after_the_other() -> None:
    seen = Seen()
    crowd = shelves(seen, 2, key=key_of)
    crowd._make = partial(Shelf, seen, 1.0)
    async with System(supervisor("root", crowd)):
        for n in range(50):
            await crowd.tell(Put(f"k{n % 5}", n, 0.3))
        await asyncio.gather(*(crowd.resize(size) for size in (8, 3, 6, 1, 4)))
        assert crowd.size == 4
        await settled(crowd, 50)
        assert len(crowd.children) == 4
    assert seen.by_key == {f"k{key}": list(range(key, 50, 5)) for key in range(5)}


async def test_a_resize_to_the_same_size_starts_and_stops_nobody() -> None:
    seen = Seen()
    crowd = shelves(seen, 3)
    async with System(supervisor("root", crowd)):
        before = crowd.children
        await crowd.resize(3)
        assert crowd.children == before
        assert (seen.started, seen.stopped) == (3, 0)
        with pytest.raises(ValueError, match="pool s has at least 1 worker, not 0"):
            await crowd.resize(0)


async def test_a_pool_that_is_not_started_is_resized_and_its_messages_spread() -> None:
    seen = Seen()
    crowd = shelves(seen, 3, key=key_of)
    for n in range(30):
        crowd.tell_nowait(Put(f"k{n % 5}", n))
    await crowd.resize(1)
    await crowd.resize(6)
    async with System(supervisor("root", crowd)):
        assert len(crowd.children) == crowd.size == 6
        await settled(crowd, 30)
    assert seen.by_key == {f"k{key}": list(range(key, 30, 5)) for key in range(5)}


async def test_a_stopped_pool_is_not_resized_and_takes_no_messages() -> None:
    seen = Seen()
    crowd = shelves(seen, 2)
    async with System(supervisor("root", crowd)):
        await crowd.tell(Put("a", 1))
    with pytest.raises(PoolStoppedError, match="root/s has stopped and cannot be resized"):
        await crowd.resize(3)
    with pytest.raises(PoolStoppedError):
        await crowd.resize(1)
    with pytest.raises(ActorStoppedError, match="root/s has stopped"):
        crowd.tell_nowait(Put("a", 1))
    assert crowd.tally().accepted == 1


async def test_a_pool_that_stops_while_it_grows_leaves_nobody_behind() -> None:
    seen = Seen()
    crowd = shelves(seen, 2)
    crowd._make = partial(Shelf, seen, 5.0)
    async with System(supervisor("root", crowd)):
        growing = asyncio.ensure_future(crowd.resize(4))
        await asyncio.sleep(7)  # the third is there, the fourth is starting
    with pytest.raises(PoolStoppedError):
        await growing
    await asyncio.sleep(100)
    assert seen.started - seen.stopped in (0, -1)  # a start that is given up has its on_stop too
    assert all(node.state == "stopped" for node in crowd.dump().children)


async def test_a_worker_that_cannot_start_fails_the_resize_and_nothing_has_changed() -> None:
    class Picky(Recorder):
        async def on_start(self) -> None:
            if len(made) == 3:
                raise OSError("no more")
            made.append(1)

    made: list[int] = []
    crowd = pool("p", Picky, size=2)
    async with System(supervisor("root", crowd)):
        with pytest.raises(OSError, match="no more"):
            await crowd.resize(5)
        assert (crowd.size, [node.name for node in crowd.children]) == (2, ["0", "1"])
        made.clear()
        await crowd.resize(3)
        assert crowd.size == 3


async def test_a_resize_that_is_cancelled_has_changed_nothing() -> None:
    seen = Seen()
    crowd = shelves(seen, 1)
    crowd._make = partial(Shelf, seen, 5.0)
    async with System(supervisor("root", crowd)):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(crowd.resize(3), 7)
        assert (crowd.size, len(crowd.children)) == (1, 1)
        await crowd.resize(2)
        assert crowd.size == 2


async def test_a_pool_that_is_restarted_during_a_resize_keeps_what_waits() -> None:
    seen = Seen()
    crowd = shelves(seen, 3, key=key_of, intensity=Intensity(0))
    async with System(supervisor("root", crowd)):
        await crowd.tell(Put("a", 0, 2.0))
        await crowd.tell(Put("b", 0, 1.0, 1))  # its crash is one too many for the pool
        for n in range(1, 20):
            await crowd.tell(Put(f"k{n % 5}", n, 0.5))
        await asyncio.sleep(0.5)
        crowd._make = partial(Shelf, seen, 1.0)
        await crowd.resize(2)
        await crowd.resize(4)
        await settled(crowd, 21)
        assert len(crowd.children) == 4
    assert {key: sorted(numbers) for key, numbers in seen.by_key.items() if key[0] == "k"} == {
        f"k{key}": [n for n in range(1, 20) if n % 5 == key] for key in range(5)
    }
    assert seen.started <= seen.stopped


async def test_one_object_that_is_told_and_stashed_twice_is_two_messages_to_a_resize() -> None:
    class Patient(Actor[Wait | Note]):
        @on(Wait)
        async def take(self, message: Wait) -> None:
            if not freed:
                self.stash(message)
            await asyncio.sleep(message.seconds)

        @on(Note)
        def free(self, _message: Note) -> None:
            freed.append(1)
            self.unstash()

    freed: list[int] = []
    crowd = pool("p", Patient, size=1, key=lambda message: message.text)
    async with System(supervisor("root", crowd)):
        twice = Wait(3, "k")
        await crowd.tell(twice)
        await crowd.tell(twice)
        await asyncio.sleep(4)  # the second is stashed, and its handler runs on
        await crowd.resize(4)
        await asyncio.sleep(9)
        assert crowd.counts() == Counts(pending=2)
        for one in crowd.children:
            one.tell_nowait(Note("free"))
        await asyncio.sleep(9)
        assert crowd.counts() == Counts(handled=6)
