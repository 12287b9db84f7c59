"""Deathwatch: one notice of an actor's end, whenever it comes."""

import asyncio
from typing import Any

import pytest
from kit.recorder import Fail, Note, Notes, Recorder, Wait

from callboard.runtime import (
    Actor,
    Cell,
    Message,
    Props,
    Request,
    Restart,
    Restarted,
    System,
    Terminated,
    on,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch


class Look(Message, frozen=True):
    """Watch that one, or, with `end`, watch it no more."""

    end: bool = False


class Seen(Request[list[Terminated]], frozen=True):
    pass


class Quit(Request[None], frozen=True):
    reason: str | None = None


class Quitting(Actor[Quit | Note]):
    @on(Quit)
    def quit(self, message: Quit) -> None:
        self.stop(message.reason)

    @on(Note)
    def note(self, message: Note) -> None: ...


class Mourner(Actor[Look | Seen | Fail | Terminated]):
    def __init__(self, other: Cell[Any]) -> None:
        self.other = other
        self.seen: list[Terminated] = []

    @on(Look)
    def look(self, message: Look) -> None:
        if message.end:
            self.unwatch(self.other)
        else:
            self.watch(self.other)

    @on(Terminated)
    def ended(self, message: Terminated) -> None:
        self.seen.append(message)

    @on(Seen)
    def read(self, _message: Seen) -> list[Terminated]:
        return self.seen

    @on(Fail)
    def fail(self, message: Fail) -> None:
        raise ValueError(message.why)


async def test_watchers_get_exactly_one_termination_notice_with_the_reason() -> None:
    target = worker("t", Recorder, restart=Restart.TEMPORARY)
    mourners = [worker(name, Props(Mourner, target)) for name in "ab"]
    async with System(supervisor("root", target, *mourners)):
        for mourner in mourners:
            await mourner.tell(Look())
            await mourner.tell(Look())
            assert await mourner.ask(Seen()) == []
        await target.tell(Fail("a fault"))
        await asyncio.sleep(1)
        for mourner in mourners:
            assert await mourner.ask(Seen()) == [Terminated("root/t", "ValueError: a fault")]


async def test_watchers_get_their_notice_even_for_an_actor_that_is_already_dead() -> None:
    target = worker("t", Recorder, restart=Restart.TEMPORARY)
    mourner = worker("m", Props(Mourner, target))
    async with System(supervisor("root", target, mourner)):
        await target.tell(Fail("a fault"))
        await asyncio.sleep(1)
        await mourner.tell(Look())
        assert await mourner.ask(Seen()) == [Terminated("root/t", "ValueError: a fault")]


@pytest.mark.parametrize(("reason", "said"), [(None, None), ("no more work", "Shutdown: no more work")])
async def test_a_normal_end_has_no_reason_and_a_shutdown_its_own(reason: str | None, said: str | None) -> None:
    target = worker("t", Quitting, restart=Restart.TRANSIENT)
    mourner = worker("m", Props(Mourner, target))
    async with System(supervisor("root", target, mourner)):
        await mourner.tell(Look())
        await mourner.ask(Seen())
        await target.ask(Quit(reason))
        await asyncio.sleep(1)
        assert await mourner.ask(Seen()) == [Terminated("root/t", said)]


async def test_a_restart_is_no_end() -> None:
    target = worker("t", Recorder)
    mourner = worker("m", Props(Mourner, target))
    root = supervisor("root", target, mourner)
    async with System(root) as system:
        watch = Watch(system)
        await mourner.tell(Look())
        await target.tell(Fail())
        await watch.wait_for(Restarted)
        assert await mourner.ask(Seen()) == []
        await root.terminate_child(target)
        assert await mourner.ask(Seen()) == [Terminated("root/t", None)]


async def test_an_actor_started_again_by_hand_is_watched_anew() -> None:
    target = worker("t", Recorder)
    mourner = worker("m", Props(Mourner, target))
    root = supervisor("root", target, mourner)
    async with System(root):
        for _ in range(2):
            await mourner.tell(Look())
            await mourner.ask(Seen())
            await root.terminate_child(target)
            await root.restart_child(target)
        assert await mourner.ask(Seen()) == [Terminated("root/t", None)] * 2


async def test_a_watcher_that_restarts_watches_on() -> None:
    target = worker("t", Recorder)
    mourner = worker("m", Props(Mourner, target))
    root = supervisor("root", target, mourner)
    async with System(root) as system:
        watch = Watch(system)
        await mourner.tell(Look())
        await mourner.tell(Fail())
        await watch.wait_for(Restarted)
        await root.stop_child(target)
        assert await mourner.ask(Seen()) == [Terminated("root/t", None)]


async def test_who_does_not_watch_any_more_is_told_nothing() -> None:
    target = worker("t", Recorder)
    mourner = worker("m", Props(Mourner, target))
    root = supervisor("root", target, mourner)
    async with System(root):
        await mourner.tell(Look())
        await mourner.tell(Look(end=True))
        await mourner.ask(Seen())
        await root.stop_child(target)
        assert await mourner.ask(Seen()) == []


async def test_the_notice_reaches_a_watcher_whose_mailbox_is_full() -> None:
    class Slow(Mourner):
        @on(Fail)
        async def fail(self, _message: Fail) -> None:
            await asyncio.sleep(10)

    target = worker("t", Recorder)
    mourner = worker("m", Props(Slow, target), mailbox={"capacity": 1, "overflow": "reject"})
    root = supervisor("root", target, mourner)
    async with System(root):
        await mourner.tell(Look())
        await asyncio.sleep(1)
        await mourner.tell(Fail())
        await asyncio.sleep(1)
        await mourner.tell(Look())
        await root.stop_child(target)
        await asyncio.sleep(20)
        assert Terminated("root/t", None) in await mourner.ask(Seen())


async def test_a_watcher_that_ended_is_forgotten() -> None:
    target = worker("t", Recorder)
    root = supervisor("root", target)
    async with System(root):
        for n in range(10):
            mourner = worker(f"m{n}", Props(Mourner, target))
            await root.start_child(mourner)
            await mourner.tell(Look())
            await mourner.ask(Seen())
            await root.stop_child(mourner)
        assert not target.deathwatch.watchers
        await root.stop_child(target)
        assert mourner.tally().pending == 0


async def test_watching_needs_a_handler_and_an_actor() -> None:
    class Careless(Actor[Wait]):
        def __init__(self, other: Any) -> None:
            self.other = other

        @on(Wait)
        def wait(self, _message: Wait) -> str:
            self.watch(self.other)
            return ""

    target = worker("t", Recorder)
    careless = worker("c", Props(Careless, target))
    group = supervisor("group")
    mourner = worker("m", Props(Mourner, group))
    async with System(supervisor("root", target, careless, mourner, group)):
        with pytest.raises(TypeError, match="root/c watches root/t and does not handle Terminated"):
            await careless.ask(Wait(0))
        await mourner.tell(Look())
        assert await target.ask(Notes()) == []
        await asyncio.sleep(1)
        assert mourner.record.restarts == 1
