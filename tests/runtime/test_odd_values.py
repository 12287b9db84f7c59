"""Messages, errors, names and results whose own code is odd: every message has its fate, and everybody goes on."""

import asyncio
import decimal
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from contextvars import ContextVar
from typing import Any

import pytest

from callboard.runtime import (
    Actor,
    ActorContext,
    ActorCrashedError,
    Counts,
    Crashed,
    DeferredReply,
    KeyedProps,
    Message,
    Ref,
    Request,
    System,
    TooDeepError,
    current_context,
    entities,
    format_causes,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import EventRecorder


class Do(Request[Any], frozen=True):
    """Call a function with the actor; await what it returns."""

    what: Callable[["Doer"], Any]


class Raising(Message, frozen=True):
    def __eq__(self, other: object) -> bool:
        raise ValueError("not to be compared")

    def __hash__(self) -> int:
        raise ValueError("nor to be hashed")


class Equal(Message, frozen=True):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Doer(Actor[Do | Raising | Equal]):
    ref: ActorContext[Do | Raising | Equal]

    @on(Do)
    async def do(self, message: Do) -> Any:
        return await message.what(self) if asyncio.iscoroutinefunction(message.what) else message.what(self)

    @on(Raising)
    def take(self, message: Raising) -> None: ...

    @on(Equal)
    def take_equal(self, message: Equal) -> None: ...


async def sleep(_doer: Doer) -> None:
    await asyncio.sleep(10)


# Messages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Raising, Equal])
async def test_an_ask_leaves_a_mailbox_of_messages_that_cannot_be_compared(kind: type[Message]) -> None:
    doer = worker("d", Doer)
    async with System(supervisor("root", doer)):
        busy = doer.ask(Do(sleep), timeout_s=60)
        await asyncio.sleep(1)
        doer.tell_nowait(kind())  # type: ignore[arg-type]
        given_up = doer.ask(Do(sleep), timeout_s=60)
        doer.tell_nowait(kind())  # type: ignore[arg-type]
        given_up.cancel()
        await asyncio.sleep(0)
        assert doer.counts() == Counts(returned=1, pending=3)
        await busy
        await asyncio.sleep(1)
        assert doer.counts() == Counts(returned=1, handled=3)


@pytest.mark.parametrize("kind", [Raising, Equal])
async def test_ticks_are_one_at_a_time_and_cancelled_alone_whatever_waits_beside_them(kind: type[Message]) -> None:
    doer = worker("d", Doer)
    async with System(supervisor("root", doer)):
        timers = [await doer.ask(Do(lambda each: each.every(0.1, kind()))) for _ in range(2)]
        await asyncio.sleep(0.15)
        busy = doer.ask(Do(sleep), timeout_s=60)
        await asyncio.sleep(1)
        doer.tell_nowait(kind())  # type: ignore[arg-type]
        assert doer.counts().pending == 4
        timers[1].cancel()
        assert doer.counts().pending == 3
        timers[0].cancel()
        await busy
        assert doer.counts().expired == 2


# Errors --------------------------------------------------------------------------------------------------------------


class Foreign(BaseException):
    """As a test runner has for its own ends."""


class Unspeakable(Exception):  # noqa: N818 - short
    def __str__(self) -> str:
        raise Foreign

    __repr__ = __str__


class Untouchable(Exception):  # noqa: N818 - short
    def __getattribute__(self, name: str) -> Any:
        raise ValueError(f"{name} is not for you")


class Unhashable(Exception):  # noqa: N818 - short
    def __eq__(self, other: object) -> bool:
        raise Foreign

    def __hash__(self) -> int:
        raise Foreign


class Where(Actor[Do]):
    """Raises an error in one of its hooks."""

    def __init__(self, hook: str, errors: list[BaseException]) -> None:
        self.hook = hook
        self.errors = errors

    def fail_in(self, hook: str) -> None:
        if hook == self.hook and self.errors:
            raise self.errors.pop()

    async def on_start(self) -> None:
        self.fail_in("on_start")

    async def run(self) -> None:
        await asyncio.sleep(1)
        self.fail_in("run")
        await asyncio.sleep(1e6)

    async def on_stop(self) -> None:
        self.fail_in("on_stop")

    @on(Do)
    def do(self, _message: Do) -> str:
        self.fail_in("handler")
        return "done"


@pytest.mark.parametrize("error", [Unspeakable, Untouchable, Unhashable])
@pytest.mark.parametrize("hook", ["on_start", "run", "on_stop", "handler"])
async def test_an_error_whose_own_code_fails_is_a_crash_as_any_other(hook: str, error: type[BaseException]) -> None:
    errors: list[BaseException] = []
    keyed = entities("k", KeyedProps(KeyedWhere, hook, errors), key=type, idle_s=60, limit=1)
    async with System(supervisor("root", keyed)) as system:
        recorder = EventRecorder(system)
        assert await keyed.ask(Do(sleep)) == "done"
        errors.append(error())
        if hook == "handler":
            with pytest.raises((error, RuntimeError)):
                await keyed.ask(Do(sleep))
        elif hook == "on_start":
            keyed.kill()
        await asyncio.sleep(2)
        if hook != "on_stop":
            assert await keyed.ask(Do(sleep)) == "done"
            assert format_causes(recorder.of(Crashed)[-1].error)
    assert not errors
    assert keyed.counts().pending == 0


class KeyedWhere(Where):
    def __init__(self, _key: object, hook: str, errors: list[BaseException]) -> None:
        super().__init__(hook, errors)


def test_an_endless_chain_of_causes_is_told_in_a_line_of_bounded_length() -> None:
    error = ValueError("0")
    for n in range(1000):
        error, error.__cause__ = ValueError(str(n)), error
    assert format_causes(error).count("<-") < 20


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit, asyncio.CancelledError])
async def test_a_start_that_raises_what_a_task_takes_for_its_own_has_failed(error: type[BaseException]) -> None:
    class Unborn(Actor[None]):
        def __init__(self) -> None:
            raise error

    async def spawn(doer: Doer) -> str:
        try:
            await doer.spawn(worker("u", Unborn))
        except ActorCrashedError as crashed:
            return type(crashed.__cause__).__name__
        return "spawned"

    doer = worker("d", Doer)
    async with System(supervisor("root", doer)):
        assert await doer.ask(Do(spawn)) == error.__name__


# Results -------------------------------------------------------------------------------------------------------------


async def test_what_a_handler_hands_to_a_thread_is_awaited() -> None:
    def in_thread(_doer: Doer) -> "ThreadFuture[int]":
        result: ThreadFuture[int] = ThreadFuture()
        asyncio.get_running_loop().call_later(1, result.set_result, 7)
        return result

    doer = worker("d", Doer)
    async with System(supervisor("root", doer)):
        assert await doer.ask(Do(in_thread)) == 7


async def test_several_asks_share_one_later_reply_and_those_that_come_after_it_have_it_at_once() -> None:
    reply = DeferredReply[int]()
    doer = worker("d", Doer)
    async with System(supervisor("root", doer)):
        asks = [doer.ask(Do(lambda _doer: reply)) for _ in range(3)]
        await asyncio.sleep(1)
        asks[1].cancel()
        assert reply.wanted
        reply.set(7)
        reply.set(8)
        assert await asyncio.gather(asks[0], asks[2], doer.ask(Do(lambda _doer: reply))) == [7, 7, 7]
        assert not reply.wanted


@pytest.mark.parametrize("later", [asyncio.Future, ThreadFuture, DeferredReply])
async def test_a_later_reply_is_not_set_to_what_comes_later_itself(later: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match="await it first"):
        DeferredReply[Any]().set(later())


async def test_a_later_reply_is_refused_with_an_error_or_its_class_and_nothing_else() -> None:
    reply = DeferredReply[None]()
    doer = worker("d", Doer)
    async with System(supervisor("root", doer)):
        ask = doer.ask(Do(lambda _doer: reply))
        await asyncio.sleep(1)
        with pytest.raises(TypeError, match="is refused with an error"):
            reply.refuse("no")  # type: ignore[arg-type]
        reply.refuse(StopIteration)  # type: ignore[arg-type]
        with pytest.raises(ActorCrashedError):
            await ask


def test_a_later_reply_has_no_subclasses_which_nobody_would_wait_for() -> None:
    with pytest.raises(TypeError, match="no subclasses"):
        type("Own", (DeferredReply,), {})


# Contexts, names, depths ---------------------------------------------------------------------------------------------

LEFT: ContextVar[str] = ContextVar("left", default="nothing")


async def test_hooks_see_nothing_of_where_the_system_was_made_nor_of_the_handler_that_spawns() -> None:
    seen: list[tuple[str, str, int]] = []

    class Hooked(Actor[None]):
        async def on_start(self) -> None:
            seen.append(("start", LEFT.get(), decimal.getcontext().prec))

        async def on_stop(self) -> None:
            seen.append(("stop", LEFT.get(), decimal.getcontext().prec))

    async def spawn(doer: Doer) -> Any:
        LEFT.set("the handler's")
        decimal.getcontext().prec = 3
        await doer.spawn(worker("child", Hooked))
        return current_context()

    LEFT.set("the program's")
    doer = worker("d", Doer)
    async with System(supervisor("root", doer, worker("h", Hooked))):
        await doer.ask(Do(spawn))
    clean = decimal.DefaultContext.prec
    assert seen == [("start", "nothing", clean)] * 2 + [("stop", "nothing", clean)] * 2


async def test_a_start_hook_asks_within_the_deadline_of_the_handler_that_spawns() -> None:
    deadlines: list[float | None] = []

    class Hooked(Actor[None]):
        async def on_start(self) -> None:
            context = current_context()
            deadlines.append(context and context.deadline)

    async def spawn(doer: Doer) -> None:
        await doer.spawn(worker("child", Hooked))

    doer = worker("d", Doer)
    async with System(supervisor("root", doer)):
        await doer.ask(Do(spawn), timeout_s=3)
    assert deadlines == [3.0]


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\nb", "\u202ea", "\x00", "\ud800", None, 5, b"x"])
def test_a_name_that_does_not_show_in_a_path_is_refused(name: Any) -> None:
    for make in (worker, supervisor, pool):
        with pytest.raises(ValueError, match="of characters that show"):
            make(*((name, Doer) if make is not supervisor else (name,)), **({"size": 1} if make is pool else {}))  # type: ignore[operator]


async def test_actors_that_spawn_one_another_stand_so_deep_and_no_deeper() -> None:
    async def spawn(doer: Doer) -> Ref[Any]:
        return await doer.spawn(worker("d", Doer))

    doer: Any = worker("d", Doer)
    async with System(supervisor("root", doer), log=False) as system:
        for _ in range(63):
            doer = await doer.ask(Do(spawn))
        with pytest.raises(TooDeepError):
            await doer.ask(Do(spawn))
        assert system.find("/".join(["d"] * 60))
