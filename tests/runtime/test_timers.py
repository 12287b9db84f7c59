"""Timers: they tick on time, and die with the incarnation that made them."""

import asyncio
from typing import Any

import pytest
from kit.recorder import Fail, Wait

from callboard.runtime import (
    Actor,
    Backoff,
    Context,
    Mailbox,
    Message,
    Overflow,
    Overflowed,
    Props,
    Request,
    System,
    Timer,
    UnhandledMessageError,
    current_context,
    on,
    supervisor,
    use_context,
    worker,
)
from callboard.runtime.testkit import Watch


class Tick(Message, frozen=True):
    of: int = 0


class Set(Request[None], frozen=True):
    """Set a timer: once, or for ever."""

    seconds: float
    repeat: bool = False


class Unset(Request[None], frozen=True):
    pass


class Clock(Actor[Tick | Set | Unset | Fail | Wait]):
    """Ticks carry the number of the incarnation that set them."""

    def __init__(self, ticks: list[tuple[int, float]], contexts: list[Context | None] | None = None) -> None:
        self.ticks = ticks
        self.contexts = [] if contexts is None else contexts
        self.timer: Timer | None = None

    @on(Set)
    def set(self, message: Set) -> None:
        tick = Tick(self.ref.record.restarts)
        self.timer = (self.every if message.repeat else self.after)(message.seconds, tick)

    @on(Unset)
    def unset(self, _message: Unset) -> None:
        assert self.timer is not None
        self.timer.cancel()

    @on(Tick)
    def tick(self, message: Tick) -> None:
        self.ticks.append((message.of, asyncio.get_running_loop().time()))
        self.contexts.append(current_context())

    @on(Wait)
    async def wait(self, message: Wait) -> str:
        await asyncio.sleep(message.seconds)
        return message.text

    @on(Fail)
    def fail(self, message: Fail) -> None:
        raise ValueError(message.why)


async def test_after_ticks_once_and_every_again_and_again() -> None:
    ticks: list[tuple[int, float]] = []
    once, often = worker("o", Props(Clock, ticks)), worker("e", Props(Clock, ticks))
    async with System(supervisor("root", once, often)):
        await once.ask(Set(2.5))
        await often.ask(Set(1, repeat=True))
        await asyncio.sleep(4.2)
        assert [at for _, at in ticks] == pytest.approx([1, 2, 2.5, 3, 4])


async def test_a_cancelled_timer_does_not_tick() -> None:
    ticks: list[tuple[int, float]] = []
    clock = worker("c", Props(Clock, ticks))
    async with System(supervisor("root", clock)):
        await clock.ask(Set(1, repeat=True))
        await asyncio.sleep(1.5)
        await clock.ask(Unset())
        await clock.ask(Unset())
        await asyncio.sleep(10)
        assert len(ticks) == 1


async def test_a_tick_that_waits_in_the_mailbox_goes_with_its_timer() -> None:
    ticks: list[tuple[int, float]] = []
    clock = worker("c", Props(Clock, ticks))
    async with System(supervisor("root", clock)):
        await clock.ask(Set(1))
        asks: list[asyncio.Future[Any]] = [clock.ask(Wait(2)), clock.ask(Unset())]
        await asyncio.sleep(0)
        clock.tell_nowait(Tick(1))
        await asyncio.sleep(1.5)
        clock.tell_nowait(Tick(2))
        assert clock.tally().pending == 5, "Wait is in hand; Unset, a Tick, the timer's and another Tick wait"
        await asyncio.wait(asks)
        await asyncio.sleep(1)
        assert [of for of, _ in ticks] == [1, 2]
        assert clock.tally().expired == 1


async def test_a_restarted_actor_never_gets_a_stale_timer_tick_that_waited_in_its_mailbox() -> None:
    ticks: list[tuple[int, float]] = []
    clock = worker("c", Props(Clock, ticks), backoff=Backoff(initial_s=5))
    async with System(supervisor("root", clock)):
        await clock.ask(Set(1, repeat=True))
        await clock.ask(Set(2), timeout_s=600)
        busy = clock.ask(Wait(4.5))
        failing = clock.ask(Fail(), timeout_s=60)
        await busy
        with pytest.raises(ValueError, match="told to"):
            await failing
        await clock.tell(Tick(99))
        await asyncio.sleep(60)
        assert [of for of, _ in ticks] == [99]
        assert (clock.tally().expired, clock.tally().pending) == (2, 0), "the one tick of each that waited"


async def test_a_timer_made_while_the_actor_ends_never_ticks() -> None:
    ticks: list[tuple[int, float]] = []

    class Later(Clock):
        async def on_stop(self) -> None:
            self.set(Set(1, repeat=True))

    clock = worker("c", Props(Later, ticks))
    async with System(supervisor("root", clock)):
        await clock.tell(Fail())
        await asyncio.sleep(9)
    await asyncio.sleep(9)
    assert ticks == []


async def test_a_stopped_actor_gets_no_tick() -> None:
    ticks: list[tuple[int, float]] = []
    clock = worker("c", Props(Clock, ticks))
    async with System(supervisor("root", clock)):
        await clock.ask(Set(1, repeat=True))
    await asyncio.sleep(9)
    assert ticks == []
    assert clock.tally().accepted == 1


async def test_trace_context_and_deadline_survive_timers_of_after_and_the_trace_those_of_every() -> None:
    contexts: list[Context | None] = []
    clock = worker("c", Props(Clock, [], contexts))
    async with System(supervisor("root", clock)):
        with use_context(Context("00-trace", deadline=8.0)):
            await clock.ask(Set(3), timeout_s=60)
            await clock.ask(Set(10, repeat=True), timeout_s=60)
        await asyncio.sleep(11)
        assert contexts == [Context("00-trace", 8.0), Context("00-trace", None)]


async def test_a_tick_of_after_expires_with_the_deadline_it_was_made_under_unless_it_is_made_under_none() -> None:
    """A4: the deadline survives a timer. What must outlive the request is scheduled under no context."""

    class Patient(Clock):
        @on(Set)
        def set(self, message: Set) -> None:
            self.after(message.seconds, Tick(1))
            with use_context(None):
                self.after(message.seconds, Tick(2))

    ticks: list[tuple[int, float]] = []
    clock = worker("c", Props(Patient, ticks))
    async with System(supervisor("root", clock)):
        await clock.ask(Set(60), timeout_s=5)
        await asyncio.sleep(61)
        assert [of for of, _ in ticks] == [2]
        assert clock.tally().expired == 1


async def test_trace_context_and_deadline_survive_restarts() -> None:
    contexts: list[Context | None] = []
    clock = worker("c", Props(Clock, [], contexts), backoff=Backoff(initial_s=3))
    async with System(supervisor("root", clock)):
        await clock.tell(Fail())
        with use_context(Context("00-trace", deadline=8.0)):
            await clock.tell(Tick())
        with use_context(Context("00-late", deadline=2.0)):
            await clock.tell(Tick())
        await asyncio.sleep(5)
        assert contexts == [Context("00-trace", 8.0)]
        assert clock.tally().expired == 1, "its deadline passed while the actor was down"


async def test_a_tick_that_finds_a_full_mailbox_is_skipped() -> None:
    ticks: list[tuple[int, float]] = []
    clock = worker("c", Props(Clock, ticks), mailbox=Mailbox(2, Overflow.WAIT))
    async with System(supervisor("root", clock)) as system:
        watch = Watch(system)
        await clock.ask(Set(1, repeat=True))
        await clock.ask(Wait(4.5))
        await asyncio.sleep(0.1)
        assert len(ticks) == 1
        assert watch.of(Overflowed) == []
        await asyncio.sleep(1)
        assert len(ticks) == 2


async def test_a_tick_that_finds_a_mailbox_full_of_others_is_skipped() -> None:
    ticks: list[tuple[int, float]] = []
    clock = worker("c", Props(Clock, ticks), mailbox=Mailbox(2, Overflow.WAIT))
    async with System(supervisor("root", clock)) as system:
        watch = Watch(system)
        await clock.ask(Set(1, repeat=True))
        busy = clock.ask(Wait(2.5))
        await asyncio.sleep(0.1)
        waiting = [clock.ask(Wait(0)), clock.ask(Wait(0))]
        await asyncio.gather(busy, *waiting)
        assert ticks == []
        assert [event.message for event in watch.of(Overflowed)] == [Tick(), Tick()]


async def test_a_timer_for_a_message_without_a_handler_or_without_an_interval_is_refused() -> None:
    class Wrong(Actor[Set]):
        @on(Set)
        def set(self, message: Set) -> None:
            if message.repeat:
                self.every(message.seconds, message)
            else:
                self.after(message.seconds, Tick())

    wrong = worker("w", Wrong)
    async with System(supervisor("root", wrong)):
        with pytest.raises(UnhandledMessageError, match="root/w does not handle Tick; it handles Set"):
            await wrong.ask(Set(1))
        with pytest.raises(ValueError, match="root/w can tick every so many seconds, not every 0 s"):
            await wrong.ask(Set(0, repeat=True))
