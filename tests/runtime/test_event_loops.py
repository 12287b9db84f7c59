"""On every loop that Python and uvloop have: with eager tasks too, and a task factory of the program's own."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from kit.recorder import Fail, Forward, Middle, Note, Notes, Recorder, Wait

from callboard.runtime import AskTimeoutError, Counts, Props, System, entities, pool, supervisor, worker


def eager_loop() -> asyncio.AbstractEventLoop:
    if sys.version_info < (3, 12):
        pytest.skip("Python has eager tasks from 3.12 on")
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def own_factory_loop() -> asyncio.AbstractEventLoop:
    """As tracing libraries have."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(lambda loop, work, **options: asyncio.Task(work, loop=loop, **options))  # type: ignore[arg-type]
    return loop


def uvloop_loop() -> asyncio.AbstractEventLoop:
    return pytest.importorskip("uvloop").new_event_loop()  # type: ignore[no-any-return]


LOOPS: tuple[Callable[[], asyncio.AbstractEventLoop], ...] = (
    asyncio.new_event_loop,
    eager_loop,
    own_factory_loop,
    uvloop_loop,
)


class Keyed(Recorder):
    def __init__(self, _key: object) -> None:
        super().__init__()


async def whole_life() -> None:
    """Plain and async handlers, suspending and not, crashes, restarts, deadlines, a pool, entities, a drain."""
    log: list[str] = []
    recorder = worker("r", Props(Recorder, log, "r"), shutdown_s=1)
    middle = worker("m", Props(Middle, lambda: recorder))
    crowd = pool("p", Recorder, size=2)
    each = entities("e", Keyed, key=type, idle_s=9, limit=2)
    async with System(supervisor("root", recorder, middle, crowd, each), log=False):
        for n in range(3):
            assert await recorder.ask(Wait(0, str(n))) == str(n)
            await recorder.tell(Note("a"))
        assert await middle.ask(Forward(0)) == "done"
        with pytest.raises(ValueError, match="told to"):
            await recorder.ask(Fail())
        with pytest.raises(AskTimeoutError):
            await recorder.ask(Wait(60), timeout_s=0.01)
        asking = asyncio.ensure_future(recorder.ask(Wait(60), timeout_s=90))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        assert await recorder.ask(Notes()) == []
        assert [await crowd.ask(Wait(0, str(n))) for n in range(4)] == list("0123")
        assert await each.ask(Wait(0, "one")) == "one"
        await crowd.resize(1)
        recorder.tell_nowait(Note("last"))
        assert await recorder.drain(1) == 0
    counts: Counts = recorder.tally()
    assert (counts.pending, counts.failed, counts.accepted) == (0, 1, 12)


@pytest.mark.parametrize("factory", LOOPS, ids=lambda factory: factory.__name__)
def test_a_whole_life(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(whole_life())


def test_what_an_eager_task_starts_in_a_handler_runs_beside_it() -> None:
    from callboard.runtime import Actor, Request, on  # noqa: PLC0415 - only here

    class Begin(Request[str], frozen=True):
        pass

    class Host(Actor[Begin]):
        @on(Begin)
        async def begin(self, _message: Begin) -> str:
            inner = asyncio.create_task(self.inner())
            return f"{done} {await inner}"

        async def inner(self) -> str:
            done.append("inner")
            await asyncio.sleep(0)
            return "ended"

    done: list[str] = []

    async def main() -> Any:
        host = worker("h", Host)
        async with System(supervisor("root", host)):
            return await host.ask(Begin())

    with asyncio.Runner(loop_factory=eager_loop) as runner:
        assert runner.run(main()) == "['inner'] ended"
