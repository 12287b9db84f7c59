"""Handlers at once: what an actor gets, and gives up, by setting a concurrency."""

import asyncio
from typing import ClassVar

import pytest
from kit.recorder import Note, Wait

from callboard.runtime import (
    Actor,
    ActorCrashedError,
    AskTimeoutError,
    ConcurrentStashError,
    Mailbox,
    MailboxFullError,
    Message,
    Overflow,
    Props,
    State,
    System,
    on,
    pool,
    snapshot,
    supervisor,
    worker,
)


class Break(Message, frozen=True):
    """Crash."""


class Desk(Actor[Wait | Note | Break]):
    """Three at once; notes who begins and who ends."""

    concurrency: ClassVar[int] = 3

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @on(Wait)
    async def wait(self, message: Wait) -> str:
        self.log.append(f"+{message.text}")
        await asyncio.sleep(message.seconds)
        self.log.append(f"-{message.text}")
        return message.text

    @on(Note)
    def note(self, message: Note) -> None:
        self.log.append(message.text)

    @on(Break)
    async def crash(self, message: Break) -> None:  # noqa: ARG002 - a handler's face
        await asyncio.sleep(1)
        raise ValueError("broken")


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_an_actor_that_opts_in_runs_as_many_handlers_at_once_as_its_concurrency_says() -> None:
    log: list[str] = []
    command_context = worker("d", Props(Desk, log))
    async with System(supervisor("root", command_context)):
        begun = now()
        replies = await asyncio.gather(*(command_context.ask(Wait(1, str(n)), 60) for n in range(7)))
        assert now() - begun == pytest.approx(3)
        assert replies == [str(n) for n in range(7)]
        assert log[:3] == ["+0", "+1", "+2"]
        assert [line for line in log if line[0] == "+"] == [f"+{n}" for n in range(7)]


async def test_they_end_in_any_order_and_each_answers_its_own_asker() -> None:
    log: list[str] = []
    command_context = worker("d", Props(Desk, log))
    async with System(supervisor("root", command_context)):
        assert await asyncio.gather(*(command_context.ask(Wait(s, str(s)), 60) for s in (3, 1, 2))) == ["3", "1", "2"]
        assert log[3:] == ["-1", "-2", "-3"]


async def test_the_next_begins_as_soon_as_any_has_ended() -> None:
    log: list[str] = []
    command_context = worker("d", Props(Desk, log))
    async with System(supervisor("root", command_context)):
        await asyncio.gather(*(command_context.ask(Wait(s, str(s)), 60) for s in (9, 1, 2, 3, 4)))
        assert log[3:] == ["-1", "+3", "-2", "+4", "-3", "-4", "-9"]


async def test_plain_handlers_run_between_them() -> None:
    log: list[str] = []
    command_context = worker("d", Props(Desk, log))
    async with System(supervisor("root", command_context)):
        slow = command_context.ask(Wait(5, "slow"), 60)
        command_context.tell_nowait(Note("plain"))
        await asyncio.sleep(1)
        assert log == ["+slow", "plain"]
        await slow


async def test_those_in_hand_are_pending_and_shown_in_the_tree() -> None:
    command_context = worker("d", Props(Desk, []))
    async with System(supervisor("root", command_context)):
        asks = [command_context.ask(Wait(5, str(n)), 60) for n in range(5)]
        await asyncio.sleep(1)
        counts = command_context.tally()
        assert (counts.pending, counts.handled, counts.accepted) == (5, 0, 5)
        dump = snapshot(command_context)
        assert (dump.current, dump.depth, dump.oldest_s) == ("Wait", 2, 1)
        await asyncio.gather(*asks)
        counts = command_context.tally()
        assert (counts.pending, counts.handled, counts.accepted) == (0, 5, 5)


async def test_a_timeout_cancels_only_its_own_handler() -> None:
    log: list[str] = []
    command_context = worker("d", Props(Desk, log))
    async with System(supervisor("root", command_context)):
        hasty, patient = command_context.ask(Wait(5, "hasty"), 1), command_context.ask(Wait(2, "patient"), 60)
        with pytest.raises(AskTimeoutError):
            await hasty
        assert await patient == "patient"
        assert "-hasty" not in log
        assert (command_context.tally().expired, command_context.tally().handled) == (1, 1)
        assert command_context.state is State.RUNNING


async def test_a_crash_ends_the_others_and_what_waits_survives_the_restart() -> None:
    log: list[str] = []
    command_context = worker("d", Props(Desk, log))
    async with System(supervisor("root", command_context)):
        first = command_context.ask(Wait(5, "first"), 60)
        await command_context.tell(Break())
        second = command_context.ask(Wait(5, "second"), 60)
        queued = command_context.ask(Wait(1, "queued"), 60)
        for lost in (first, second):
            with pytest.raises(ActorCrashedError):
                await lost
        assert await queued == "queued"
        counts = command_context.tally()
        assert (counts.failed, counts.handled, counts.pending) == (3, 1, 0)
        assert command_context.record.restarts == 1


async def test_a_stop_lets_all_in_hand_finish_within_its_time_and_cancels_the_others() -> None:
    log: list[str] = []
    command_context = worker("d", Props(Desk, log), shutdown_s=2)
    system = System(supervisor("root", command_context))
    await system.start()
    asks = [command_context.ask(Wait(s, str(s)), 60) for s in (1, 2, 9)]
    await asyncio.sleep(0.5)
    await system.stop()
    ends = await asyncio.gather(*asks, return_exceptions=True)
    assert ends[:2] == ["1", "2"]
    assert isinstance(ends[2], ActorCrashedError)
    assert now() == pytest.approx(2.5)


async def test_a_drain_finishes_all_that_was_accepted() -> None:
    command_context = worker("d", Props(Desk, []))
    async with System(supervisor("root", command_context)):
        asks = [command_context.ask(Wait(1, str(n)), 60) for n in range(8)]
        assert await command_context.drain(60) == 0
        assert await asyncio.gather(*asks) == [str(n) for n in range(8)]


async def test_an_exit_waits_for_all_in_hand_and_begins_no_other() -> None:
    class Leaver(Actor[Wait]):
        concurrency = 2

        @on(Wait)
        async def wait(self, message: Wait) -> int:
            if message.text == "exit":
                self.stop()
            await asyncio.sleep(message.seconds)
            return self.ref.record.restarts

    leaver = worker("l", Leaver)
    async with System(supervisor("root", leaver)):
        asks = [leaver.ask(Wait(seconds, text), 60) for seconds, text in ((3, ""), (1, "exit"), (1, ""))]
        assert await asyncio.gather(*asks) == [0, 0, 1]
        assert now() == pytest.approx(4)


async def test_a_killed_handler_that_had_not_begun_is_given_back_to_the_next_incarnation() -> None:
    log: list[str] = []
    command_context = worker("d", Props(Desk, log))
    async with System(supervisor("root", command_context)):
        ask = command_context.ask(Wait(1, "a"), 60)
        asyncio.get_running_loop().call_soon(command_context.kill)
        assert await ask == "a"
        assert log == ["+a", "-a"]


async def test_its_mailbox_is_bounded_and_room_comes_as_handlers_begin() -> None:
    command_context = worker("d", Props(Desk, []), mailbox=Mailbox(2, Overflow.REJECT))
    async with System(supervisor("root", command_context)):
        for batch in ("abc", "de"):
            for text in batch:
                await command_context.tell(Wait(1, text))
                await asyncio.sleep(0.01)
        with pytest.raises(MailboxFullError):
            await command_context.tell(Wait(1, "f"))


async def test_a_sender_waits_for_room_while_as_many_as_allowed_run() -> None:
    command_context = worker("d", Props(Desk, []), mailbox=Mailbox(1))
    async with System(supervisor("root", command_context)):
        for n in range(8):
            await command_context.tell(Wait(1, str(n)))
        assert now() == pytest.approx(2)


async def test_its_messages_cannot_be_stashed() -> None:
    class Stasher(Actor[Wait]):
        concurrency = 2

        @on(Wait)
        async def wait(self, message: Wait) -> str:
            self.stash(message)
            return ""

    stasher = worker("s", Stasher)
    async with System(supervisor("root", stasher)):
        with pytest.raises(ConcurrentStashError, match="root/s runs several handlers at once and cannot stash Wait"):
            await stasher.ask(Wait(1, "a"))


def test_a_concurrency_of_none_is_refused_when_the_class_is_defined() -> None:
    with pytest.raises(TypeError, match="runs at least 1 handler at once, not 0"):

        class Idle(Actor[Note]):
            concurrency = 0

            @on(Note)
            def note(self, message: Note) -> None: ...


def test_a_pool_by_key_of_such_actors_is_refused() -> None:
    with pytest.raises(ValueError, match="pool p keeps the order of a key"):
        pool("p", Props(Desk, []), size=2, key=lambda message: message.text)


async def test_a_pool_of_such_actors_shrinks_without_losing_what_is_in_hand() -> None:
    desks = pool("p", Props(Desk, []), size=3, shutdown_s=60)
    async with System(supervisor("root", desks)):
        asks = [desks.ask(Wait(1 + n % 4, str(n)), 60) for n in range(20)]
        await asyncio.sleep(0.5)
        await desks.resize(1)
        assert await asyncio.gather(*asks) == [str(n) for n in range(20)]
        assert desks.tally().handled == 20
