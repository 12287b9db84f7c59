"""Pools: how messages find their worker, and what becomes of a worker that dies."""

import asyncio
from typing import Any

import pytest
from kit.recorder import Fail, Note, Notes, Recorder, Wait
from kit.shelves import Leave, Put, Seen, key_of, settled, shelves

from callboard.runtime import (
    ActorStoppedError,
    Backoff,
    Mailbox,
    MailboxFullError,
    Overflow,
    Restart,
    Route,
    System,
    pool,
    supervisor,
    worker,
)

# Routing -------------------------------------------------------------------------------------------------------------


async def test_routing_round_robin_gives_each_worker_its_turn() -> None:
    crowd = pool("p", Recorder, size=3)
    async with System(supervisor("root", crowd)):
        for n in range(9):
            await crowd.tell(Note(str(n)))
        assert [await crowd.ask(Notes()) for _ in range(3)] == [["0", "3", "6"], ["1", "4", "7"], ["2", "5", "8"]]


async def test_routing_least_busy_takes_the_worker_with_the_fewest_messages() -> None:
    crowd = pool("p", Recorder, size=3, route=Route.LEAST_BUSY)
    async with System(supervisor("root", crowd)):
        long = [crowd.ask(Wait(10, "long"), timeout_s=60) for _ in range(2)]
        for n in range(5):
            await crowd.ask(Note(str(n)))  # type: ignore[arg-type]
        assert await crowd.ask(Notes()) == ["0", "1", "2", "3", "4"]
        assert await asyncio.gather(*long) == ["long", "long"]


async def test_a_worker_that_waits_for_its_restart_is_the_busiest() -> None:
    crowd = pool("p", Recorder, size=2, route=Route.LEAST_BUSY, backoff=Backoff(initial_s=30))
    async with System(supervisor("root", crowd)):
        await crowd.tell(Fail())
        await asyncio.sleep(1)
        for n in range(5):
            await crowd.tell(Note(str(n)))
        assert await crowd.ask(Notes(), timeout_s=1) == ["0", "1", "2", "3", "4"]


async def test_workers_of_a_pool_work_at_the_same_time() -> None:
    crowd = pool("p", Recorder, size=5)
    async with System(supervisor("root", crowd)):
        await asyncio.gather(*(crowd.ask(Wait(1)) for _ in range(5)))
        assert asyncio.get_running_loop().time() == pytest.approx(1)


async def test_routing_by_key_keeps_the_order_of_each_key() -> None:
    seen = Seen()
    crowd = shelves(seen, 4, key=key_of)
    async with System(supervisor("root", crowd)):
        for n in range(200):
            await crowd.tell(Put(f"k{n % 10}", n, n % 3 / 10))
        await settled(crowd, 200)
    assert seen.by_key == {f"k{key}": list(range(key, 200, 10)) for key in range(10)}


def test_a_pool_is_routed_by_key_if_and_only_if_it_is_given_one() -> None:
    with pytest.raises(ValueError, match="pool p is routed by key if, and only if, it is given one"):
        pool("p", Recorder, size=1, route=Route.KEY)
    with pytest.raises(ValueError, match="pool p is routed by key"):
        pool("p", Recorder, size=1, route=Route.ROUND_ROBIN, key=str)
    crowd = pool("p", Recorder, size=1)
    with pytest.raises(ValueError, match="pool p is routed by key"):
        crowd.route = Route.KEY


async def test_a_crash_in_a_pool_restarts_one_worker_and_loses_no_message() -> None:
    crowd = pool("p", Recorder, size=2)
    async with System(supervisor("root", crowd)):
        for n in range(4):
            await crowd.tell(Note(str(n)))
        await crowd.tell(Fail())
        await crowd.tell(Note("5"))
        await crowd.tell(Note("6"))
        assert await crowd.ask(Notes()) == ["1", "3", "5"]
        assert await crowd.ask(Notes()) == ["6"]
        assert [node.restarts for node in crowd.dump().children] == [1, 0]


# Dead workers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyed", [True, False])
async def test_a_dead_worker_gives_its_slot_back(keyed: bool) -> None:
    seen = Seen(ordered=keyed)
    options: dict[str, Any] = {"key": key_of} if keyed else {}
    crowd = shelves(seen, 4, restart=Restart.TEMPORARY, **options)
    async with System(supervisor("root", crowd)):
        for n in range(40):
            await crowd.tell(Put(f"k{n % 8}", n, 0.1, n == 5))
        await settled(crowd, 40)
        assert (crowd.size, len(crowd.children)) == (3, 3)
        assert (crowd.tally().failed, seen.count) == (1, 39)
        await crowd.resize(4)
        assert sorted(node.name for node in crowd.children) == ["0", "1", "2", "3"]
    if keyed:
        assert seen.by_key == {f"k{key}": [n for n in range(key, 40, 8) if n != 5] for key in range(8)}


async def test_a_worker_that_leaves_finishes_its_message_first() -> None:
    seen = Seen()
    crowd = shelves(seen, 2, key=key_of, restart=Restart.TRANSIENT)
    async with System(supervisor("root", crowd)):
        await crowd.tell(Leave("a", 20.0))
        await crowd.tell(Put("a", 1))
        await asyncio.sleep(1)
        assert (crowd.size, seen.by_key.get("a")) == (2, None)
        await crowd.tell(Put("a", 2))
        await settled(crowd, 3)
        assert crowd.size == 1
        assert len(crowd.children) == 1
    assert seen.by_key == {"a": [-1, 1, 2]}


async def test_the_last_worker_of_a_pool_has_nobody_to_give_to() -> None:
    seen = Seen()
    crowd = shelves(seen, 1, restart=Restart.TEMPORARY)
    async with System(supervisor("root", crowd)):
        await crowd.tell(Put("a", 1, 0.1, 1))
        await crowd.tell(Put("a", 2))
        await asyncio.sleep(1)
        with pytest.raises(ActorStoppedError):
            await crowd.tell(Put("a", 3))
        assert (crowd.tally().failed, crowd.tally().dead_lettered) == (1, 1)
        await crowd.resize(2)  # until there are workers again
        for n in (4, 5):
            await crowd.tell(Put("a", n))
        await settled(crowd, 4)
    assert seen.by_key == {"a": [4, 5]}


async def test_a_pool_is_good_again_when_its_system_is_started_again() -> None:
    seen = Seen()
    crowd = shelves(seen, 2)
    system = System(supervisor("root", crowd))
    for n in range(2):
        async with system:
            await crowd.resize(2 + n)
            await crowd.tell(Put("a", n))
            await settled(crowd, n + 1)
    assert seen.by_key == {"a": [0, 1]}


# The rest ------------------------------------------------------------------------------------------------------------


async def test_a_smaller_mailbox_keeps_what_it_has_and_a_larger_one_lets_those_in_who_wait() -> None:
    seen = Seen()
    crowd = shelves(seen, 1, mailbox=Mailbox(4))
    async with System(supervisor("root", crowd)):
        for n in range(5):
            await crowd.tell(Put("a", n, 1.0))
            await asyncio.sleep(0)
        waiting = asyncio.ensure_future(crowd.tell(Put("a", 5)))
        await asyncio.sleep(0.1)
        crowd.adopt(crowd.spec.__class__(mailbox=Mailbox(5, Overflow.REJECT)), crowd.intensity)
        assert crowd.tally().pending == 6
        await waiting
        crowd.adopt(crowd.spec.__class__(mailbox=Mailbox(1, Overflow.REJECT)), crowd.intensity)
        with pytest.raises(MailboxFullError, match="is full"):
            await crowd.tell(Put("a", 9))
        await settled(crowd, 6)
        await crowd.tell(Put("a", 6))
        await settled(crowd, 7)
    assert seen.by_key == {"a": [0, 1, 2, 3, 4, 5, 6]}


def test_a_pool_without_workers_and_a_worker_that_is_no_actor_are_refused() -> None:
    with pytest.raises(ValueError, match="pool p has at least 1 worker, not 0"):
        pool("p", Recorder, size=0)
    with pytest.raises(TypeError, match="Props takes an Actor class and its constructor's arguments"):
        worker("w", dict)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a word without a slash"):
        worker("a/b", Recorder)
    with pytest.raises(ValueError, match="at least 1 message"):
        Mailbox(0, Overflow.REJECT)


async def test_the_tree_shows_state_depth_and_the_message_in_hand_while_mailboxes_are_full() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(2, Overflow.REJECT))
    async with System(supervisor("root", supervisor("inner", recorder), pool("p", Recorder, size=2))) as system:
        waiting = asyncio.ensure_future(recorder.ask(Wait(2)))
        await asyncio.sleep(0.1)
        recorder.tell_nowait(Note("a"))
        recorder.tell_nowait(Note("b"))
        root = system.dump()
        assert [(node.name, node.kind, node.state) for node in root.children] == [
            ("inner", "supervisor", "running"),
            ("p", "pool", "running"),
        ]
        (node,) = root.children[0].children
        assert (node.depth, node.capacity, node.current) == (2, 2, "Wait")
        assert node.counts is not None
        assert node.counts.pending == 3
        await waiting
