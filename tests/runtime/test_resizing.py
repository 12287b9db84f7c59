"""A resize of a pool: no message is lost, and those of one key keep their order."""

import asyncio
import random
from typing import Any

import pytest
from kit.recorder import Note, Recorder
from kit.shelves import Ask, Free, Hold, Put, Seen, key_of, settled, shelves

from callboard.runtime import (
    Actor,
    Backoff,
    Mailbox,
    Retry,
    Route,
    System,
    Terminated,
    on,
    pool,
    supervisor,
    worker,
)


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
async def test_resizing_2_to_8_to_3_under_load_loses_nothing(seed: int, keyed: bool) -> None:
    """Plain and asynchronous handlers, crashes that are tried again and crashes that are not, asks, full mailboxes."""
    rng = random.Random(seed)  # noqa: S311 - a schedule
    seen = Seen(ordered=keyed)
    options: dict[str, Any] = {"key": key_of} if keyed else {"route": rng.choice((None, Route.LEAST_BUSY))}
    mailbox = Mailbox(rng.choice((1, 3, 1024)))
    crowd = shelves(seen, 2, mailbox=mailbox, retry=Retry(1), backoff=Backoff(rng.choice((0, 0.3))), **options)
    sent: dict[str, list[int]] = {}
    asks: list[asyncio.Future[int]] = []
    accepted = 0

    async def send(name: str) -> None:
        nonlocal accepted
        for n in range(100):
            key = f"{name}{n % 3}"
            seconds = rng.choice((0, 0, 0.01, 0.5))
            if seconds and rng.random() < 0.3:
                asks.append(crowd.ask(Ask(key, n, seconds), timeout_s=10_000))
                if len(asks) % 5 == 0:
                    await asyncio.wait(asks[-1:])
            else:
                await crowd.tell(Put(key, n, seconds, rng.random() < 0.1))
            accepted += 1
            sent.setdefault(key, []).append(n)
            await asyncio.sleep(rng.choice((0, 0, 0.05)))

    async with System(supervisor("root", crowd), rng=rng):
        senders = [asyncio.ensure_future(send(f"s{n}")) for n in range(4)]
        for size in (8, 3, *(rng.randrange(1, 9) for _ in range(6)), 8, 3):
            await asyncio.sleep(rng.choice((0, 0.2, 1)))
            await crowd.resize(size)
            assert crowd.size == size
        await asyncio.gather(*senders)
        await asyncio.gather(*asks)
        await settled(crowd, accepted)
        assert len(crowd.children) == 3
    counts = crowd.tally()
    assert (counts.handled, counts.failed, counts.dead_lettered) == (400, 0, 0)
    assert accepted == 400
    assert seen.count == 400
    ordered = seen.by_key if keyed else {key: sorted(numbers) for key, numbers in seen.by_key.items()}
    assert ordered == sent
    assert seen.started == seen.stopped


async def test_keyed_order_holds_through_a_resize() -> None:
    seen = Seen()
    crowd = shelves(seen, 1, key=key_of)
    async with System(supervisor("root", crowd)):
        for n in range(10):
            await crowd.tell(Put("a", n, 5.0 if n == 0 else 0.0))
            await crowd.tell(Put("b", n))
        await asyncio.sleep(1)
        for size in (2, 3, 4, 5, 6, 7, 8, 3, 1, 2):  # "a" has one in hand at the first worker all the time
            await crowd.resize(size)
            assert seen.by_key.get("a") is None
        await settled(crowd, 20)
    assert seen.by_key == {"a": list(range(10)), "b": list(range(10))}


async def test_a_message_that_is_tried_again_stays_before_those_of_its_key_when_its_key_moves() -> None:
    for size in (2, 3, 5, 7):
        seen = Seen()
        crowd = shelves(seen, 1, key=key_of, retry=Retry(2))
        async with System(supervisor("root", crowd)):
            for key in "abcd":
                await crowd.tell(Put(key, 0, 1.0, 1))
                await crowd.tell(Put(key, 1))
            await asyncio.sleep(0.5)
            await crowd.resize(size)
            await crowd.tell(Put("a", 2))
            await settled(crowd, 9)
        assert seen.by_key == {"a": [0, 1, 2], "b": [0, 1], "c": [0, 1], "d": [0, 1]}


async def test_a_resize_gives_no_message_more_tries_than_it_has() -> None:
    seen = Seen()
    crowd = shelves(seen, 1, retry=Retry(3), backoff=Backoff(initial_s=1, factor=1))
    async with System(supervisor("root", crowd)):
        await crowd.tell(Put("a", 0, crashes=100))
        for n in range(2, 9):
            await asyncio.sleep(0.6)
            await crowd.resize(1 + n % 2)
        await settled(crowd, 1)
    assert seen.crashed["a", 0] == 4
    assert crowd.tally().dead_lettered == 1


async def test_a_surplus_worker_finishes_its_message_however_long_that_takes() -> None:
    seen = Seen()
    crowd = shelves(seen, 3, shutdown_s=2.0)
    async with System(supervisor("root", crowd)):
        asks = [crowd.ask(Ask("a" * (n + 1), n, 60.0), timeout_s=100) for n in range(3)]
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await crowd.resize(1)
        assert asyncio.get_running_loop().time() - began == pytest.approx(2)
        assert (crowd.size, len(crowd.children)) == (1, 3)
        await crowd.resize(2)  # the one that leaves has its name still
        assert [node.name for node in crowd.children] == ["0", "1", "2", "3"]
        assert await asyncio.gather(*asks) == [0, 1, 2]
        await asyncio.sleep(1)
        assert [node.name for node in crowd.children] == ["0", "3"]
        assert (crowd.tally().handled, crowd.dump().counts and crowd.dump().counts.handled) == (3, 2)


async def test_a_stop_does_not_wait_longer_for_a_surplus_worker_than_for_another() -> None:
    seen = Seen()
    crowd = shelves(seen, 2, shutdown_s=2.0)
    async with System(supervisor("root", crowd)):
        await crowd.tell(Put("a", 1, 60.0))
        await crowd.tell(Put("b", 1, 60.0))
        await asyncio.sleep(1)
        resizing = asyncio.ensure_future(crowd.resize(1))
        await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() < 10
    await resizing
    assert (seen.started, seen.stopped, crowd.tally().failed) == (2, 2, 2)


async def test_a_crash_of_a_surplus_worker_is_its_end() -> None:
    seen = Seen()
    crowd = shelves(seen, 2, key=key_of)
    async with System(supervisor("root", crowd)):
        for key in "abcdef":
            await crowd.tell(Put(key, 1, 3.0, 1))
            await crowd.tell(Put(key, 2))
        await asyncio.sleep(1)
        await crowd.resize(1)
        await settled(crowd, 12)
        assert seen.started <= 2 + 6
    assert {key: numbers for key, numbers in seen.by_key.items() if numbers != [2]} == {}
    assert crowd.tally().failed == 6
    assert seen.started == seen.stopped


async def test_senders_that_wait_for_room_go_on_waiting_where_their_message_belongs() -> None:
    seen = Seen()
    crowd = shelves(seen, 4, key=key_of, mailbox=Mailbox(2))
    async with System(supervisor("root", crowd)):
        tells = [asyncio.ensure_future(crowd.tell(Put(f"k{n % 9}", n, 1.0))) for n in range(90)]
        asks = [crowd.ask(Ask(f"k{key}", 90 + key, 1.0), timeout_s=1000) for key in range(9)]
        await asyncio.sleep(0.5)
        await crowd.resize(1)
        await asyncio.sleep(3)
        await crowd.resize(5)
        await asyncio.gather(*tells, *asks)
        await settled(crowd, 99)
    assert seen.by_key == {f"k{key}": list(range(key, 99, 9)) for key in range(9)}


async def test_what_was_stashed_is_not_lost_with_its_worker() -> None:
    seen = Seen()
    crowd = shelves(seen, 6, key=key_of)
    async with System(supervisor("root", crowd)):
        for n in range(12):
            await crowd.tell(Hold(f"k{n % 4}", n))
        await asyncio.sleep(1)
        await crowd.resize(1)
        assert crowd.tally().pending == 12
        await crowd.tell(Free("k0"))
        await settled(crowd, 13)
    assert seen.by_key == {f"k{key}": [key, key + 4, key + 8] for key in range(4)}


async def test_what_a_worker_was_told_itself_and_has_no_key_stays_with_it() -> None:
    class Guard(Actor[Put | Note | Terminated]):
        @on(Put)
        async def put(self, message: Put) -> None:
            self.after(0.5, Note("tick"))
            self.watch(other)
            await asyncio.sleep(message.seconds)

        @on(Note)
        def note(self, message: Note) -> None:
            told.append((self.ref.path, message.text))

        @on(Terminated)
        def ended(self, message: Terminated) -> None:
            told.append((self.ref.path, message.actor))

    told: list[tuple[str, str]] = []
    other = worker("o", Recorder)
    crowd = pool("p", Guard, size=1, key=key_of)
    root = supervisor("root", crowd, other)
    async with System(root):
        await crowd.tell(Put("a", 1, 2.0))
        await asyncio.sleep(1)
        await root.stop_child(other)
        await crowd.resize(4)
        await asyncio.sleep(5)
    assert told == [("root/p/0", "tick"), ("root/p/0", "root/o")]
