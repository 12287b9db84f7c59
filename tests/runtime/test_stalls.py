"""These tests block a real event loop with time.sleep, on purpose: that is what is to be noticed."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from callboard.runtime import Actor, Blocked, Message, Request, StallWatch, System, on, supervisor, worker
from callboard.runtime.supervision import loop_monitor
from callboard.runtime.testkit import VirtualTimeLoop, Watch

BLOCKED_MS = 150


class Block(Request[None], frozen=True):
    seconds: float = BLOCKED_MS / 1000


class BlockInSteps(Request[None], frozen=True):
    seconds: float = BLOCKED_MS / 1000


class Quick(Message, frozen=True):
    pass


TOOK_MS: list[float] = []  # how long each handler has really blocked: on a busy machine, longer than it was to


def block(seconds: float) -> None:
    began = time.perf_counter()
    time.sleep(seconds)
    TOOK_MS.append((time.perf_counter() - began) * 1000)


class Blocking(Actor[Block | BlockInSteps | Quick]):
    @on(Block)
    def block(self, message: Block) -> None:
        block(message.seconds)

    @on(BlockInSteps)
    async def block_in_steps(self, message: BlockInSteps) -> None:
        await asyncio.sleep(0.02)
        block(message.seconds)
        await asyncio.sleep(0.02)

    @on(Quick)
    def quick(self, message: Quick) -> None: ...


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A real loop: virtual time has no stalls."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def about(milliseconds: float) -> Any:
    """Not less by more than a look; more by half of a stall, and on a machine that does other things as well."""
    return pytest.approx(milliseconds + 25, abs=40)


async def blocked(play: Callable[[Any], Any]) -> list[Blocked]:
    """What was reported: of each handler that has blocked for 100 ms or more, and for how long."""
    TOOK_MS.clear()
    blocking = worker("b", Blocking)
    system = System(supervisor("root", blocking), stall_after_s=0.1)
    watch = Watch(system)
    async with system:
        await asyncio.sleep(0.03)
        await play(blocking)
        await asyncio.sleep(0.03)
    events = watch.of(Blocked)
    assert [event.milliseconds for event in events] == [about(took) for took in TOOK_MS if took >= 100]
    return events


async def test_a_blocking_handler_over_100_ms_is_reported_with_actor_message_type_and_milliseconds() -> None:
    (event,) = await blocked(lambda ref: ref.ask(Block()))
    assert (event.actor, event.message) == ("root/b", "Block")
    assert event.milliseconds >= BLOCKED_MS - 15
    assert event.where.rpartition(":")[0] == __file__


@pytest.mark.parametrize("offset_s", [0.0, 0.03, 0.06])
async def test_a_handler_that_blocks_a_loop_that_was_idle_is_reported(
    offset_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_monitor, "IDLE_S", 0.0)
    blocking = worker("b", Blocking)
    async with System(supervisor("root", blocking), stall_after_s=0.1) as system:
        watch = Watch(system)
        await asyncio.sleep(0.1 + offset_s)
        await blocking.ask(Block())
        await asyncio.sleep(0.03)
        assert [(event.actor, event.message) for event in watch.of(Blocked)] == [("root/b", "Block")]


async def test_a_blocking_step_of_an_async_handler_is_reported() -> None:
    (event,) = await blocked(lambda ref: ref.ask(BlockInSteps()))
    assert (event.actor, event.message) == ("root/b", "BlockInSteps")
    assert event.milliseconds >= BLOCKED_MS - 15


async def test_the_one_blocking_message_of_a_big_burst_is_reported() -> None:
    async def play(ref: Any) -> None:
        for n in range(1000):
            ref.tell_nowait(Block() if n == 200 else Quick())
        await ref.ask(Block(0))

    (event,) = await blocked(play)
    assert event.message == "Block"


async def test_many_short_handlers_that_together_hold_up_the_loop_are_not_reported() -> None:
    async def play(ref: Any) -> None:
        for _ in range(40):
            ref.tell_nowait(Block(0.005))
        await ref.ask(Block(0))

    assert await blocked(play) == []


async def test_two_handlers_that_block_one_after_the_other_are_told_apart() -> None:
    async def play(ref: Any) -> None:
        ref.tell_nowait(Block(0.2))
        ref.tell_nowait(Block(0.04))
        ref.tell_nowait(Block(0.15))
        await ref.ask(Block(0))

    assert len(await blocked(play)) == 2


async def test_a_sync_handler_that_blocks_among_async_ones_is_reported() -> None:
    async def play(ref: Any) -> None:
        ref.tell_nowait(BlockInSteps(0))
        ref.tell_nowait(Block())
        await ref.ask(BlockInSteps(0))

    (event,) = await blocked(play)
    assert event.message == "Block"


class Beside(Actor[None]):
    """Blocks in each place that is no handler."""

    async def on_start(self) -> None:
        await asyncio.sleep(0.03)
        time.sleep(0.12)  # noqa: ASYNC251 - see above

    async def run(self) -> None:
        await asyncio.sleep(0.03)
        time.sleep(0.14)  # noqa: ASYNC251 - see above
        await asyncio.sleep(60)

    async def on_stop(self) -> None:
        await asyncio.sleep(0.03)
        time.sleep(0.16)  # noqa: ASYNC251 - see above
        await asyncio.sleep(0.03)


async def test_run_and_the_hooks_are_watched_too() -> None:
    system = System(supervisor("root", worker("b", Beside)), stall_after_s=0.1)
    watch = Watch(system)
    async with system:
        await asyncio.sleep(0.25)
    assert [event.message for event in watch.of(Blocked)] == ["on_start", "run", "on_stop"]
    assert [event.milliseconds for event in watch.of(Blocked)] == [about(120), about(140), about(160)]


async def test_loop_lag_is_measured() -> None:
    blocking = worker("b", Blocking)
    async with System(supervisor("root", blocking)) as system, StallWatch(system, after_s=0.1) as stalls:
        await asyncio.sleep(0.05)
        assert stalls.max_lag_s < 0.05
        await blocking.ask(Block())
        await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert stalls.max_lag_s > 0.12
        assert stalls.lag_s < 0.05


async def test_nothing_is_watched_unless_it_is_wished() -> None:
    blocking = worker("b", Blocking)
    async with System(supervisor("root", blocking)) as system:
        watch = Watch(system)
        await blocking.ask(Block())
        await asyncio.sleep(0.03)
        assert system.stalls is None
        assert watch.of(Blocked) == []


def test_a_limit_of_no_time_is_refused() -> None:
    async def make() -> None:
        System(supervisor("root"), stall_after_s=0)

    with pytest.raises(ValueError, match="a stall takes more than no time, not 0 s"):
        asyncio.run(make())


def test_under_virtual_time_there_is_no_watch() -> None:
    async def play() -> None:
        async with System(supervisor("root"), stall_after_s=0.1) as system:
            await asyncio.sleep(3600)
            assert system.stalls is not None
            assert system.stalls.max_lag_s == 0

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play())
