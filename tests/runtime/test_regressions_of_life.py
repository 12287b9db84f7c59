"""Faults the runtime once had in starts, stops and restarts, each by what went wrong; see test_regressions.py."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from kit.recorder import Fail, Note, Notes, Recorder, Shelf, Wait

from callboard.runtime import (
    Actor,
    ActorCrashedError,
    ActorKilledError,
    ActorStoppedError,
    Backoff,
    Counts,
    Crashed,
    Intensity,
    Props,
    Restart,
    Restarted,
    Started,
    State,
    Stopped,
    Strategy,
    SupervisorStoppedError,
    System,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch

SLOW = Backoff(initial_s=10)


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


# Starts, stops and restarts ------------------------------------------------------------------------------------------


async def test_a_child_stopped_while_it_waited_for_its_restart_rose_again() -> None:
    log: list[str] = []
    recorder = worker("r", Props(Recorder, log, "r"), backoff=SLOW)
    root = supervisor("root", recorder)
    async with System(root):
        await recorder.tell(Fail())
        await asyncio.sleep(1)
        await root.stop_child(recorder)
        await asyncio.sleep(20)
        assert recorder.state is State.STOPPED
        assert log == ["r starts", "r stops"]


async def test_a_child_stopped_while_it_started_was_left_running() -> None:
    log: list[str] = []
    slow = worker("s", Props(Slow, log, "s"))
    root = supervisor("root", worker("r", Recorder))
    async with System(root):
        starting = asyncio.ensure_future(root.start_child(slow))
        await asyncio.sleep(1)
        await root.stop_child(slow)
        with pytest.raises(ActorKilledError):
            await starting
        assert slow.state is State.STOPPED
        assert root.children[1:] == []
    assert log == ["s stops"]


@pytest.mark.parametrize("after_s", [0.0, 1.0, 2.5, 3.5])
async def test_a_tree_stopped_while_it_started_was_left_running(after_s: float) -> None:
    log: list[str] = []
    children = [worker(name, Props(Slow, log, name)) for name in "ab"]
    system = System(supervisor("root", supervisor("inner", *children), worker("r", Recorder)))
    before = asyncio.all_tasks()
    starting = asyncio.ensure_future(system.start())
    await asyncio.sleep(after_s)
    await system.stop()
    with pytest.raises(ActorKilledError):
        await starting
    assert asyncio.all_tasks() == before
    assert [child.state for child in children] == [State.STOPPED, State.STOPPED]
    assert log.count("a starts") <= log.count("a stops")


async def test_two_stops_at_once_ended_an_actor_twice() -> None:
    slow = worker("s", Slow)
    system = System(supervisor("root", slow))
    await system.start()
    watch = Watch(system)
    stops = [asyncio.ensure_future(system.stop()) for _ in range(2)]
    await asyncio.wait(stops, return_when=asyncio.FIRST_COMPLETED)
    assert now() == pytest.approx(3), "the first of them did not wait for on_stop"
    await asyncio.gather(*stops)
    assert len(watch.of(Stopped)) == 1


async def test_a_stop_that_came_second_took_the_actor_out_of_the_next_incarnation() -> None:
    slow = worker("s", Slow)
    root = supervisor("root", slow)
    async with System(root):
        first = asyncio.ensure_future(root.terminate_child(slow))
        await asyncio.sleep(0.5)
        second = asyncio.ensure_future(root.terminate_child(slow))
        await first
        await root.restart_child(slow)
        await second
        assert await slow.ask(Notes()) == []


async def test_a_child_started_under_a_stopped_supervisor_was_left_running() -> None:
    root, recorder = supervisor("root", worker("a", Recorder)), worker("r", Recorder)
    async with System(root):
        pass
    with pytest.raises(SupervisorStoppedError, match="root is stopped and starts no children"):
        await root.start_child(recorder)
    assert recorder.state is State.NEW


async def test_a_group_restart_started_a_child_twice_that_was_just_starting() -> None:
    log: list[str] = []
    first, slow = worker("a", Recorder), worker("s", Props(Slow, log, "s"))
    root = supervisor("root", first, strategy=Strategy.ONE_FOR_ALL)
    async with System(root):
        starting = asyncio.ensure_future(root.start_child(slow))
        await asyncio.sleep(1)
        await first.tell(Fail())
        await starting
        await asyncio.sleep(9)
        assert log == ["s starts"]


async def test_a_kill_during_on_start_was_ignored() -> None:
    log: list[str] = []
    slow = worker("s", Props(Slow, log, "s"))
    root = supervisor("root", worker("r", Recorder))
    async with System(root) as system:
        watch = Watch(system)
        starting = asyncio.ensure_future(root.start_child(slow))
        await starting
        await slow.tell(Fail())
        await asyncio.sleep(2)
        slow.kill()
        await watch.wait_for(Restarted)
        assert now() == pytest.approx(7), "killed at 4, on_stop until 5, and 2 to start again"
        assert log == ["s starts", "s stops", "s stops", "s starts"]
        assert "was killed" in str(watch.of(Crashed)[1].error)


async def test_a_normal_exit_cancelled_the_handler_it_came_from() -> None:
    class Last(Actor[Wait]):
        @on(Wait)
        async def wait(self, message: Wait) -> str:
            self.stop()
            await asyncio.sleep(message.seconds)
            return message.text

    for restart in Restart:
        last = worker("l", Last, restart=restart)
        async with System(supervisor("root", last)):
            assert await last.ask(Wait(1)) == "done"


async def test_a_crash_during_a_drain_left_the_rest_unhandled_and_opened_the_mailbox() -> None:
    recorder = worker("r", Recorder, backoff=Backoff(initial_s=1))
    async with System(supervisor("root", recorder)):
        asks: list[asyncio.Future[Any]] = [recorder.ask(each, 60) for each in (Wait(1, "a"), Fail(), Wait(1, "b"))]
        await asyncio.sleep(0.1)
        draining = asyncio.ensure_future(recorder.drain(10))
        await asyncio.sleep(2)
        with pytest.raises(ActorStoppedError):
            recorder.tell_nowait(Note("too late"))
        assert await draining == 0
        assert now() == pytest.approx(3)
        ends = await asyncio.gather(*asks, return_exceptions=True)
        assert (ends[0], ends[2]) == ("a", "b")
        assert recorder.state is State.STOPPED


async def test_a_drain_of_an_actor_that_waited_for_its_restart_threw_its_messages_away() -> None:
    recorder = worker("r", Recorder, backoff=Backoff(initial_s=1))
    async with System(supervisor("root", recorder)):
        asks: list[asyncio.Future[Any]] = [recorder.ask(each, 60) for each in (Fail(), Wait(1, "b"))]
        await asyncio.sleep(0.1)
        assert await recorder.drain(10) == 0
        ends = await asyncio.gather(*asks, return_exceptions=True)
        assert ends[1] == "b"


async def test_a_drain_made_an_actor_go_on_that_had_stopped_itself() -> None:
    lives: list[int] = []

    class Once(Actor[Wait]):
        @on(Wait)
        async def wait(self, message: Wait) -> str:
            lives.append(self.ref.record.restarts)
            self.stop()
            await asyncio.sleep(message.seconds)
            return message.text

    once = worker("o", Once)
    async with System(supervisor("root", once)):
        asks = [once.ask(Wait(1, str(n)), 60) for n in range(3)]
        await asyncio.sleep(0.1)
        assert await once.drain(10) == 0
        assert await asyncio.gather(*asks) == ["0", "1", "2"]
        assert lives == [0, 1, 2]


async def test_a_stop_during_a_drain_left_the_drain_waiting_to_its_deadline() -> None:
    recorder = worker("r", Recorder, shutdown_s=2)
    async with System(supervisor("root", recorder)) as system:
        asks = [recorder.ask(Wait(9, str(n)), 60) for n in range(3)]
        await asyncio.sleep(1)
        draining = asyncio.ensure_future(recorder.drain(100))
        await asyncio.sleep(1)
        await system.stop()
        await draining
        assert now() == pytest.approx(4)
        await asyncio.gather(*asks, return_exceptions=True)


async def test_a_drain_did_not_report_what_was_stashed() -> None:
    shelf = worker("s", Shelf)
    async with System(supervisor("root", shelf)):
        await shelf.tell(Wait(0))
        await asyncio.sleep(1)
        assert await shelf.drain(1) == 1
    assert shelf.tally() == Counts(dead_lettered=1)


async def test_a_supervisor_that_failed_to_start_restarted_a_child_afterwards() -> None:
    class Late(Recorder):
        async def on_start(self) -> None:
            await asyncio.sleep(1)
            raise OSError("no such port")

    first = worker("a", Recorder, backoff=SLOW)
    system = System(supervisor("root", first, worker("b", Late)))
    starting = asyncio.ensure_future(system.start())
    await asyncio.sleep(0.5)
    await first.tell(Fail())
    with pytest.raises(OSError, match="no such port"):
        await starting
    await asyncio.sleep(30)
    assert first.state is not State.RUNNING


async def test_two_crashes_at_once_beyond_the_intensity_left_the_supervisor_half_dead() -> None:
    children = [worker(name, Slow) for name in "ab"]
    inner = supervisor("inner", *children, intensity=Intensity(0))
    async with System(supervisor("root", inner)) as system:
        watch = Watch(system)
        for child in children:
            await child.tell(Fail())
        await watch.wait_for(Started, 2)
        await asyncio.sleep(1)
        assert inner.state is State.RUNNING


class Brittle(Actor[Wait | Fail]):
    """Waits, or comes upon a cancellation that is not its own."""

    @on(Wait)
    async def wait(self, message: Wait) -> str:
        await asyncio.sleep(message.seconds)
        return message.text

    @on(Fail)
    async def fail(self, _message: Fail) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(9))
        inner.cancel()
        await inner


async def test_a_crash_after_a_withdrawn_message_was_taken_for_a_kill() -> None:
    brittle = worker("b", Brittle)
    async with System(supervisor("root", brittle)) as system:
        watch = Watch(system)
        withdrawn, crashing = brittle.ask(Wait(9), 60), brittle.ask(Fail(), 60)
        await asyncio.sleep(1)
        withdrawn.cancel()
        with pytest.raises(ActorCrashedError):
            await crashing
        await watch.wait_for(Restarted)
        assert brittle.tally() == Counts(returned=1, failed=1)


async def test_a_message_whose_handler_had_not_begun_was_failed_by_a_kill() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        asking = recorder.ask(Wait(1, "a"))
        asyncio.get_running_loop().call_soon(recorder.kill)  # after its task is made, before the first step of that
        assert await asking == "a"
        assert recorder.record.restarts == 1


async def test_a_worker_that_had_left_took_its_successor_of_the_same_name_with_it() -> None:
    crowd = pool("p", Recorder, size=2)
    async with System(supervisor("root", crowd)):
        _, gone = crowd.children
        await crowd.resize(1)
        await crowd.resize(2)
        before = crowd.children
        await crowd._forget(gone)  # type: ignore[arg-type]  # late, as when a restart of the pool has forgotten it first
        assert crowd.children == before
        for n in range(4):
            await crowd.tell(Note(str(n)))
        assert crowd.tally().accepted == 4


class Deaf(Actor[Note]):
    """Loses the first cancellation, in what it runs and in its handler, as asyncio.wait_for may."""

    async def run(self) -> None:
        await hear_nothing_once()

    @on(Note)
    async def note(self, _message: Note) -> None:
        await hear_nothing_once()


async def hear_nothing_once() -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(3600)
    await asyncio.sleep(3600)


async def test_an_actor_that_had_lost_its_cancellation_was_waited_for_as_long_as_it_liked() -> None:
    deaf = worker("deaf", Deaf, shutdown_s=0.5)
    began = now()
    async with System(supervisor("root", deaf)):
        await deaf.tell(Note("a"))
        await asyncio.sleep(0.1)
    assert now() - began < 5
    assert deaf.state is State.STOPPED
