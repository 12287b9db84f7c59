"""Entities that crash, stop themselves, cannot start, are watched, and come and go at random."""

import asyncio
import random

import pytest
from kit.carts import STORE, Add, Burst, Cart, Leave, Total, Work, carts
from kit.recorder import Fail, Note, Recorder

from callboard.runtime import (
    Actor,
    Escalated,
    Intensity,
    Restart,
    System,
    Terminated,
    UnhandledMessageError,
    entities,
    on,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch


@pytest.fixture(autouse=True)
def empty_store() -> None:
    STORE.clear()
    Cart.alive.clear()


async def test_a_crash_restarts_the_entity_of_that_key_and_keeps_what_waits() -> None:
    log: list[str] = []
    shop = carts(log, slow_s=0)
    async with System(supervisor("root", shop)):
        await shop.tell(Add("b", 9))
        for message in (Add("a", 1), Burst("a"), Add("a", 2)):
            await shop.tell(message)
        assert await shop.ask(Total("a")) == [1, 2]
        assert log == ["b comes", "a comes", "a goes", "a comes"]
        assert sorted(node.restarts for node in shop.dump().children) == [0, 1]


async def test_a_crash_that_is_not_followed_by_a_restart_puts_it_away_and_the_next_message_wakes_it() -> None:
    log: list[str] = []
    shop = carts(log, slow_s=0, restart=Restart.TEMPORARY)
    async with System(supervisor("root", shop)):
        for message in (Burst("a"), Add("a", 2)):
            await shop.tell(message)
        assert await shop.ask(Total("a")) == [2]
        await shop.tell(Burst("a"))
        await asyncio.sleep(1)
        assert shop.size == 0
        assert (shop.tally().failed, shop.tally().accepted) == (2, 4)


async def test_too_many_crashes_escalate_and_what_waited_is_handled_after_the_restart() -> None:
    shop = carts([], slow_s=0, intensity=Intensity(0))
    async with System(supervisor("root", shop)) as system:
        watch = Watch(system)
        await shop.tell(Add("b", 1))
        asked = shop.ask(Work("b", 2))
        await asyncio.sleep(0.1)
        for message in (Burst("a"), Add("a", 2)):
            await shop.tell(message)
        await watch.wait_for(Escalated)
        await asyncio.wait((asked,))
        assert await shop.ask(Total("a")) == [2]
        assert await shop.ask(Total("b")) == [1]
        assert shop.tally().accepted == 6


async def test_an_entity_that_stops_itself_is_put_away_after_its_message() -> None:
    log: list[str] = []
    shop = carts(log, slow_s=0)
    async with System(supervisor("root", shop)):
        await shop.tell(Leave("a", 2.0))
        await asyncio.sleep(1)
        await shop.tell(Add("a", 1))
        assert await shop.ask(Total("a")) == [1]
        assert log == ["a comes", "a has left", "a goes", "a comes"]


async def test_a_start_hook_that_raises_is_a_crash_and_the_message_waits() -> None:
    tries: list[str] = []

    class Late(Actor[Total]):
        def __init__(self, key: str) -> None:
            self.key = key

        async def on_start(self) -> None:
            tries.append(self.key)
            if len(tries) < 3:
                raise OSError("not yet")

        @on(Total)
        def total(self, _message: Total) -> list[int]:
            return [len(tries)]

    late = entities("late", Late, key=lambda message: message.key, idle_s=1, limit=1)
    async with System(supervisor("root", late)):
        assert await late.ask(Total("a")) == [3]


async def test_watchers_are_told_when_it_is_put_away() -> None:
    class Guest(Actor[Total]):
        def __init__(self, key: str) -> None:
            self.key = key

        async def on_start(self) -> None:
            host.watch(self.ref)

        @on(Total)
        def total(self, _message: Total) -> list[int]:
            return []

    class Host(Actor[Terminated]):
        @on(Terminated)
        def ended(self, message: Terminated) -> None:
            ends.append(message.actor)

    ends: list[str] = []
    host = worker("host", Host)
    guests = entities("guests", Guest, key=lambda message: message.key, idle_s=1, limit=9)
    async with System(supervisor("root", host, guests)):
        await guests.ask(Total("a"))
        await asyncio.sleep(3)
        assert ends == ["root/guests/0"]


async def test_messages_before_the_start_are_handled_after_it() -> None:
    shop = carts([], limit=2)
    for key in ("a", "b", "a"):
        shop.tell_nowait(Add(key, 1))
    async with System(supervisor("root", shop)):
        assert await shop.ask(Total("a")) == [1, 1]
        assert await shop.ask(Total("b")) == [1]


async def test_a_wrong_message_makes_no_entity() -> None:
    shop = carts([])
    async with System(supervisor("root", shop)):
        with pytest.raises(UnhandledMessageError, match="root/carts does not handle Note; it handles Add, Beat"):
            await shop.tell(Note("a"))  # type: ignore[arg-type]
        assert shop.size == 0


def test_bounds_that_bound_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="room for at least 1, not 0"):
        entities("e", Recorder, key=str, idle_s=1, limit=0)
    with pytest.raises(ValueError, match="after more than 0 s, not 0"):
        entities("e", Recorder, key=str, idle_s=0, limit=1)
    with pytest.raises(TypeError, match="Props takes an Actor class and its constructor's arguments"):
        entities("e", dict, key=str, idle_s=1, limit=1)  # type: ignore[arg-type]
    assert Fail().why


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
async def test_nothing_is_lost_when_entities_come_and_go_at_random(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - a schedule
    shop = carts([], limit=rng.choice((1, 2, 5)), slow_s=rng.choice((0.0, 0.5)), intensity=Intensity(10**6))
    sent: dict[str, list[int]] = {f"k{n}": [] for n in range(8)}
    accepted = 0
    async with System(supervisor("root", shop), rng=rng):
        for n in range(400):
            key = rng.choice(list(sent))
            match rng.randrange(12):
                case 0:
                    await shop.tell(Burst(key))
                case 1:
                    await shop.tell(Leave(key, rng.random()))
                case 2:
                    await asyncio.sleep(rng.choice((0.1, 3, 25)))
                    continue
                case _:
                    await shop.tell(Add(key, n))
                    sent[key].append(n)
            accepted += 1
            counts = shop.tally()
            assert counts.accepted == accepted
        for key, numbers in sent.items():
            assert await shop.ask(Total(key), timeout_s=600) == numbers
            accepted += 1
        assert shop.tally().accepted == accepted
        await asyncio.sleep(100)
        assert (shop.size, shop.tally().accepted, sum(Cart.alive.values())) == (0, accepted, 0)
    assert shop.tally().dead_lettered == shop.tally().returned == 0
