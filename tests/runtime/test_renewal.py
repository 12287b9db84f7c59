"""Renewal: a new instance takes an actor's place after a message, and nothing else notices."""

import asyncio

import pytest

from callboard.runtime import (
    Actor,
    EscalationError,
    Intensity,
    Props,
    Request,
    Restart,
    Strategy,
    System,
    on,
    pool,
    supervisor,
    worker,
)

NONE = Intensity(restarts=0)


class Do(Request[tuple[int, int]], frozen=True):
    """The reply is the number of the incarnation, and of its messages so far."""

    n: int


class Wearing(Actor[Do]):
    """Renewed after each `after` messages."""

    def __init__(self, lives: list[str], after: int, fails_at: int = 0) -> None:
        self.lives = lives
        self.after_ = after
        self.fails_at = fails_at
        self.count = 0

    async def on_start(self) -> None:
        if len(self.lives) // 2 + 1 == self.fails_at:
            raise OSError
        self.lives.append("start")

    async def on_stop(self) -> None:
        self.lives.append("stop")

    @on(Do)
    async def do(self, message: Do) -> tuple[int, int]:
        self.count += 1
        if self.count == self.after_:
            self.renew()
        await asyncio.sleep(0)
        return message.n, self.count


@pytest.mark.parametrize("restart", Restart)
async def test_each_message_is_handled_once_and_in_order_by_one_incarnation_after_the_other(restart: Restart) -> None:
    lives: list[str] = []
    one = worker("one", Props(Wearing, lives, 3), restart=restart)
    async with System(supervisor("root", one, intensity=NONE)) as system:
        replies = await asyncio.gather(*(one.ask(Do(n)) for n in range(100)))
        assert replies == [(n, n % 3 + 1) for n in range(100)]
        assert (one.counts().handled, one.counts().failed) == (100, 0)
        (node,) = system.snapshot().children
        assert node.restarts == 0
    assert lives == ["start", "stop"] * 34


@pytest.mark.parametrize("strategy", Strategy)
async def test_the_siblings_of_a_renewed_actor_live_on(strategy: Strategy) -> None:
    lives: list[list[str]] = [[], [], []]
    before, one, after = (worker(str(n), Props(Wearing, lives[n], 1 if n == 1 else 0)) for n in range(3))
    async with System(supervisor("root", before, one, after, strategy=strategy, intensity=NONE)):
        for n in range(20):
            await one.ask(Do(n))
        assert (await before.ask(Do(0)), await after.ask(Do(0))) == ((0, 1), (0, 1))
    assert [len(lives[0]), len(lives[2])] == [2, 2]
    assert lives[1] in (["start", "stop"] * 20, ["start", "stop"] * 21)  # the last renewal, or the stop


async def test_the_workers_of_a_pool_are_renewed_under_load_and_lose_nothing() -> None:
    lives: list[str] = []
    several = pool("several", Props(Wearing, lives, 2), size=5, intensity=NONE)
    async with System(supervisor("root", several, intensity=NONE)):
        replies = await asyncio.gather(*(several.ask(Do(n)) for n in range(500)))
        assert [n for n, _ in replies] == list(range(500))
        await several.resize(2)
        await several.resize(7)
        replies = await asyncio.gather(*(several.ask(Do(n)) for n in range(500)))
        assert [n for n, _ in replies] == list(range(500))
        assert several.counts().handled == 1000
    assert lives.count("start") == lives.count("stop") >= 500


async def test_a_renewal_whose_start_fails_is_a_crash() -> None:
    lives: list[str] = []
    one = worker("one", Props(Wearing, lives, 1, fails_at=3))
    async with System(supervisor("root", one, intensity=NONE)) as system:
        for n in range(2):
            await one.ask(Do(n))
        assert isinstance(await system.failed(), EscalationError)


class RenewedAtOnce(Actor[Do]):
    async def on_start(self) -> None:
        self.renew()

    @on(Do)
    async def do(self, message: Do) -> tuple[int, int]:
        return message.n, 0


async def test_in_the_start_hook_it_is_a_stop_and_so_no_endless_circle() -> None:
    one = worker("one", RenewedAtOnce)
    async with System(supervisor("root", one)) as system:
        assert isinstance(await system.failed(), EscalationError)


class RenewedAndRaising(Actor[Do]):
    @on(Do)
    async def do(self, message: Do) -> tuple[int, int]:
        self.renew()
        raise ZeroDivisionError(message.n)


async def test_a_handler_that_raises_after_it_is_a_crash() -> None:
    one = worker("one", RenewedAndRaising)
    async with System(supervisor("root", one, intensity=Intensity(1))) as system:
        with pytest.raises(ZeroDivisionError):
            await one.ask(Do(1))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while not system.snapshot().children[0].restarts:  # noqa: ASYNC110 - the supervisor's own turn
                await asyncio.sleep(0)
        assert system.snapshot().children[0].restarts == 1
