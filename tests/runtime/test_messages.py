"""Messages: protocols, order, mailboxes, and the one fate of each."""

import asyncio

import pytest
from kit.recorder import Fail, Note, Notes, Recorder, Wait

from callboard.runtime import (
    Actor,
    ActorStoppedError,
    Mailbox,
    MailboxFullError,
    Message,
    Overflow,
    Overflowed,
    Props,
    Request,
    System,
    UnhandledMessageError,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch


def test_a_message_is_a_frozen_msgspec_struct() -> None:
    with pytest.raises(AttributeError):
        Note("a").text = "b"  # type: ignore[misc]


def test_handlers_are_found_when_the_class_is_defined_and_a_declared_message_without_one_is_a_type_error_there() -> (
    None
):
    with pytest.raises(TypeError, match="Deaf declares Note and has no handler"):

        class Deaf(Actor[Note]):
            pass


def test_two_handlers_for_one_message_are_a_type_error_there() -> None:
    with pytest.raises(TypeError, match="handles Note twice"):

        class Torn(Actor[Note]):
            @on(Note)
            def one(self, message: Note) -> None: ...

            @on(Note)
            def two(self, message: Note) -> None: ...


def test_a_handler_for_an_undeclared_message_is_refused_when_the_class_is_defined() -> None:
    with pytest.raises(TypeError, match="handles Fail and does not declare it"):

        class Eager(Actor[Note]):
            @on(Note)
            def note(self, message: Note) -> None: ...

            @on(Fail)
            def fail(self, message: Fail) -> None: ...


def test_a_protocol_of_something_else_than_messages_is_refused() -> None:
    with pytest.raises(TypeError, match="union of Message classes"):

        class Odd(Actor[int]):  # type: ignore[type-var]
            pass


async def test_fifo_for_each_sender_and_receiver_pair() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        for n in range(1000):
            await (recorder.ask(Wait(0.01, str(n))) if n % 250 == 0 else recorder.tell(Note(str(n))))
        assert await recorder.ask(Notes()) == [str(n) for n in range(1000)]


async def test_an_actor_never_runs_two_handlers_at_once_unless_it_opts_in() -> None:
    log: list[str] = []
    recorder = worker("r", Props(Recorder, log))
    async with System(supervisor("root", recorder)):
        await asyncio.gather(*(recorder.ask(Wait(1, str(n)), timeout_s=60) for n in range(3)))
        assert asyncio.get_running_loop().time() == pytest.approx(3)


async def test_a_full_mailbox_does_exactly_what_is_configured_wait() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(2))
    async with System(supervisor("root", recorder)):
        waiting = asyncio.ensure_future(recorder.ask(Wait(10, "slow"), timeout_s=60))
        await asyncio.sleep(0.1)
        for n in range(5):
            await recorder.tell(Note(str(n)))
        assert asyncio.get_running_loop().time() == pytest.approx(10)
        await waiting
        assert await recorder.ask(Notes()) == ["slow", "0", "1", "2", "3", "4"]


async def test_a_full_mailbox_does_exactly_what_is_configured_reject_and_the_message_comes_back_in_the_error() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(1, Overflow.REJECT))
    async with System(supervisor("root", recorder)):
        await recorder.tell(Note("a"))
        with pytest.raises(MailboxFullError) as caught:
            await recorder.tell(Note("b"))
        assert caught.value.message == Note("b")


async def test_a_full_mailbox_does_exactly_what_is_configured_drop_newest() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(2, Overflow.DROP_NEWEST))
    async with System(supervisor("root", recorder)) as system:
        watch = Watch(system)
        for text in "abcd":
            recorder.tell_nowait(Note(text))
        await asyncio.sleep(1)
        assert await recorder.ask(Notes()) == ["a", "b"]
        assert recorder.tally().dropped == 2
        assert [event.message for event in watch.of(Overflowed)] == [Note("c"), Note("d")]


async def test_a_full_mailbox_does_exactly_what_is_configured_drop_oldest() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(2, Overflow.DROP_OLDEST))
    async with System(supervisor("root", recorder)):
        for text in "abcd":
            recorder.tell_nowait(Note(text))
        await asyncio.sleep(1)
        assert await recorder.ask(Notes()) == ["c", "d"]
        assert recorder.tally().dropped == 2


async def test_an_actor_that_would_wait_for_room_in_its_own_mailbox_is_refused() -> None:
    class Knock(Request[str], frozen=True):
        pass

    class Narcissus(Actor[Knock | Note]):
        @on(Knock)
        async def knock(self, _message: Knock) -> str:
            try:
                for n in range(3):
                    await self.ref.tell(Note(str(n)))
            except MailboxFullError:
                return "refused"
            return "waited"

        @on(Note)
        def note(self, message: Note) -> None: ...

    narcissus = worker("n", Narcissus, mailbox=Mailbox(1))
    async with System(supervisor("root", narcissus)):
        assert await narcissus.ask(Knock()) == "refused"


async def test_a_message_of_a_wrong_type_is_refused_at_the_sender() -> None:
    class Alien(Message, frozen=True):
        pass

    recorder = worker("r", Recorder)
    crowd = pool("p", Recorder, size=2, key=lambda message: message.text)
    async with System(supervisor("root", recorder, crowd)):
        with pytest.raises(UnhandledMessageError, match="does not handle Alien; it handles Fail, Note"):
            await recorder.tell(Alien())  # type: ignore[arg-type]
        with pytest.raises(UnhandledMessageError):
            await crowd.tell(Alien())  # type: ignore[arg-type]


async def test_a_stopped_actor_hands_the_message_back() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        pass
    with pytest.raises(ActorStoppedError) as caught:
        await recorder.tell(Note("late"))
    assert caught.value.message == Note("late")


async def test_a_message_sent_before_the_start_is_handled_after_it() -> None:
    recorder = worker("r", Recorder)
    await recorder.tell(Note("early"))
    async with System(supervisor("root", recorder)):
        assert await recorder.ask(Notes()) == ["early"]


async def test_accepted_is_handled_failed_expired_dropped_dead_lettered_returned_and_pending_at_every_instant() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(8, Overflow.DROP_OLDEST))
    sums: list[bool] = []

    def check() -> None:
        counts = recorder.tally()
        fates = counts.handled + counts.failed + counts.expired + counts.dropped
        sums.append(counts.accepted == fates + counts.dead_lettered + counts.returned + counts.pending)

    async with System(supervisor("root", recorder)) as system:
        system.subscribe(lambda _event: check())
        asks = [asyncio.ensure_future(recorder.ask(Wait(n % 3), timeout_s=1 + n % 2)) for n in range(5)]
        for n in range(50):
            recorder.tell_nowait(Note(str(n)))
            check()
            if n % 10 == 0:
                await asyncio.sleep(0.3)
                asks[n // 10].cancel()
            check()
        await asyncio.gather(*asks, return_exceptions=True)
        check()
        recorder.tell_nowait(Fail())
        await asyncio.sleep(1)
        for n in range(4):
            recorder.tell_nowait(Note(str(n)))
        check()
    check()
    assert len(sums) > 100
    assert all(sums)
    assert recorder.tally().pending == 0
