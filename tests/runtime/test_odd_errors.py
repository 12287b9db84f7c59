"""Whatever class of error a handler, a hook or a watcher raises: it is a crash with its fate, and nobody is stuck."""

import asyncio
import json
import logging

import pytest
from kit.recorder import Note, Notes, Recorder

from callboard.runtime import (
    Actor,
    ActorCrashedError,
    ActorKilledError,
    Backoff,
    Counts,
    Crashed,
    DeadLettered,
    EscalationError,
    Intensity,
    Message,
    Ref,
    Request,
    Restart,
    Restarted,
    Retry,
    Strategy,
    System,
    Terminated,
    described,
    on,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch


class Foreign(BaseException):
    """As a test runner has for its own ends."""


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Raise(Request[None], frozen=True):
    error: BaseException


class RaiseLater(Raise, frozen=True):
    pass


class Ping(Request[str], frozen=True):
    pass


class Target(Actor[Raise | RaiseLater | Ping]):
    @on(Raise)
    def fail(self, message: Raise) -> None:
        raise message.error

    @on(RaiseLater)
    async def fail_later(self, message: RaiseLater) -> None:
        await asyncio.sleep(0)
        raise message.error

    @on(Ping)
    def ping(self, _message: Ping) -> str:
        return "pong"


ERRORS = (StopIteration("s"), StopAsyncIteration("s"), GeneratorExit("g"), asyncio.CancelledError("c"), Foreign("f"))


@pytest.mark.parametrize("kind", [Raise, RaiseLater])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_any_class_of_error_is_a_crash_with_its_fate_and_the_actor_lives_on(
    kind: type[Raise], error: BaseException
) -> None:
    target = worker("t", Target)
    async with System(supervisor("root", target)) as system:
        watch = Watch(system)
        with pytest.raises((ActorCrashedError, RuntimeError, Foreign)) as caught:
            await target.ask(kind(error))
        if type(caught.value) is not Foreign:
            assert type(caught.value.__cause__) is type(error)
        await target.tell(kind(error))
        assert await target.ask(Ping()) == "pong"
        assert len(watch.of(Crashed)) == 2
        assert target.tally() == Counts(handled=1, failed=2)


async def test_an_error_with_retries_of_any_class_is_tried_again() -> None:
    target = worker("t", Target, retry=Retry(1))
    async with System(supervisor("root", target)) as system:
        watch = Watch(system)
        await target.tell(Raise(GeneratorExit()))
        await watch.wait_for(DeadLettered)
        assert len(watch.of(Crashed)) == 2
        assert await target.ask(Ping()) == "pong"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", [Raise, RaiseLater])
def test_what_ends_the_program_ends_it_and_is_a_crash_with_its_fate_before(
    kind: type[Raise], error: type[BaseException]
) -> None:
    target = worker("t", Target, restart=Restart.TEMPORARY)

    async def main() -> None:
        async with System(supervisor("root", target)):
            await target.ask(kind(error()))

    with pytest.raises(error):
        asyncio.run(main())
    assert target.tally() == Counts(failed=1)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_work_beside_the_handlers_that_ends_by_any_class_of_error_has_crashed(error: BaseException) -> None:
    runs: list[int] = []

    class Worker(Actor[None]):
        async def run(self) -> None:
            runs.append(1)
            if len(runs) == 1:
                raise error
            await asyncio.sleep(999)

    idle = worker("w", Worker)
    async with System(supervisor("root", idle)) as system:
        await Watch(system).wait_for(Restarted)
        assert len(runs) == 2


async def test_work_beside_the_handlers_that_somebody_cancels_has_crashed() -> None:
    class Worker(Actor[None]):
        async def run(self) -> None:
            await asyncio.sleep(999)

    idle = worker("w", Worker)
    async with System(supervisor("root", idle)) as system:
        watch = Watch(system)
        await asyncio.sleep(1)
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "run w"]
        task.cancel()
        await watch.wait_for(Restarted)
        assert isinstance(watch.of(Crashed)[0].error, ActorCrashedError)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_restart_that_fails_by_any_class_of_error_is_tried_again(
    error: BaseException, strategy: Strategy
) -> None:
    starts: list[int] = []

    class Late(Recorder):
        async def on_start(self) -> None:
            starts.append(1)
            if len(starts) == 2:
                raise error

    late = worker("l", Late)
    async with System(supervisor("root", late, strategy=strategy)) as system:
        watch = Watch(system)
        late.kill()
        await watch.wait_for(Restarted)
        assert len(starts) == 3
        assert await late.ask(Notes()) == []


async def test_a_constructor_that_raises_what_is_no_exception_is_tried_again() -> None:
    made: list[int] = []

    class Made(Recorder):
        def __init__(self) -> None:
            super().__init__()
            made.append(1)
            if len(made) == 2:
                raise Foreign

    target = worker("m", Made)
    async with System(supervisor("root", target)) as system:
        watch = Watch(system)
        target.kill()
        await watch.wait_for(Restarted)
        assert await target.ask(Notes()) == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_stop_hook_that_raises_is_reported_and_holds_nothing_up(error: BaseException) -> None:
    class Sore(Recorder):
        async def on_stop(self) -> None:
            raise error

    sore = worker("s", Sore)
    async with System(supervisor("root", sore)) as system:
        watch = Watch(system)
        sore.kill()
        await watch.wait_for(Restarted)
        crashes = watch.of(Crashed)
        assert isinstance(crashes[0].error, ActorKilledError)
        assert [event.message for event in crashes[1:]] == ["on_stop"]


async def test_a_watcher_that_raises_what_is_no_exception_keeps_no_actor_from_its_restart() -> None:
    loop = asyncio.get_running_loop()
    said: list[object] = []
    loop.set_exception_handler(lambda _loop, context: said.append(context["exception"]))
    target = worker("t", Target)
    async with System(supervisor("root", target)) as system:

        def careless(_event: object) -> None:
            raise Foreign

        end = system.subscribe(careless)
        await target.tell(Raise(ValueError()))
        await asyncio.sleep(1)
        end()
        assert await target.ask(Ping()) == "pong"
    assert said
    assert {type(error) for error in said} == {Foreign}


async def test_a_supervisor_whose_own_work_fails_gives_up_and_leaves_nobody_waiting() -> None:
    class Crooked:
        def random(self) -> float:
            raise OSError("no entropy")

    target = worker("t", Target, backoff=Backoff(initial_s=1, jitter=0.5))
    system = System(supervisor("root", target), rng=Crooked(), log=False)  # type: ignore[arg-type]
    async with system:
        target.kill()
        reason = await system.failed()
        assert "no entropy" in described(reason)


def test_a_backoff_whose_formula_overflows_waits_the_most() -> None:
    import random  # noqa: PLC0415 - only here

    assert Backoff(initial_s=1e300, factor=1e10, max_s=7).delay_s(99, random.Random(1)) == 7  # noqa: S311
    with pytest.raises(ValueError, match="a backoff waits"):
        Backoff(initial_s=float("nan"))


# Errors and messages that are hard to show ---------------------------------------------------------------------------


async def test_watchers_are_told_of_an_end_whose_reason_cannot_be_shown() -> None:
    class Widow(Actor[Terminated]):
        def __init__(self) -> None:
            self.told: list[str | None] = []

        async def on_start(self) -> None:
            self.watch(target)

        @on(Terminated)
        def mourn(self, message: Terminated) -> None:
            told.append(message.reason)

    told: list[str | None] = []
    target = worker("t", Target, restart=Restart.TEMPORARY)
    async with System(supervisor("root", target, worker("w", Widow))):
        await target.tell(Raise(UnspeakableError()))
        await asyncio.sleep(1)
        assert told == ["UnspeakableError: <UnspeakableError that cannot be shown: RuntimeError>"]


def test_causes_that_cannot_be_shown_are_described_by_their_type() -> None:
    error = ValueError("plain")
    error.__cause__ = UnspeakableError()
    assert (
        described(error)
        == "ValueError: plain <- UnspeakableError: <UnspeakableError that cannot be shown: RuntimeError>"
    )


class Held(Message, frozen=True):
    ref: object
    n: int = 1


async def test_the_data_of_a_dead_letter_describes_what_json_has_no_form_for() -> None:
    target = worker("t", Target)
    async with System(supervisor("root", target)):
        held = DeadLettered("a", Held(target))
        assert json.loads(held.data) == {"ref": "<Cell root/t>", "n": 1}
        assert json.loads(DeadLettered("a", Held(UnspeakableError())).data)["ref"] == "UnspeakableError()"
        assert json.loads(DeadLettered("a", Held("\ud800")).data)["type"] == "Held"


async def test_a_reference_shows_its_path() -> None:
    target = worker("t", Target)
    ref: Ref[Ping] = target
    assert repr(ref) == "<Cell t>"
    async with System(supervisor("root", supervisor("inner", target))):
        assert repr(ref) == "<Cell root/inner/t>"


# Nothing is silent ---------------------------------------------------------------------------------------------------


async def test_a_crash_is_logged_by_default_with_actor_message_type_and_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = worker("t", Target)
    async with System(supervisor("root", target)):
        await target.tell(Raise(ValueError("secret nobody")))
        assert await target.ask(Ping()) == "pong"
    (record,) = [record for record in caplog.records if record.name == "callboard.runtime"]
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "root/t crashed on Raise: ValueError: secret nobody"
    assert record.exc_info


async def test_a_program_that_logs_crashes_itself_may_say_so(caplog: pytest.LogCaptureFixture) -> None:
    target = worker("t", Target)
    async with System(supervisor("root", target), log=False):
        await target.tell(Raise(ValueError()))
        assert await target.ask(Ping()) == "pong"
    assert [record for record in caplog.records if record.name == "callboard.runtime"] == []


async def test_a_tree_whose_root_has_given_up_is_logged_stops_and_raises_at_the_end_of_the_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = worker("t", Target)
    with pytest.raises(EscalationError, match="root gave up on t") as caught:  # noqa: PT012 - the block is what raises
        async with System(supervisor("root", target, intensity=Intensity(0, 5))):
            target.tell_nowait(Raise(ValueError("at first")))
            asking = target.ask(Ping(), timeout_s=60)
            await asyncio.sleep(1)
            with pytest.raises(Exception, match="has stopped"):
                await asking
            await target.tell(Note("nobody is there"))  # type: ignore[arg-type]
    assert "at first" in described(caught.value)
    assert "root gave up" in caplog.text


async def test_the_blocks_own_error_has_a_note_of_a_root_that_had_given_up() -> None:
    target = worker("t", Target)
    with pytest.raises(KeyError) as caught:  # noqa: PT012 - the same
        async with System(supervisor("root", target, intensity=Intensity(0, 5))):
            target.tell_nowait(Raise(ValueError("at first")))
            await asyncio.sleep(1)
            raise KeyError
    assert "the tree had given up" in caught.value.__notes__[0]


async def test_who_has_heard_of_it_from_failed_is_not_told_again() -> None:
    target = worker("t", Target)
    async with System(supervisor("root", target, intensity=Intensity(0, 5))) as system:
        target.tell_nowait(Raise(ValueError("at first")))
        assert "at first" in described(await system.failed())
