"""Each handler sees the context that its message carries, and nothing that another handler set."""

import asyncio
import decimal
from contextvars import ContextVar

import pytest
from kit.recorder import Fail, Note, Recorder

from callboard.runtime import Actor, Message, Request, Restarted, System, on, supervisor, worker
from callboard.runtime.testkit import SeededLoop, Watch

VARIABLE: ContextVar[str] = ContextVar("variable", default="nothing")


class Set(Message, frozen=True):
    later: bool = False


class SetLater(Set, frozen=True):
    pass


class Read(Request[str], frozen=True):
    pass


class ReadLater(Request[str], frozen=True):
    pass


class Seen(Actor[Set | SetLater | Read | ReadLater]):
    @on(Set)
    def set(self, _message: Set) -> None:
        VARIABLE.set("set")
        decimal.getcontext().prec = 3

    @on(SetLater)
    async def set_later(self, _message: SetLater) -> None:
        VARIABLE.set("set")
        await asyncio.sleep(0)
        decimal.getcontext().prec = 3
        assert VARIABLE.get() == "set"

    @on(Read)
    def read(self, _message: Read) -> str:
        return f"{VARIABLE.get()} {decimal.getcontext().prec}"

    @on(ReadLater)
    async def read_later(self, _message: ReadLater) -> str:
        return f"{VARIABLE.get()} {decimal.getcontext().prec}"


CLEAN = f"nothing {decimal.DefaultContext.prec}"


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("setting", [Set(), SetLater()])
@pytest.mark.parametrize("reading", [Read(), ReadLater()])
async def test_what_a_handler_sets_the_next_one_does_not_see(
    setting: Message, reading: Request[str], concurrency: int
) -> None:
    class Own(Seen):
        pass

    Own.handlers.concurrency = concurrency
    seen, other = worker("s", Own), worker("o", Own)
    async with System(supervisor("root", seen, other)):
        for _ in range(3):  # in one burst, and in one turn of two actors
            seen.tell_nowait(setting)  # type: ignore[arg-type]
            replies = [ref.ask(reading) for ref in (seen, other, seen)]
            assert await asyncio.gather(*replies) == [CLEAN] * 3
            seen.tell_nowait(setting)  # type: ignore[arg-type]
            assert await other.ask(reading) == CLEAN
    assert VARIABLE.get() == "nothing"


async def test_handlers_see_nothing_of_where_the_system_was_made() -> None:
    token = VARIABLE.set("of the program")
    seen = worker("s", Seen)
    async with System(supervisor("root", seen)):
        assert await seen.ask(Read()) == CLEAN
        assert await seen.ask(ReadLater()) == CLEAN
    VARIABLE.reset(token)


async def test_a_handler_that_sets_something_and_crashes_leaves_nothing_to_the_next_incarnation() -> None:
    seen: list[str] = []

    class Torn(Actor[Set | Note]):
        async def on_start(self) -> None:
            seen.append(VARIABLE.get())

        @on(Set)
        def set(self, _message: Set) -> None:
            VARIABLE.set("set")
            raise ValueError

        @on(Note)
        def note(self, _message: Note) -> None:
            seen.append(VARIABLE.get())

    torn = worker("t", Torn)
    async with System(supervisor("root", torn)) as system:
        watch = Watch(system)
        torn.tell_nowait(Set())
        torn.tell_nowait(Note("next"))
        await watch.wait_for(Restarted)
        await asyncio.sleep(1)
    assert seen == ["nothing"] * 3


async def test_a_handler_that_sets_something_keeps_the_counts_and_the_order() -> None:
    class Line(Actor[Note]):
        def __init__(self) -> None:
            self.log: list[str] = log

        @on(Note)
        def note(self, message: Note) -> None:
            VARIABLE.set(message.text)
            self.log.append(message.text)

    log: list[str] = []
    line = worker("l", Line)
    async with System(supervisor("root", line)):
        for n in range(600):
            await line.tell(Note(str(n)))
        await asyncio.sleep(1)
        assert log == [str(n) for n in range(600)]
        assert line.tally().handled == 600


def test_under_seeded_schedules_too() -> None:
    async def main() -> None:
        seen, recorder = worker("s", Seen), worker("r", Recorder)
        async with System(supervisor("root", seen, recorder), log=False):
            for _ in range(5):
                seen.tell_nowait(Set())
                recorder.tell_nowait(Fail())
                assert await seen.ask(Read()) == CLEAN
                await asyncio.sleep(9)

    for seed in range(50):
        with asyncio.Runner(loop_factory=lambda seed=seed: SeededLoop(seed)) as runner:  # type: ignore[misc]
            runner.run(main())
