"""Passivation: an actor for each key, put away when idle and back on its next message."""

import asyncio

import pytest
from kit.carts import STORE, Add, Beat, Cart, Total, Work, carts

from callboard.runtime import (
    ActorStoppedError,
    EntitiesFullError,
    Mailbox,
    Overflow,
    System,
    supervisor,
)


@pytest.fixture(autouse=True)
def empty_store() -> None:
    STORE.clear()
    Cart.alive.clear()


async def test_an_actor_by_key_that_was_idle_is_put_away_and_comes_back_on_its_next_message() -> None:
    log: list[str] = []
    shop = carts(log)
    async with System(supervisor("root", shop)):
        await shop.tell(Add("a", 1))
        await shop.tell(Add("b", 2))
        assert await shop.ask(Total("a")) == [1]
        assert log == ["a comes", "b comes"]
        await asyncio.sleep(8)
        await shop.tell(Add("a", 3))  # still here
        assert shop.size == 2
        await asyncio.sleep(6)
        assert log[2:] == ["b goes"]
        await asyncio.sleep(20)
        assert (shop.size, log[3:]) == (0, ["a goes"])
        assert shop.children == []
        assert await shop.ask(Total("a")) == [1, 3]
        assert log[4:] == ["a comes"]
        counts = shop.tally()
        assert (counts.handled, counts.accepted) == (5, 5)


async def test_messages_that_come_while_an_actor_is_put_away_wait_and_wake_a_new_incarnation() -> None:
    log: list[str] = []
    shop = carts(log)
    async with System(supervisor("root", shop)):
        await shop.tell(Add("a", 0))
        await asyncio.sleep(10.5)
        assert log == ["a comes"]
        for n in range(1, 6):
            await shop.tell(Add("a", n))
            await asyncio.sleep(0.2)
        assert await shop.ask(Total("a")) == [0, 1, 2, 3, 4, 5]
        assert log == ["a comes", "a goes", "a comes"]
        assert shop.tally().accepted == 7


async def test_an_actor_that_is_busy_is_not_put_away() -> None:
    log: list[str] = []
    shop = carts(log)
    async with System(supervisor("root", shop)):
        assert await shop.ask(Work("a", 60), timeout_s=100) == "a"
        assert log == ["a comes"]
        await shop.tell(Beat("b"))  # every four seconds it has something to do, of itself
        await asyncio.sleep(100)
        assert log == ["a comes", "b comes", "a goes"]


async def test_the_number_is_bounded_and_the_least_recently_used_idle_one_is_put_away_first() -> None:
    log: list[str] = []
    shop = carts(log, limit=3, slow_s=0)
    async with System(supervisor("root", shop)):
        for key in ("a", "b", "c", "a"):
            await shop.tell(Add(key, 1))
            await asyncio.sleep(0.1)
        assert await shop.ask(Total("d")) == []
        assert log == ["a comes", "b comes", "c comes", "b goes", "d comes"]
        busy = [shop.ask(Work(key, 3)) for key in ("a", "c")]
        await asyncio.sleep(0.1)
        await shop.tell(Add("e", 1))
        assert await asyncio.gather(*busy) == ["a", "c"]
        assert log[5:] == ["d goes", "e comes"]
        assert {node.name for node in shop.dump().children} <= {"0", "1", "2"}


async def test_an_incarnation_starts_only_when_the_one_that_makes_room_has_ended() -> None:
    log: list[str] = []
    shop = carts(log, limit=2)
    async with System(supervisor("root", shop)):
        for n in range(200):
            await shop.tell(Add(f"k{n % 7}", n))
            assert sum(Cart.alive.values()) <= 2
            await asyncio.sleep(0.3)
        for key in range(7):
            assert await shop.ask(Total(f"k{key}"), timeout_s=60) == list(range(key, 200, 7))
        assert shop.tally().accepted == shop.tally().handled == 207


async def test_one_more_than_the_limit_is_refused_when_all_are_busy() -> None:
    shop = carts([], limit=2, mailbox=Mailbox(8, Overflow.REJECT))
    async with System(supervisor("root", shop)):
        busy = [shop.ask(Work(key, 3), timeout_s=60) for key in ("a", "b")]
        with pytest.raises(EntitiesFullError, match=r"root/carts has 2 entities awake .* Add is returned: raise the l"):
            await shop.tell(Add("c", 1))
        with pytest.raises(EntitiesFullError):
            await shop.ask(Total("c"))
        await shop.tell(Add("a", 1))  # for those that are there, there is room
        await asyncio.gather(*busy)
        assert shop.tally().accepted == 3


async def test_or_it_waits_in_the_order_of_the_senders_until_one_is_idle() -> None:
    log: list[str] = []
    shop = carts(log, limit=1)
    async with System(supervisor("root", shop)):
        busy = shop.ask(Work("a", 3), timeout_s=60)
        tells = [asyncio.ensure_future(shop.tell(Add("b", n))) for n in range(5)]
        gone = asyncio.ensure_future(shop.tell(Add("c", 1)))
        asked = shop.ask(Total("b"), timeout_s=60)
        other = shop.ask(Total("d"), timeout_s=60)
        late = shop.ask(Total("d"), timeout_s=1)
        await asyncio.sleep(0.1)
        assert not any(each.done() for each in (*tells, asked, other))
        with pytest.raises(EntitiesFullError):
            shop.tell_nowait(Add("c", 1))
        gone.cancel()
        with pytest.raises(TimeoutError):
            await late
        assert await busy == "a"
        assert await asked == [0, 1, 2, 3, 4]
        assert await other == []
        await asyncio.gather(*tells)
        assert log == ["a comes", "a goes", "b comes", "b goes", "d comes"]
        assert shop.tally().accepted == shop.tally().handled == 8


async def test_or_it_is_dropped_and_counted() -> None:
    shop = carts([], limit=1, mailbox=Mailbox(8, Overflow.DROP_NEWEST))
    async with System(supervisor("root", shop)):
        busy = shop.ask(Work("a", 3), timeout_s=60)
        await shop.tell(Add("b", 1))
        assert await busy == "a"
        assert (shop.tally().dropped, shop.tally().accepted) == (1, 2)
        assert shop.dump().counts is not None


async def test_senders_that_wait_are_told_when_all_is_stopped() -> None:
    shop = carts([], limit=1)
    system = System(supervisor("root", shop))
    await system.start()
    busy = shop.ask(Work("a", 1), timeout_s=60)
    waiting = asyncio.ensure_future(shop.tell(Add("b", 1)))
    asking = shop.ask(Total("b"), timeout_s=60)
    await asyncio.sleep(2)
    await system.stop()
    for each in (waiting, asking):
        with pytest.raises(ActorStoppedError):
            await each
    assert (busy.done(), shop.tally().pending) == (True, 0)
    with pytest.raises(ActorStoppedError, match="root/carts has stopped"):
        await shop.tell(Add("a", 1))
