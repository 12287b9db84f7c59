"""What becomes of the message in hand at a crash, a kill, an exit: retried only by policy, and then a dead letter."""

import asyncio

import pytest
from kit.recorder import Note, Notes, Recorder, Wait

from callboard.runtime import (
    Actor,
    ActorCrashedError,
    ActorKilledError,
    AskTimeoutError,
    Backoff,
    Cell,
    Crashed,
    DeadLettered,
    Intensity,
    MailboxFullError,
    Message,
    Props,
    Request,
    Restart,
    Restarted,
    Retry,
    System,
    on,
    pool,
    snapshot,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch

OFTEN = Intensity(restarts=100, window_s=1)


class Job(Request[str], frozen=True):
    n: int


class AsyncJob(Request[str], frozen=True):
    n: int


class Order(Message, frozen=True):
    n: int


class Worker(Actor[Job | AsyncJob | Order]):
    """Fails as often as `failures` says, and writes down what it began."""

    def __init__(self, failures: list[Exception], begun: list[int]) -> None:
        self.failures = failures
        self.begun = begun

    def do(self, n: int) -> str:
        self.begun.append(n)
        if self.failures:
            raise self.failures.pop(0)
        return f"did {n}"

    @on(Job)
    def job(self, message: Job) -> str:
        return self.do(message.n)

    @on(Order)
    def order(self, message: Order) -> None:
        self.do(message.n)

    @on(AsyncJob)
    async def async_job(self, message: AsyncJob) -> str:
        await asyncio.sleep(0.1)
        return self.do(message.n)


async def test_the_message_that_crashed_is_not_retried_without_a_policy() -> None:
    begun: list[int] = []
    one = worker("w", Props(Worker, [OSError("away")], begun))
    async with System(supervisor("root", one)) as system:
        watch = Watch(system)
        for n in range(3):
            await one.tell(Order(n))
        await asyncio.sleep(1)
        assert begun == [0, 1, 2]
        assert watch.of(DeadLettered) == []
        assert (one.tally().failed, one.tally().handled) == (1, 2)


@pytest.mark.parametrize("kind", [Job, AsyncJob])
async def test_a_retried_message_is_handled_again_after_the_restart_before_the_others(
    kind: type[Job] | type[AsyncJob],
) -> None:
    begun: list[int] = []
    one = worker("w", Props(Worker, [OSError("away"), OSError("away")], begun), retry=Retry(2))
    async with System(supervisor("root", one, intensity=OFTEN)):
        first, second = one.ask(kind(1)), one.ask(kind(2))
        assert [await first, await second] == ["did 1", "did 2"]
        assert begun == [1, 1, 1, 2]
        assert one.record.restarts == 2
        assert (one.tally().handled, one.tally().failed, one.tally().accepted) == (2, 0, 2)


async def test_what_crashed_is_retried_only_by_policy_then_dead_lettered_with_its_bytes_and_the_reason() -> None:
    begun: list[int] = []
    one = worker("w", Props(Worker, [OSError(f"try {n}") for n in range(3)], begun), retry=Retry(2))
    async with System(supervisor("root", one, intensity=OFTEN)) as system:
        watch = Watch(system)
        await one.tell(Order(7))
        await one.tell(Order(8))
        await asyncio.sleep(1)
        (letter,) = watch.of(DeadLettered)
        assert (letter.actor, letter.message, letter.data) == ("root/w", Order(7), b'{"n":7}')
        assert str(letter.error) == "try 2"
        assert begun == [7, 7, 7, 8]
        assert (one.tally().dead_lettered, one.tally().handled, one.tally().failed) == (1, 1, 0)


async def test_an_asker_gets_the_last_error_when_the_retries_are_used_up() -> None:
    one = worker("w", Props(Worker, [OSError("try 0"), OSError("try 1")], []), retry=Retry(1))
    async with System(supervisor("root", one, intensity=OFTEN)):
        with pytest.raises(OSError, match="try 1"):
            await one.ask(Job(1))
        assert one.tally().failed == 1


async def test_an_ask_is_not_retried_when_its_asker_has_gone() -> None:
    begun: list[int] = []
    one = worker("w", Props(Worker, [OSError("away")], begun), retry=Retry(5), backoff=Backoff(initial_s=10))
    async with System(supervisor("root", one)):
        with pytest.raises(AskTimeoutError):
            await one.ask(Job(1), timeout_s=2)
        await asyncio.sleep(20)
        assert begun == [1]
        assert (one.tally().expired, one.tally().pending) == (1, 0)


async def test_each_message_has_its_own_retries_also_when_it_is_one_object_told_again() -> None:
    begun: list[int] = []
    failures: list[Exception] = []
    one = worker("w", Props(Worker, failures, begun), retry=Retry(1))
    order = Order(1)
    async with System(supervisor("root", one, intensity=OFTEN)) as system:
        watch = Watch(system)
        for _ in range(3):
            failures.append(OSError("away"))
            await one.tell(order)
            await asyncio.sleep(1)
        assert begun == [1] * 6
        assert watch.of(DeadLettered) == []
        assert one.tally().handled == 3


async def test_a_message_to_be_retried_is_a_dead_letter_when_there_is_no_restart() -> None:
    one = worker("w", Props(Worker, [OSError("away")], []), retry=Retry(3), restart=Restart.TEMPORARY)
    async with System(supervisor("root", one)) as system:
        watch = Watch(system)
        await one.tell(Order(1))
        await asyncio.sleep(1)
        assert [event.message for event in watch.of(DeadLettered)] == [Order(1)]
        assert one.tally().pending == 0


async def test_a_kill_ends_the_handler_at_once_and_the_supervisor_restarts() -> None:
    log: list[str] = []
    recorder = worker("r", Props(Recorder, log, "r"))
    async with System(supervisor("root", recorder)) as system:
        watch = Watch(system)
        running = recorder.ask(Wait(60), timeout_s=90)
        await recorder.tell(Note("queued"))
        await asyncio.sleep(1)
        recorder.kill()
        recorder.kill()
        with pytest.raises(ActorCrashedError, match="root/r crashed while it handled Wait"):
            await running
        assert asyncio.get_running_loop().time() == pytest.approx(1)
        assert await recorder.ask(Notes()) == ["queued"]
        (crashed,) = watch.of(Crashed)
        assert isinstance(crashed.error, ActorKilledError)
        assert len(watch.of(Restarted)) == 1
        assert recorder.tally().failed == 1


@pytest.mark.parametrize("what", ["stop", "kill", "resize", "inspect"])
async def test_system_messages_stop_kill_resize_and_inspect_overtake_a_full_mailbox(what: str) -> None:
    log: list[str] = []
    crowd = pool("p", Props(Recorder, log, "r"), size=1, mailbox={"capacity": 3, "overflow": "reject"}, shutdown_s=1)
    async with System(supervisor("root", crowd)) as system:
        asked = crowd.ask(Wait(60), timeout_s=90)
        await asyncio.sleep(1)
        for n in range(3):
            crowd.tell_nowait(Note(str(n)))
        with pytest.raises(MailboxFullError):
            crowd.tell_nowait(Note("one too many"))
        begun = asyncio.get_running_loop().time()
        (cell,) = crowd.children
        assert isinstance(cell, Cell)
        if what == "stop":
            await system.stop()
            assert log == ["r starts", "r begins done", "r is cancelled in done", "r stops"]
        elif what == "kill":
            cell.kill()
            await asyncio.sleep(0.1)
            assert log == ["r starts", "r begins done", "r is cancelled in done", "r stops", "r starts"]
            assert await crowd.ask(Notes()) == ["0", "1", "2"]
        elif what == "resize":
            await crowd.resize(2)
            assert log == ["r starts", "r begins done", "r starts"]
        else:
            assert (snapshot(cell).depth, snapshot(cell).current, cell.tally().pending) == (3, "Wait", 4)
        assert asyncio.get_running_loop().time() - begun < 1.1
        if what in ("stop", "kill"):
            assert asked.done()
            assert isinstance(asked.exception(), ActorCrashedError)


class Leave(Request[str], frozen=True):
    and_then: str = ""


class Leaving(Actor[Leave | Note]):
    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    @on(Leave)
    def leave(self, message: Leave) -> str:
        self.stop()
        if message.and_then == "raise":
            raise ValueError("after all")
        return "bye"

    @on(Note)
    def note(self, message: Note) -> None:
        self.notes.append(message.text)


async def test_an_exit_answers_the_message_in_hand_and_begins_no_other() -> None:
    notes: list[str] = []
    leaving = worker("l", Props(Leaving, notes), backoff=Backoff(initial_s=5))
    async with System(supervisor("root", leaving)):
        bye = leaving.ask(Leave())
        await leaving.tell(Note("next life"))
        assert await bye == "bye"
        await asyncio.sleep(1)
        assert notes == []
        await asyncio.sleep(5)
        assert notes == ["next life"]


async def test_a_handler_that_raises_after_its_exit_has_crashed() -> None:
    leaving = worker("l", Props(Leaving, []), restart=Restart.TRANSIENT)
    async with System(supervisor("root", leaving)) as system:
        watch = Watch(system)
        with pytest.raises(ValueError, match="after all"):
            await leaving.ask(Leave("raise"))
        (crashed,) = await watch.wait_for(Crashed)
        assert str(crashed.error) == "after all"
        await watch.wait_for(Restarted)
        assert await leaving.ask(Leave()) == "bye"
