"""State machines: `become` says which handlers hold, `stash` puts aside what the present state does not want."""

import asyncio

import pytest

from callboard.runtime import (
    Actor,
    Crashed,
    DeadLettered,
    Mailbox,
    Message,
    Refused,
    Request,
    Restarted,
    StashFullError,
    System,
    WrongStateError,
    on,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch


class Coin(Message, frozen=True):
    pass


class Push(Request[str], frozen=True):
    pass


class Break(Request[None], frozen=True):
    pass


class Turnstile(Actor[Coin | Push | Break]):
    """Locked before the first coin; then each push needs one."""

    @on(Coin)
    def unlock(self, _message: Coin) -> None:
        self.become("open")

    @on(Push, state="open")
    def pass_through(self, _message: Push) -> str:
        self.become(None)
        return "passed"

    @on(Break)
    def break_(self, _message: Break) -> None:
        raise OSError("broken")


async def test_a_message_is_handled_as_the_present_state_says() -> None:
    turnstile = worker("t", Turnstile)
    async with System(supervisor("root", turnstile)):
        with pytest.raises(WrongStateError, match="Push is not handled in the present state"):
            await turnstile.ask(Push())
        await turnstile.tell(Coin())
        assert await turnstile.ask(Push()) == "passed"
        with pytest.raises(WrongStateError):
            await turnstile.ask(Push())
        assert turnstile.record.restarts == 0


async def test_a_change_of_state_holds_from_the_next_message_on_also_within_a_burst() -> None:
    turnstile = worker("t", Turnstile)
    async with System(supervisor("root", turnstile)) as system:
        watch = Watch(system)
        for message in (Coin(), Push(), Push(), Coin(), Coin(), Push()):
            turnstile.tell_nowait(message)
        await asyncio.sleep(1)
        assert [event.message for event in watch.of(Refused)] == [Push()]
        assert (turnstile.tally().handled, turnstile.tally().failed) == (5, 1)


async def test_a_restart_begins_in_the_first_state() -> None:
    turnstile = worker("t", Turnstile)
    async with System(supervisor("root", turnstile)):
        await turnstile.tell(Coin())
        with pytest.raises(OSError, match="broken"):
            await turnstile.ask(Break())
        with pytest.raises(WrongStateError):
            await turnstile.ask(Push())


async def test_a_state_without_handlers_is_refused() -> None:
    class Lost(Actor[Break]):
        @on(Break)
        def go(self, _message: Break) -> None:
            self.become("opne")

    lost = worker("l", Lost)
    async with System(supervisor("root", lost)):
        with pytest.raises(ValueError, match="root/l has no handlers for a state 'opne'; it has none"):
            await lost.ask(Break())


class Query(Request[str], frozen=True):
    text: str


class Connected(Message, frozen=True):
    pass


class Connection(Actor[Query | Connected | Break]):
    """Holds queries back until it is connected."""

    @on(Query)
    def hold(self, message: Query) -> str:
        self.stash(message)
        return "nobody hears this: the reply comes later"

    @on(Query, state="connected")
    async def query(self, message: Query) -> str:
        await asyncio.sleep(0.1)
        return message.text

    @on(Connected)
    def connect(self, _message: Connected) -> None:
        self.become("connected")
        self.unstash()

    @on(Break)
    def break_(self, _message: Break) -> None:
        raise OSError("broken")


async def test_what_was_stashed_is_answered_later_before_what_came_after_it() -> None:
    connection = worker("c", Connection)
    async with System(supervisor("root", connection)):
        order: list[str] = []
        asks = []
        for text in "abc":
            ask = asyncio.ensure_future(connection.ask(Query(text)))
            ask.add_done_callback(lambda done: order.append(done.result()))
            asks.append(ask)
        await asyncio.sleep(1)
        assert (connection.tally().handled, connection.tally().pending) == (0, 3)
        await connection.tell(Connected())
        assert await connection.ask(Query("d")) == "d"
        assert order == ["a", "b", "c"]
        assert (connection.tally().handled, connection.tally().pending) == (5, 0)


async def test_what_was_stashed_survives_a_crash_in_order() -> None:
    connection = worker("c", Connection)
    async with System(supervisor("root", connection)) as system:
        watch = Watch(system)
        asks = [connection.ask(Query(text)) for text in "ab"]
        await asyncio.sleep(1)
        await connection.tell(Break())
        await watch.wait_for(Restarted)
        assert connection.tally().pending == 2
        await connection.tell(Connected())
        assert await asyncio.gather(*asks) == ["a", "b"]


async def test_one_object_that_is_told_and_stashed_twice_is_two_messages() -> None:
    class Torn(Connection):
        @on(Query)
        def hold(self, message: Query) -> None:
            self.stash(message)
            taken.append(message.text)
            if len(taken) == 3:
                raise ValueError("torn")

        @on(Query, state="connected")
        async def query(self, message: Query) -> None:
            taken.append(message.text)

    taken: list[str] = []
    torn, twice = worker("t", Torn), Query("twice")
    async with System(supervisor("root", torn), log=False):
        for message in (twice, Query("between"), twice, Connected()):
            torn.tell_nowait(message)
        await asyncio.sleep(1)
        assert taken[3:] == ["twice", "between"] * 2  # put aside again after the restart, then answered
        assert (torn.counts().handled, torn.counts().failed, torn.counts().pending) == (3, 1, 0)


async def test_an_asker_of_a_stashed_message_has_its_deadline() -> None:
    connection = worker("c", Connection)
    async with System(supervisor("root", connection)):
        with pytest.raises(TimeoutError):
            await connection.ask(Query("a"), timeout_s=2)
        assert asyncio.get_running_loop().time() == pytest.approx(2)
        await connection.tell(Connected())
        await asyncio.sleep(1)
        assert (connection.tally().expired, connection.tally().handled) == (1, 1)


async def test_what_is_stashed_at_the_stop_is_a_dead_letter_or_returned() -> None:
    connection = worker("c", Connection)
    async with System(supervisor("root", connection)) as system:
        watch = Watch(system)
        await connection.tell(Query("told"))
        asked = connection.ask(Query("asked"))
        await asyncio.sleep(1)
    assert [event.message for event in watch.of(DeadLettered)] == [Query("told")]
    assert asked.exception() is not None
    assert (connection.tally().dead_lettered, connection.tally().returned) == (1, 1)


async def test_a_stash_holds_no_more_than_the_mailbox() -> None:
    connection = worker("c", Connection, mailbox=Mailbox(2))
    async with System(supervisor("root", connection)) as system:
        watch = Watch(system)
        for text in "abc":
            await connection.tell(Query(text))
        (crashed,) = await watch.wait_for(Crashed)
        assert isinstance(crashed.error, StashFullError)
        assert "root/c has 2 messages stashed, as many as its mailbox holds" in str(crashed.error)
        await asyncio.sleep(1)
        assert connection.tally().pending == 2
        assert connection.tally().failed == 1
