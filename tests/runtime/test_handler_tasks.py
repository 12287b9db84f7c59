"""Async handlers run in a task of their actor: whatever asks for the current task works, and no message hangs on it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from callboard.runtime import Actor, Cell, Message, Props, Request, Restart, Restarted, System, on, supervisor, worker
from callboard.runtime.dispatch.scheduler import BATCH, SWEEP_S
from callboard.runtime.testkit import EventRecorder

Work = Callable[[], Awaitable[str]]


class Do(Request[str], frozen=True):
    work: Work


class Plain(Message, frozen=True):
    text: str


class Doer(Actor[Do | Plain]):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    @on(Do)
    async def do(self, message: Do) -> str:
        return await message.work()

    @on(Plain)
    def plain(self, message: Plain) -> None:
        self.log.append(message.text)


@asynccontextmanager
async def doer() -> AsyncIterator[tuple[Cell[Do | Plain], list[str], System]]:
    log: list[str] = []
    ref = worker("d", Props(Doer, log))
    async with System(supervisor("root", ref), log=False) as system:
        yield ref, log, system


def current() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def at_once() -> str:
    return "done"


async def suspended() -> str:
    await asyncio.sleep(0)
    return "done"


async def asyncio_timeout() -> str:
    try:
        async with asyncio.timeout(1):
            await asyncio.sleep(60)
    except TimeoutError:
        return f"late {current().cancelling()}"
    return "never"


async def timeout_of_no_time() -> str:
    try:
        async with asyncio.timeout(0):
            await asyncio.sleep(60)
    except TimeoutError:
        return f"late {current().cancelling()}"
    return "never"


async def anyio_deadline() -> str:
    with pytest.raises(TimeoutError), anyio.fail_after(1):
        await asyncio.sleep(60)
    return f"late {current().cancelling()}"


async def anyio_scope_cancelled_at_once() -> str:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await asyncio.sleep(60)
    return f"late {current().cancelling()}"


async def a_group_that_fails() -> str:
    async def fail() -> None:
        raise LookupError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.sleep(60)
    except ExceptionGroup:
        return f"late {current().cancelling()}"
    return "never"


async def cancelled_by_itself_and_forgiven() -> str:
    current().cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(60)
    return f"late {current().uncancel()}"


WAYS = (
    asyncio_timeout,
    timeout_of_no_time,
    anyio_deadline,
    anyio_scope_cancelled_at_once,
    a_group_that_fails,
    cancelled_by_itself_and_forgiven,
)


@pytest.mark.parametrize("before", [None, at_once, suspended])
@pytest.mark.parametrize("way", WAYS)
async def test_what_cancels_the_current_task_works_in_a_handler(way: Work, before: Work | None) -> None:
    async with doer() as (ref, _, _):
        if before is not None:
            await ref.ask(Do(before))
        assert await asyncio.gather(*(ref.ask(Do(way)) for _ in range(2))) == ["late 0"] * 2
        assert await ref.ask(Do(suspended)) == "done"
        assert (ref.counts().failed, ref.record.restarts) == (0, 0)


async def test_a_message_that_comes_as_the_actors_task_is_cancelled_from_elsewhere_is_handled() -> None:
    tasks: list[asyncio.Task[object]] = []

    async def leak() -> str:
        tasks.append(current())
        return "done"

    async with doer() as (ref, log, _):
        for first in ("cancel", "tell"):
            await ref.ask(Do(leak))
            if first == "tell":
                ref.tell_nowait(Plain(first))
            tasks[-1].cancel()
            ref.tell_nowait(Plain("after"))
            assert await ref.ask(Do(at_once)) == "done"
        assert log == ["after", "tell", "after"]
        assert ref.counts().pending == 0


async def test_a_task_that_is_not_needed_is_let_go_whatever_plain_messages_come() -> None:
    async with doer() as (ref, log, _):
        before = asyncio.all_tasks()
        assert await ref.ask(Do(suspended)) == "done"
        assert len(asyncio.all_tasks() - before) == 1
        for n in range(30):
            await ref.tell(Plain(str(n)))
            await asyncio.sleep(SWEEP_S / 10)
        assert asyncio.all_tasks() == before
        assert log == [str(n) for n in range(30)]
        assert await ref.ask(Do(suspended)) == "done"


async def test_a_task_that_is_needed_now_and_then_is_kept() -> None:
    tasks: set[asyncio.Task[object]] = set()

    async def note() -> str:
        tasks.add(current())
        return "done"

    async with doer() as (ref, _, _):
        for _ in range(9):
            await ref.ask(Do(note))
            await asyncio.sleep(SWEEP_S)
    assert len(tasks) == 1


async def test_a_message_that_comes_at_the_sweep_is_handled() -> None:
    async with doer() as (ref, log, _):
        loop = asyncio.get_running_loop()
        for n in range(4):
            assert await ref.ask(Do(at_once)) == "done"
            for share in (1, 2):  # when it is looked at, and when it is let go
                loop.call_later(share * SWEEP_S, ref.tell_nowait, Plain(f"{n} {share}"))
            await asyncio.sleep(4 * SWEEP_S)
        assert log == [f"{n} {share}" for n in range(4) for share in (1, 2)]


async def test_a_message_that_comes_as_the_actor_is_killed_waits_for_its_restart() -> None:
    async with doer() as (ref, log, system):
        recorder = EventRecorder(system)
        await ref.ask(Do(at_once))
        await ref.tell(Plain("wakes"))
        ref.kill()
        await ref.tell(Plain("waits"))
        await recorder.wait_for(Restarted)
        assert await ref.ask(Do(at_once)) == "done"
        assert log == ["wakes", "waits"]
        assert ref.counts().failed == 0


async def test_an_exit_at_once_after_a_message_leaves_it_to_the_end() -> None:
    log: list[str] = []
    ref = worker("d", Props(Doer, log), restart=Restart.TEMPORARY)
    async with System(supervisor("root", ref)):
        await ref.ask(Do(at_once))
        await ref.tell(Plain("wakes"))
        ref.exit()
        await asyncio.sleep(1)
    assert (log, ref.counts().dead_lettered, ref.counts().pending) == ([], 1, 0)


async def test_an_actor_with_much_to_do_gives_others_their_turn_after_a_batch() -> None:
    seen: list[int] = []

    async with doer() as (ref, log, _):
        await ref.ask(Do(at_once))
        for n in range(3 * BATCH):
            ref.tell_nowait(Plain(str(n)))
        while len(log) < 3 * BATCH:
            await asyncio.sleep(0)
            seen.append(len(log))
    assert seen[:3] == [BATCH, 2 * BATCH, 3 * BATCH]
