"""What has been answered, refused, cancelled or timed out leaves at once, and waits for nothing."""

import asyncio
import gc

import pytest
from kit.recorder import Note, Notes, Recorder, Refuse, Wait

from callboard.runtime import (
    Actor,
    AskTimeoutError,
    Context,
    Counts,
    EntitiesFullError,
    Mailbox,
    MailboxFullError,
    Message,
    Overflow,
    Props,
    Ref,
    Refusal,
    Request,
    System,
    current_context,
    entities,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.actor.envelope import Envelope


def now() -> float:
    return asyncio.get_running_loop().time()


def envelopes() -> int:
    gc.collect()
    return sum(type(each) is Envelope for each in gc.get_objects())


@pytest.mark.long
async def test_refused_and_cancelled_asks_with_long_timeouts_leave_no_envelope() -> None:
    class Stuck(Recorder):
        @on(Wait)
        async def wait(self, _message: Wait) -> str:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    recorder, before = worker("r", Stuck), envelopes()
    async with System(supervisor("root", recorder)):
        for n in range(300):
            refused = recorder.ask(Refuse(), timeout_s=3600)
            cancelled = recorder.ask(Wait(9), timeout_s=3600 + n % 99)  # of more lengths than have a timer for all
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(Refusal):
                await refused
        del refused, cancelled
        await asyncio.sleep(0.1)
        assert envelopes() <= before


async def test_cancelled_asks_give_their_room_in_the_mailbox_back() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(8, Overflow.REJECT))
    async with System(supervisor("root", recorder)):
        busy = recorder.ask(Wait(60), timeout_s=99)
        await asyncio.sleep(1)
        waiting = [recorder.ask(Notes(), timeout_s=99) for _ in range(8)]
        with pytest.raises(MailboxFullError):
            recorder.tell_nowait(Note("no room"))
        for each in waiting:
            each.cancel()
        await asyncio.sleep(0)
        assert recorder.tally() == Counts(returned=8, pending=1)
        for n in range(8):
            recorder.tell_nowait(Note(str(n)))
        await busy
        assert await recorder.ask(Notes()) == ["done", *map(str, range(8))]


async def test_asks_that_timed_out_give_their_room_back_and_let_in_who_waits_for_it() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(1))
    async with System(supervisor("root", recorder)):
        busy = recorder.ask(Wait(60), timeout_s=99)
        await asyncio.sleep(1)
        short = recorder.ask(Notes(), timeout_s=2)
        waiting = asyncio.ensure_future(recorder.tell(Note("waited")))  # type: ignore[arg-type]
        with pytest.raises(AskTimeoutError):
            await short
        await waiting
        assert now() == pytest.approx(3)
        assert recorder.tally() == Counts(expired=1, pending=2)
        await busy


async def test_a_cancelled_ask_leaves_a_stash() -> None:
    class Shelf(Actor[Wait]):
        @on(Wait)
        def wait(self, message: Wait) -> str:
            self.stash(message)
            return ""

    shelf = worker("s", Shelf)
    async with System(supervisor("root", shelf)):
        asking = shelf.ask(Wait(1), timeout_s=99)
        await asyncio.sleep(1)
        assert shelf.tally() == Counts(pending=1)
        asking.cancel()
        await asyncio.sleep(0)
        assert shelf.tally() == Counts(returned=1)


@pytest.mark.parametrize("way", ["tell", "ask"])
async def test_senders_that_wait_for_room_are_bounded_and_leave_when_they_are_cancelled(way: str) -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(1, max_waiting=100))

    def send() -> "asyncio.Future[None]":
        if way == "ask":
            return recorder.ask(Wait(0), timeout_s=99)  # type: ignore[return-value]
        return recorder.tell(Note("a"))  # type: ignore[return-value]

    async with System(supervisor("root", recorder)):
        busy = recorder.ask(Wait(60), timeout_s=99)
        await asyncio.sleep(1)
        recorder.tell_nowait(Note("fills the mailbox"))
        waiting = [send() for _ in range(100)]
        with pytest.raises(MailboxFullError):
            send()
        for each in waiting[:50]:
            each.cancel()
        await asyncio.sleep(0)
        assert len(recorder.record.waiters) == 50
        waiting += [send() for _ in range(50)]
        with pytest.raises(MailboxFullError):
            send()
        await busy
        await asyncio.gather(*waiting[50:])
        assert recorder.tally() == Counts(handled=102)


async def test_senders_that_wait_for_an_entity_are_bounded_and_leave_when_they_are_cancelled() -> None:
    class Keyed(Request[int], frozen=True):
        key: int

    class Busy(Actor[Keyed]):
        def __init__(self, _key: object) -> None: ...

        @on(Keyed)
        async def wait(self, message: Keyed) -> int:
            await asyncio.sleep(60)
            return message.key

    each = entities(
        "e", Busy, key=lambda message: message.key, idle_s=1, limit=1, mailbox=Mailbox(1, max_waiting=3)
    )  # fmt: skip
    async with System(supervisor("root", each)):
        first = each.ask(Keyed(0), timeout_s=999)
        await asyncio.sleep(1)
        waiting = [each.ask(Keyed(n), timeout_s=999) for n in (1, 2, 2)]
        with pytest.raises(EntitiesFullError):
            each.ask(Keyed(3), timeout_s=999)
        waiting[1].cancel()
        await asyncio.sleep(0)
        waiting[1] = each.ask(Keyed(4), timeout_s=999)
        assert await asyncio.gather(first, *waiting) == [0, 1, 4, 2]


# What has been answered waits for nothing ----------------------------------------------------------------------------


class Begin(Request[str], frozen=True):
    pass


class End(Request[Context | None], frozen=True):
    pass


async def test_a_task_that_a_handler_left_asks_its_own_actor_and_has_no_deadline() -> None:
    left: list[asyncio.Task[Context | None]] = []

    class Lasting(Actor[Begin | End]):
        @on(Begin)
        async def begin(self, _message: Begin) -> str:
            left.append(asyncio.create_task(self.go_on()))
            return "begun"

        async def go_on(self) -> Context | None:
            await asyncio.sleep(10)
            assert current_context() == Context("00-trace")
            return await self.ref.ask(End(), timeout_s=60)

        @on(End)
        def end(self, _message: End) -> Context | None:
            return current_context()

    lasting = worker("l", Lasting)
    async with System(supervisor("root", lasting)):
        from callboard.runtime import use_context  # noqa: PLC0415 - only here

        with use_context(Context("00-trace")):
            assert await lasting.ask(Begin(), timeout_s=2) == "begun"
        assert await left[0] == Context("00-trace", 70.0)


async def test_a_task_left_behind_tells_and_makes_timers_without_the_dead_requests_deadline() -> None:
    seen: list[Context | None] = []

    class Lasting(Actor[Begin | Note]):
        @on(Begin)
        async def begin(self, _message: Begin) -> str:
            left.append(asyncio.create_task(self.go_on()))
            return "begun"

        async def go_on(self) -> None:
            await asyncio.sleep(10)
            await self.ref.tell(Note("told"))
            self.after(1, Note("timed"))

        @on(Note)
        def note(self, _message: Note) -> None:
            seen.append(current_context())

    left: list[asyncio.Task[None]] = []
    lasting = worker("l", Lasting)
    async with System(supervisor("root", lasting)):
        await lasting.ask(Begin(), timeout_s=2)
        await asyncio.sleep(20)
        assert seen == [Context(), Context()]
        assert lasting.tally().expired == 0


async def test_whoever_was_answered_is_no_link_of_a_cycle() -> None:
    class Outer(Actor[Begin | Wait]):
        def __init__(self) -> None:
            self.other: Ref[Begin]

        async def on_start(self) -> None:
            self.other = inner

        @on(Begin)
        async def begin(self, _message: Begin) -> str:
            asking = asyncio.create_task(self.ask_inner())
            left.append(asking)
            await asyncio.sleep(1)
            return "gone on"  # and nobody waits for the other's reply

        async def ask_inner(self) -> str:
            return await self.other.ask(Begin(), timeout_s=60)

        @on(Wait)
        def wait(self, message: Wait) -> str:
            return message.text

    class Inner(Actor[Begin]):
        @on(Begin)
        async def begin(self, _message: Begin) -> str:
            await asyncio.sleep(2)
            return await outer.ask(Wait(0, "no cycle"))

    left: list[asyncio.Task[str]] = []
    inner = worker("i", Inner)
    outer = worker("o", Outer)
    async with System(supervisor("root", inner, outer)):
        assert await outer.ask(Begin()) == "gone on"
        assert await left[0] == "no cycle"


# Handlers that return what is to be awaited --------------------------------------------------------------------------


class Ask(Request[str], frozen=True):
    pass


class AskLater(Request[str], frozen=True):
    pass


class Forwards(Actor[Ask | AskLater]):
    def __init__(self, other: Ref[Wait]) -> None:
        self.other = other

    @on(Ask)
    def ask(self, _message: Ask) -> "asyncio.Future[str]":
        return self.other.ask(Wait(2, "from afar"))

    @on(AskLater)
    async def ask_later(self, _message: AskLater) -> "asyncio.Future[str]":  # type: ignore[type-var,misc]
        await asyncio.sleep(0)
        return self.other.ask(Wait(2, "from afar"))


@pytest.mark.parametrize("request_", [Ask(), AskLater()])
async def test_an_ask_that_a_handler_returns_is_awaited(request_: Request[str]) -> None:
    recorder = worker("r", Recorder)
    crowd = pool("p", Props(Forwards, recorder), size=2)
    forwards = worker("f", Props(Forwards, recorder))
    async with System(supervisor("root", recorder, forwards, crowd)):
        assert await forwards.ask(request_) == "from afar"
        assert await crowd.ask(request_) == "from afar"
        with pytest.raises(AskTimeoutError, match="root/f gave no reply"):
            await forwards.ask(request_, timeout_s=1)
        assert await recorder.ask(Notes()) == ["from afar", "from afar"]
        await forwards.tell(request_)
        assert len(await recorder.ask(Notes(), timeout_s=9)) == 2


def test_a_generator_is_no_handler() -> None:
    with pytest.raises(TypeError, match=r"the handler .*\.plain of Note is a generator"):

        class Plain(Actor[Note]):
            @on(Note)
            def plain(self, message: Note):  # type: ignore[no-untyped-def]  # noqa: ANN202
                yield message

    with pytest.raises(TypeError, match=r"the handler .*\.later of Note is a generator"):

        class Later(Actor[Note]):
            @on(Note)
            async def later(self, message: Note):  # type: ignore[no-untyped-def]  # noqa: ANN202
                yield message


async def test_a_handler_that_returns_a_generator_has_crashed() -> None:
    class Returns(Actor[Ask]):
        @on(Ask)
        def ask(self, _message: Ask) -> str:
            return (each for each in "abc")  # type: ignore[return-value]

    returns = worker("r", Returns)
    async with System(supervisor("root", returns)):
        with pytest.raises(TypeError, match="whose body has not run"):
            await returns.ask(Ask())


class Tick(Message, frozen=True):
    pass


async def test_a_timer_has_one_tick_outstanding_however_slow_its_handler_is() -> None:
    begun: list[float] = []

    class Slow(Actor[Tick]):
        async def on_start(self) -> None:
            self.every(0.001, Tick())

        @on(Tick)
        async def tick(self, _message: Tick) -> None:
            begun.append(now())
            await asyncio.sleep(10)

    slow = worker("s", Slow)
    async with System(supervisor("root", slow)):
        for _ in range(20):
            await asyncio.sleep(1.7)
            assert slow.tally().pending <= 1
    assert begun == pytest.approx([0.001, 10.002, 20.003, 30.004], abs=0.002)
