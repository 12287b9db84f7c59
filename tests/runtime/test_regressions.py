"""Faults the runtime once had, each by what went wrong; most were found by tests/properties."""

import asyncio

import pytest
from kit.recorder import Fail, Note, Notes, Recorder, Shelf, Wait

from callboard.runtime import (
    Actor,
    ActorCrashedError,
    ActorStoppedError,
    Counts,
    DeadLettered,
    Mailbox,
    Message,
    Props,
    Request,
    Restart,
    Restarted,
    Retry,
    Started,
    State,
    System,
    Terminated,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch


def now() -> float:
    return asyncio.get_running_loop().time()


class Slow(Recorder):
    """Takes two seconds to start and one to stop."""

    async def on_start(self) -> None:
        await asyncio.sleep(2)
        await super().on_start()

    async def on_stop(self) -> None:
        await asyncio.sleep(1)
        await super().on_stop()


class Keyed(Message, frozen=True):
    key: int
    n: int
    seconds: float = 0.0


class Line(Actor[Keyed]):
    """Writes down what it handles, at its beginning and its end."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @on(Keyed)
    async def take(self, message: Keyed) -> None:
        self.log.append(f"{message.n} begins")
        await asyncio.sleep(message.seconds)
        self.log.append(f"{message.n} ends")


def in_order(*numbers: int) -> list[str]:
    return [f"{n} {word}" for n in numbers for word in ("begins", "ends")]


# Mailboxes -----------------------------------------------------------------------------------------------------------


async def test_a_message_overtook_those_that_waited_for_room() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(1))
    async with System(supervisor("root", recorder)):
        asks = [recorder.ask(Wait(1, "0"), 60)]
        await asyncio.sleep(0.1)
        asks += [recorder.ask(Wait(1, str(n)), 60) for n in (1, 2, 3)]
        await asyncio.sleep(1)
        asks.append(recorder.ask(Wait(1, "4"), 60))
        await asyncio.gather(*asks)
        assert await recorder.ask(Notes()) == ["0", "1", "2", "3", "4"]


async def test_a_notice_to_an_actor_that_had_no_message_yet_raised() -> None:
    class Widow(Actor[Terminated]):
        @on(Terminated)
        def mourn(self, _message: Terminated) -> None: ...

        async def on_start(self) -> None:
            self.watch(recorder)

    recorder, widow = worker("r", Recorder), worker("w", Widow)
    root = supervisor("root", recorder, widow)
    async with System(root):
        await root.stop_child(recorder)
        await asyncio.sleep(1)
        assert widow.tally() == Counts(handled=1)
    assert widow.state is State.STOPPED


async def test_a_notice_to_an_actor_that_had_stopped_stayed_pending_for_ever() -> None:
    class Widow(Actor[Terminated]):
        @on(Terminated)
        def mourn(self, _message: Terminated) -> None: ...

        async def on_start(self) -> None:
            self.watch(recorder)

    recorder, widow = worker("r", Recorder), worker("w", Widow)
    async with System(supervisor("root", recorder, widow)):
        pass
    assert widow.tally() == Counts()


# Handlers and fates --------------------------------------------------------------------------------------------------


class Torn(Actor[Wait | Fail | Note]):
    """Awaits, or itself raises, a cancellation that is not its own."""

    @on(Wait)
    async def wait(self, _message: Wait) -> str:
        inner = asyncio.ensure_future(asyncio.sleep(9, "never"))
        inner.cancel()
        return await inner

    @on(Fail)
    def fail(self, _message: Fail) -> None:
        raise asyncio.CancelledError

    @on(Note)
    def note(self, _message: Note) -> None: ...


@pytest.mark.parametrize("request_", [Wait(1), Fail()])
async def test_a_cancellation_from_within_a_handler_left_its_actor_stuck(request_: Request[object]) -> None:
    torn = worker("t", Torn)
    async with System(supervisor("root", torn)) as system:
        watch = Watch(system)
        await torn.tell(Note("before"))
        with pytest.raises(ActorCrashedError):
            await torn.ask(request_)
        await torn.tell(Note("after"))
        await watch.wait_for(Restarted)
        await asyncio.sleep(1)
        assert torn.tally() == Counts(handled=2, failed=1)


async def test_a_message_in_hand_that_was_stashed_was_counted_twice() -> None:
    shelf = worker("s", Shelf)
    async with System(supervisor("root", shelf)):
        shelf.tell_nowait(Wait(1))
        await asyncio.sleep(0.5)
        assert shelf.tally() == Counts(pending=1)
        await asyncio.sleep(1)
        assert shelf.tally() == Counts(pending=1)


async def test_a_message_stashed_before_its_asker_went_had_two_fates() -> None:
    shelf = worker("s", Shelf)
    async with System(supervisor("root", shelf)):
        asking = shelf.ask(Wait(5))
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.sleep(0.1)
        assert shelf.tally() == Counts(returned=1)
        await shelf.tell(Note("unstash"))
        await asyncio.sleep(0.1)
        assert shelf.tally() == Counts(handled=1, returned=1)


async def test_a_message_stashed_before_its_actor_was_killed_had_two_fates() -> None:
    shelf = worker("s", Shelf)
    async with System(supervisor("root", shelf)):
        asking = shelf.ask(Wait(5), 60)
        await asyncio.sleep(1)
        shelf.kill()
        with pytest.raises(ActorCrashedError):
            await asking
        await asyncio.sleep(1)
        assert shelf.tally() == Counts(failed=1)


async def test_messages_unstashed_outside_of_a_handler_waited_for_the_next_message() -> None:
    class Timid(Recorder):
        async def run(self) -> None:
            await asyncio.sleep(1)
            self.unstash()
            await asyncio.sleep(999)

        @on(Note)
        def note(self, message: Note) -> None:
            if now() < 1:
                self.stash(message)
            else:
                self.notes.append(message.text)

    timid = worker("t", Timid)
    async with System(supervisor("root", timid)):
        await timid.tell(Note("a"))
        await asyncio.sleep(2)
        assert timid.tally() == Counts(handled=1)


# Pools ---------------------------------------------------------------------------------------------------------------


async def test_a_resize_after_a_worker_ended_used_its_neighbours_name() -> None:
    crowd = pool("p", Recorder, size=3, restart=Restart.TEMPORARY)
    async with System(supervisor("root", crowd)):
        await crowd.tell(Fail())
        await asyncio.sleep(1)
        assert crowd.size == 2
        await crowd.resize(4)
        assert crowd.size == 4
        assert len({node.name for node in crowd.dump().children}) == 4


async def test_a_resize_kept_the_last_worker_although_it_had_ended() -> None:
    crowd = pool("p", Recorder, size=1, restart=Restart.TEMPORARY)
    async with System(supervisor("root", crowd)):
        await crowd.tell(Fail())
        await asyncio.sleep(1)
        await crowd.resize(2)
        assert [await crowd.ask(Notes()) for _ in range(2)] == [[], []]


async def test_a_resize_whose_new_worker_did_not_start_left_others_running_beside_the_pool() -> None:
    starts: list[int] = []

    class Third(Recorder):
        async def on_start(self) -> None:
            starts.append(1)
            if len(starts) == 3:
                raise OSError("no such port")

    crowd = pool("p", Third, size=1)
    async with System(supervisor("root", crowd)):
        with pytest.raises(OSError, match="no such port"):
            await crowd.resize(4)
        assert (crowd.size, len(crowd.children)) == (1, 1)


async def test_two_resizes_at_once_fell_over_each_other() -> None:
    crowd = pool("p", Slow, size=1)
    async with System(supervisor("root", crowd)):
        await asyncio.gather(crowd.resize(4), crowd.resize(2), crowd.resize(3))
        assert (crowd.size, len(crowd.children)) == (3, 3)


async def test_a_sender_that_waited_for_room_was_turned_away_by_a_resize() -> None:
    log: list[str] = []
    lines = pool("p", Props(Line, log), size=2, key=lambda message: message.key, mailbox=Mailbox(1))
    async with System(supervisor("root", lines)):
        await lines.tell(Keyed(1, 1, 5))
        await asyncio.sleep(0.1)
        await lines.tell(Keyed(1, 2))
        waiting = asyncio.ensure_future(lines.tell(Keyed(1, 3)))
        await asyncio.sleep(0.1)
        await lines.resize(1)
        await waiting
        await asyncio.sleep(1)
        assert log == in_order(1, 2, 3)


async def test_the_order_of_a_key_was_lost_when_a_worker_ended_during_a_resize() -> None:
    log: list[str] = []
    lines = pool("p", Props(Line, log), size=3, key=lambda message: message.key, restart=Restart.TEMPORARY)
    async with System(supervisor("root", lines)):
        await lines.tell(Keyed(2, 1, 4))
        await lines.tell(Keyed(2, 2))
        await asyncio.sleep(0.1)
        shrinking = asyncio.ensure_future(lines.resize(2))
        await asyncio.sleep(0.1)
        lines.children[0].kill()  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)
        await lines.tell(Keyed(2, 3))
        await shrinking
        await asyncio.sleep(1)
        assert log == in_order(1, 2, 3)


async def test_a_stash_was_thrown_away_by_a_resize() -> None:
    shelves = pool("p", Shelf, size=2)
    async with System(supervisor("root", shelves)):
        asks = [shelves.ask(Wait(0), 20) for _ in range(2)]
        await asyncio.sleep(1)
        await shelves.resize(1)
        await asyncio.sleep(1)
        assert sum(child.tally().returned for child in shelves.children) == 0  # type: ignore[attr-defined]
        assert not any(each.done() for each in asks)
    for each in asks:
        assert isinstance(each.exception(), ActorStoppedError)


async def test_a_worker_added_to_a_pool_that_was_down_made_dead_letters_in_silence() -> None:
    crowd = pool("p", Slow, size=1)
    system = System(supervisor("root", crowd))
    async with system:
        watch = Watch(system)
        halting = asyncio.ensure_future(crowd.halt())
        await asyncio.sleep(0.1)
        crowd.tell_nowait(Note("a"))
        crowd.tell_nowait(Note("b"))
        await crowd.resize(2)
        await halting
    assert len(watch.of(DeadLettered)) == 2


async def test_a_message_stashed_after_two_resizes_was_handed_over_twice() -> None:
    class Patient(Actor[Keyed]):
        @on(Keyed)
        async def take(self, message: Keyed) -> None:
            await asyncio.sleep(message.seconds)
            self.stash(message)

    crowd = pool("p", Patient, size=1, key=lambda message: message.key)
    async with System(supervisor("root", crowd)):
        await crowd.tell(Keyed(1, 1, 3))
        await asyncio.sleep(1)
        await crowd.resize(2)
        await crowd.resize(3)
        await asyncio.sleep(9)
        assert crowd.tally() == Counts(pending=1)


async def test_a_message_tried_again_during_a_stop_was_given_to_a_worker_that_had_stopped() -> None:
    class Late(Actor[Keyed]):
        @on(Keyed)
        async def take(self, message: Keyed) -> None:
            await asyncio.sleep(message.seconds)
            raise ValueError

    crowd = pool("p", Late, size=1, key=lambda message: message.key, retry=Retry(1))
    async with System(supervisor("root", crowd)):
        await crowd.tell(Keyed(1, 1, 2))
        await asyncio.sleep(1)
        await crowd.resize(2)
    assert crowd.tally() == Counts(dead_lettered=1)


async def test_a_message_to_be_tried_again_was_left_behind_by_a_resize() -> None:
    tries: list[int] = []

    class Second(Actor[Keyed]):
        @on(Keyed)
        async def take(self, message: Keyed) -> None:
            tries.append(message.n)
            await asyncio.sleep(message.seconds)
            if tries.count(message.n) < 2:
                raise ValueError

    for key in (None, lambda message: message.key):
        tries.clear()
        crowd = pool("p", Second, size=2, retry=Retry(2), key=key)
        async with System(supervisor("root", crowd)):
            await crowd.tell(Keyed(1, 0))
            await crowd.tell(Keyed(1, 1, 2))
            await crowd.tell(Keyed(1, 2))
            await asyncio.sleep(1)
            await crowd.resize(1)
            await asyncio.sleep(9)
            assert tries.count(1) == 2
            assert key is None or tries == [0, 0, 1, 1, 2, 2]


async def test_a_tree_that_fails_to_start_has_started_nothing_twice() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)) as system:
        watch = Watch(system)
        recorder.kill()
        recorder.kill()
        await watch.wait_for(Restarted)
        await asyncio.sleep(1)
        assert (len(watch.of(Restarted)), len(watch.of(Started))) == (1, 0)
