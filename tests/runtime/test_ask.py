"""Asks: replies, deadlines, cancellation, cycles, and what travels with them."""

import asyncio

import pytest
from kit.recorder import Fail, Forward, Middle, Note, Notes, Recorder, Refuse, Wait, Where

from callboard.runtime import (
    Actor,
    ActorCrashedError,
    ActorStoppedError,
    AskCycleError,
    AskTimeoutError,
    Context,
    Mailbox,
    Props,
    Ref,
    Refusal,
    Refused,
    System,
    current_context,
    on,
    supervisor,
    use_context,
    worker,
)
from callboard.runtime.testkit import Watch


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_reply_is_what_the_handler_returns() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        assert await recorder.ask(Wait(3, "reply")) == "reply"


async def test_an_ask_carries_a_deadline_its_timeout_raises_on_time_and_cancels_the_handler_by_policy() -> None:
    log: list[str] = []
    recorder = worker("r", Props(Recorder, log, "r"))
    async with System(supervisor("root", recorder)):
        with pytest.raises(AskTimeoutError, match="root/r gave no reply to Wait"):
            await recorder.ask(Wait(60, "long"), timeout_s=2)
        assert now() == pytest.approx(2)
        assert await recorder.ask(Notes()) == []
        assert log[-1] == "r is cancelled in long"
        assert recorder.tally().expired == 1
        assert recorder.record.restarts == 0


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_by_policy_a_handler_whose_asker_has_gone_finishes_and_its_reply_is_counted_as_late(
    concurrency: int,
) -> None:
    class Careful(Recorder):
        pass

    Careful.handlers.concurrency = concurrency
    careful = worker("c", Careful, abandoned="finish")
    async with System(supervisor("root", careful)):
        with pytest.raises(AskTimeoutError):
            await careful.ask(Wait(60, "long"), timeout_s=2)
        withdrawn = careful.ask(Wait(60, "longer"), timeout_s=90)
        await asyncio.sleep(60)
        withdrawn.cancel()
        await asyncio.sleep(60)
        assert await careful.ask(Notes()) == ["long", "longer"]
        counts = careful.tally()
        assert (counts.late, counts.handled, counts.expired, counts.returned) == (2, 3, 0, 0)


async def test_an_expired_message_is_never_started() -> None:
    log: list[str] = []
    recorder = worker("r", Props(Recorder, log, "r"))
    async with System(supervisor("root", recorder)):
        first = asyncio.ensure_future(recorder.ask(Wait(10, "first"), timeout_s=60))
        await asyncio.sleep(0.1)
        with pytest.raises(AskTimeoutError):
            await recorder.ask(Wait(1, "second"), timeout_s=2)
        await first
        assert await recorder.ask(Notes()) == ["first"]
        assert "r begins second" not in log
        assert recorder.tally().expired == 1


async def test_the_deadline_holds_while_waiting_for_room_in_the_mailbox() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(1))
    async with System(supervisor("root", recorder)):
        first = asyncio.ensure_future(recorder.ask(Wait(10), timeout_s=60))
        await asyncio.sleep(0.1)
        await recorder.tell(Note("fills the mailbox"))
        with pytest.raises(AskTimeoutError):
            await recorder.ask(Notes(), timeout_s=2)
        assert now() == pytest.approx(2.1)
        await first
        assert await recorder.ask(Notes()) == ["done", "fills the mailbox"]


async def test_nested_asks_inherit_the_smaller_remaining_deadline() -> None:
    recorder = worker("r", Recorder)
    middle = worker("m", Props(Middle, lambda: recorder, 30.0))
    async with System(supervisor("root", recorder, middle)):
        with pytest.raises(AskTimeoutError):
            await middle.ask(Forward(60), timeout_s=3)
        assert now() == pytest.approx(3)
        assert await recorder.ask(Notes()) == []


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_deadline_that_passes_in_what_a_handler_asked_is_its_own_and_no_crash(concurrency: int) -> None:
    """Under load many deadlines pass: were each a crash, the supervisor would give up on what is only slow."""

    class Between(Middle):
        pass

    Between.handlers.concurrency = concurrency
    recorder = worker("r", Recorder)
    middle = worker("m", Props(Between, lambda: recorder, 2.9995))  # its loop's timer fires a moment early
    hasty = worker("h", Props(Middle, lambda: recorder, 1.0))
    async with System(supervisor("root", recorder, middle, hasty)):
        with pytest.raises(AskTimeoutError, match="root/m gave no reply to Forward"):
            await middle.ask(Forward(60), timeout_s=3)
        assert (middle.tally().expired, middle.tally().failed, middle.record.restarts) == (1, 0, 0)
        with pytest.raises(AskTimeoutError, match="root/r gave no reply"):  # it had time left: this is a crash
            await hasty.ask(Forward(60), timeout_s=3)
        await asyncio.sleep(0.1)
        assert (hasty.tally().expired, hasty.tally().failed, hasty.record.restarts) == (0, 1, 1)


async def test_the_callers_cancellation_reaches_a_running_handler_through_nested_asks() -> None:
    log: list[str] = []
    recorder = worker("r", Props(Recorder, log, "r"))
    middle = worker("m", Props(Middle, lambda: recorder, 30.0))
    async with System(supervisor("root", recorder, middle)):
        asking = asyncio.ensure_future(middle.ask(Forward(60), timeout_s=90))
        await asyncio.sleep(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await recorder.ask(Notes()) == []
        assert log[-1] == "r is cancelled in done"
        assert now() == pytest.approx(1)
        assert (recorder.tally().returned, middle.tally().returned) == (1, 1)


async def test_the_callers_cancellation_reaches_a_queued_handler() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        first = asyncio.ensure_future(recorder.ask(Wait(5, "first"), timeout_s=60))
        await asyncio.sleep(1)
        second = asyncio.ensure_future(recorder.ask(Wait(5, "second"), timeout_s=60))
        await asyncio.sleep(1)
        second.cancel()
        await first
        assert await recorder.ask(Notes()) == ["first"]
        assert recorder.tally().returned == 1


async def test_a_late_reply_is_counted_never_delivered_to_someone_else() -> None:
    class Stubborn(Actor[Wait]):
        @on(Wait)
        async def wait(self, message: Wait) -> str:
            try:
                await asyncio.sleep(message.seconds)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
            return message.text

    stubborn = worker("s", Stubborn)
    async with System(supervisor("root", stubborn)):
        with pytest.raises(AskTimeoutError):
            await stubborn.ask(Wait(9, "late"), timeout_s=1)
        assert await stubborn.ask(Wait(1, "next"), timeout_s=5) == "next"
        assert (stubborn.tally().late, stubborn.tally().handled) == (1, 2)


async def test_a_to_b_to_a_raises_a_cycle_error_that_names_the_chain_at_once() -> None:
    refs: dict[str, Ref[Forward]] = {}
    a = refs["a"] = worker("a", Props(Middle, lambda: refs["b"]))
    b = refs["b"] = worker("b", Props(Middle, lambda: refs["a"]))
    async with System(supervisor("root", a, b)):
        with pytest.raises(AskCycleError) as caught:
            await a.ask(Forward(1), timeout_s=60)
        assert caught.value.chain == ("root/a", "root/b", "root/a")
        assert now() == 0


async def test_trace_context_and_deadline_survive_tell_and_ask() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        with use_context(Context("00-trace", deadline=4.0)):
            seen = await recorder.ask(Where(), timeout_s=60)
        assert seen is not None
        assert (seen.traceparent, seen.deadline) == ("00-trace", 4.0)
        assert await recorder.ask(Where()) != seen
        assert current_context() is None


async def test_handlers_inherit_nothing_from_whoever_wakes_the_actor() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        first = asyncio.ensure_future(recorder.ask(Wait(1)))
        with use_context(Context("00-other")):
            await asyncio.sleep(0)
            second = asyncio.ensure_future(recorder.ask(Wait(1)))
        third = asyncio.ensure_future(recorder.ask(Where()))
        await asyncio.gather(first, second)
        seen = await third
        assert seen is not None
        assert seen.traceparent is None


async def test_a_refusal_is_an_answer_and_crashes_nobody() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)) as system:
        watch = Watch(system)
        await recorder.tell(Note("kept"))
        with pytest.raises(Refusal, match="no"):
            await recorder.ask(Refuse())
        await recorder.tell(Refuse("nobody hears it"))
        assert await recorder.ask(Notes()) == ["kept"]
        assert [event.message for event in watch.of(Refused)] == [Refuse("nobody hears it")]
        assert recorder.tally().failed == 1


async def test_the_handlers_own_error_reaches_the_asker() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        with pytest.raises(ValueError, match="broken"):
            await recorder.ask(Fail("broken"))


async def test_an_ask_that_waits_when_its_actor_stops_is_returned() -> None:
    recorder = worker("r", Recorder, shutdown_s=2)
    async with System(supervisor("root", recorder)) as system:
        running = asyncio.ensure_future(recorder.ask(Wait(60), timeout_s=90))
        await asyncio.sleep(0.1)
        queued = asyncio.ensure_future(recorder.ask(Notes(), timeout_s=90))
        await asyncio.sleep(0.1)
        await system.stop()
        assert now() == pytest.approx(2.2)
        with pytest.raises(ActorCrashedError):
            await running
        with pytest.raises(ActorStoppedError) as caught:
            await queued
        assert caught.value.message == Notes()
        assert (recorder.tally().returned, recorder.tally().failed) == (1, 1)
