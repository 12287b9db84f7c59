"""Supervision in general; OTP's own cases are in test_supervision_otp.py."""

import asyncio
import random

import pytest
from kit.recorder import Fail, Note, Notes, Recorder, Wait

from callboard.runtime import (
    Actor,
    Backoff,
    Crashed,
    DeadLettered,
    DuplicateNameError,
    Escalated,
    EscalationError,
    Intensity,
    Message,
    Props,
    Restart,
    Restarted,
    State,
    Strategy,
    System,
    described,
    on,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch


def now() -> float:
    return asyncio.get_running_loop().time()


async def fail(recorder: object) -> None:
    with pytest.raises(ValueError, match="told to"):
        await recorder.ask(Fail())  # type: ignore[attr-defined]


async def test_children_start_in_order_and_stop_in_reverse() -> None:
    log: list[str] = []
    children = [worker(name, Props(Recorder, log, name)) for name in "abc"]
    async with System(supervisor("root", *children)):
        pass
    assert log == ["a starts", "b starts", "c starts", "c stops", "b stops", "a stops"]


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [
        (Strategy.ONE_FOR_ONE, ["b stops", "b starts"]),
        (Strategy.REST_FOR_ONE, ["c stops", "b stops", "b starts", "c starts"]),
        (Strategy.ONE_FOR_ALL, ["c stops", "b stops", "a stops", "a starts", "b starts", "c starts"]),
    ],
)
async def test_each_strategy_restarts_exactly_its_set_stopped_in_reverse_and_started_in_order(
    strategy: Strategy, restarted: list[str]
) -> None:
    log: list[str] = []
    children = [worker(name, Props(Recorder, log, name)) for name in "abc"]
    async with System(supervisor("root", *children, strategy=strategy)) as system:
        watch = Watch(system)
        log.clear()
        await fail(children[1])
        await watch.wait_for(Restarted, len(restarted) // 2)
        assert log == restarted


@pytest.mark.parametrize("crash", [True, False])
@pytest.mark.parametrize("restart", list(Restart))
async def test_a_child_is_restarted_as_its_restart_type_says(restart: Restart, crash: bool) -> None:
    ends = asyncio.Event()
    lives: list[str] = []

    class Mayfly(Actor[None]):
        async def run(self) -> None:
            lives.append("lives")
            await ends.wait()
            ends.clear()
            if crash:
                raise ValueError

    async with System(supervisor("root", worker("m", Mayfly, restart=restart))) as system:
        ends.set()
        await asyncio.sleep(1)
        again = restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and crash)
        assert len(lives) == (2 if again else 1)
        left = [] if restart is Restart.TEMPORARY else ["running" if again else "stopped"]
        assert [child.state for child in system.dump().children] == left


async def test_n_restarts_pass_n_plus_1_stops_the_supervisor_and_reaches_its_parent_with_the_causes() -> None:
    recorder = worker("r", Recorder)
    inner = supervisor("inner", recorder, intensity=Intensity(2, 5))
    async with System(supervisor("root", inner, intensity=Intensity(1, 5))) as system:
        watch = Watch(system)
        for n in (1, 2):
            await fail(recorder)
            await watch.wait_for(Restarted, n)
        await fail(recorder)
        (escalated,) = await watch.wait_for(Escalated)
        assert escalated.actor == "root/inner"
        assert "gave up on r: more than 2 restarts in 5 s" in str(escalated.error)
        assert described(escalated.error).endswith("<- ValueError: told to")
        await watch.wait_for(Restarted, 3)
        assert await recorder.ask(Notes()) == []


async def test_crashes_spread_over_more_than_the_window_are_borne_for_ever() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder, intensity=Intensity(1, 5))) as system:
        for _ in range(10):
            await fail(recorder)
            await asyncio.sleep(5.1)
        assert recorder.record.restarts == 10
        assert system.dump().state == "running"


async def test_a_root_that_gives_up_ends_the_system_with_the_reason() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder, intensity=Intensity(0))) as system:
        await fail(recorder)
        reason = await system.failed()
        assert isinstance(reason, EscalationError)
        assert isinstance(reason.__cause__, ValueError)


async def test_a_sibling_that_fails_during_a_restart_counts_as_another_restart() -> None:
    weak = [True]

    class Second(Recorder):
        async def on_start(self) -> None:
            if weak and self.ref.record.restarts:
                weak.clear()
                raise OSError("not yet")

    first, second = worker("a", Recorder), worker("b", Second)
    tree = supervisor("root", first, second, strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(2, 5))
    async with System(tree) as system:
        watch = Watch(system)
        await fail(first)
        await watch.wait_for(Restarted, 3)
        assert await second.ask(Notes()) == []
        assert [type(event.error) for event in watch.of(Crashed)] == [ValueError, OSError]


async def test_backoff_with_jitter_equals_its_formula_under_virtual_time_and_is_reset_by_a_healthy_period() -> None:
    backoff = Backoff(initial_s=1, factor=2, max_s=5, jitter=0.5, healthy_s=60)
    recorder = worker("r", Recorder, backoff=backoff)
    waits: list[float] = []
    async with System(supervisor("root", recorder, intensity=Intensity(100, 1)), rng=random.Random(7)) as system:  # noqa: S311 - no secret
        watch = Watch(system)
        for n in range(6):
            if n == 5:
                await asyncio.sleep(60)
            began = now()
            await fail(recorder)
            await watch.wait_for(Restarted, n + 1)
            waits.append(now() - began)
    dice = random.Random(7)  # noqa: S311 - no secret
    shares = [1 - 0.5 * dice.random() for _ in waits]
    assert waits == pytest.approx([s * share for s, share in zip([1, 2, 4, 5, 5, 1], shares, strict=True)])


def test_jitter_takes_off_a_random_share() -> None:
    backoff = Backoff(initial_s=1, jitter=0.5)
    delays = [backoff.delay_s(3, random.Random(seed)) for seed in range(200)]  # noqa: S311 - no secret
    assert 2 <= min(delays) < 2.2
    assert 3.8 < max(delays) <= 4


async def test_a_start_hook_that_raises_fails_the_start_with_the_original_error_and_leaves_no_task() -> None:
    log: list[str] = []

    class Broken(Recorder):
        async def on_start(self) -> None:
            raise OSError("no such port")

    before = asyncio.all_tasks()
    with pytest.raises(OSError, match="no such port"):
        async with System(supervisor("root", worker("a", Props(Recorder, log, "a")), worker("b", Broken))):
            pass
    assert log == ["a starts", "a stops"]
    assert asyncio.all_tasks() == before


async def test_a_start_hook_that_raises_fails_spawn_with_the_original_error_and_leaves_no_name_and_no_task() -> None:
    class Broken(Recorder):
        async def on_start(self) -> None:
            raise OSError("no such port")

    root = supervisor("root", worker("a", Recorder))
    async with System(root):
        with pytest.raises(OSError, match="no such port"):
            await root.start_child(worker("b", Broken))
        recorder = worker("b", Recorder)
        await root.start_child(recorder)
        assert await recorder.ask(Notes()) == []
        with pytest.raises(DuplicateNameError, match="root has a child named 'b' already"):
            await root.start_child(worker("b", Recorder))
        await root.stop_child(recorder)
        await root.start_child(worker("b", Recorder))


async def test_a_reference_taken_before_a_restart_reaches_the_new_incarnation() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        await recorder.tell(Note("old"))
        await fail(recorder)
        await recorder.tell(Note("new"))
        assert await recorder.ask(Notes()) == ["new"]


async def test_messages_queued_at_a_crash_survive_the_restart_fifo_for_each_sender_across_it_too() -> None:
    recorder = worker("r", Recorder, backoff=Backoff(initial_s=3))
    async with System(supervisor("root", recorder)):
        await recorder.tell(Note("before"))
        await recorder.tell(Fail())
        for n in range(5):
            await recorder.tell(Note(str(n)))
        await asyncio.sleep(1)
        await recorder.tell(Note("while it is down"))
        assert await recorder.ask(Notes()) == ["0", "1", "2", "3", "4", "while it is down"]
        counts = recorder.tally()
        assert (counts.failed, counts.accepted) == (1, counts.handled + 1)


@pytest.mark.parametrize("where", ["run", "handler", "concurrent handler", "restart's on_start"])
async def test_a_crash_at_any_await_point_is_noticed_without_polling(where: str) -> None:
    class Late(Actor[Note]):
        async def on_start(self) -> None:
            if self.ref.record.restarts == 1 and where == "restart's on_start":
                await asyncio.sleep(7)
                raise ValueError("late")

        async def run(self) -> None:
            if where == "run":
                await asyncio.sleep(7)
                raise ValueError("late")
            await asyncio.sleep(999)

        @on(Note)
        async def note(self, message: Note) -> None:  # noqa: ARG002 - a handler's face
            await asyncio.sleep(7)
            raise ValueError("late")

    if where == "concurrent handler":
        Late.handlers.concurrency = 2
    late = worker("l", Late)
    async with System(supervisor("root", late)) as system:
        watch = Watch(system)
        if "handler" in where:
            late.tell_nowait(Note("go"))
        if "on_start" in where:
            late.kill()
        crashed = await watch.wait_for(Crashed, 1 + ("on_start" in where))
        assert now() == pytest.approx(7)
        assert str(crashed[-1].error) == "late"
        await asyncio.sleep(0.001)  # no time for anyone who looks now and then
        assert late.state is State.RUNNING


async def test_a_crash_of_run_ends_the_handler_that_runs() -> None:
    log: list[str] = []

    class Half(Recorder):
        async def run(self) -> None:
            await asyncio.sleep(1)
            if not self.ref.record.restarts:
                raise ValueError("in run")
            await asyncio.sleep(999)

    recorder = worker("h", Props(Half, log, "h"))
    async with System(supervisor("root", recorder)):
        with pytest.raises(Exception, match="crashed while it handled Wait"):
            await recorder.ask(Wait(60), timeout_s=90)
        assert await recorder.ask(Notes()) == []
        assert log == ["h starts", "h begins done", "h is cancelled in done", "h stops", "h starts"]


async def test_a_stop_lets_the_current_handler_finish_and_dead_letters_the_rest() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)) as system:
        watch = Watch(system)
        running = asyncio.ensure_future(recorder.ask(Wait(2)))
        await asyncio.sleep(0.1)
        await recorder.tell(Note("left over"))
    assert await running == "done"
    assert [event.message for event in watch.of(DeadLettered)] == [Note("left over")]
    assert recorder.tally().dead_lettered == 1


async def test_drain_refuses_new_work_and_finishes_what_was_accepted() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        asks = [asyncio.ensure_future(recorder.ask(Wait(1, str(n)), timeout_s=60)) for n in range(3)]
        await asyncio.sleep(0.1)
        assert await recorder.drain(10) == 0
        assert await asyncio.gather(*asks) == ["0", "1", "2"]


async def test_drain_at_its_deadline_stops_by_force_and_reports_what_was_left() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        asks = [asyncio.ensure_future(recorder.ask(Wait(4, str(n)), timeout_s=60)) for n in range(5)]
        await asyncio.sleep(0.1)
        assert await recorder.drain(6) == 3
        assert now() == pytest.approx(6.1)
        ends = await asyncio.gather(*asks, return_exceptions=True)
        assert ends[0] == "0"
        assert all(isinstance(end, Exception) for end in ends[1:])


async def test_an_on_stop_that_hangs_is_cut_off() -> None:
    class Clinging(Recorder):
        async def on_stop(self) -> None:
            await asyncio.sleep(999)

    async with System(supervisor("root", worker("c", Clinging, shutdown_s=3))) as system:
        watch = Watch(system)
    assert now() == pytest.approx(3)
    assert "on_stop took too long" in str(watch.of(Crashed)[0].error)


async def test_a_stopped_or_restarted_actor_never_gets_a_stale_timer_tick() -> None:
    ticks: list[tuple[int, float]] = []

    class Tick(Message, frozen=True):
        of: int

    class Ticking(Actor[Tick | Fail]):
        async def on_start(self) -> None:
            self.every(1, Tick(self.ref.record.restarts))
            self.after(2.5, Tick(self.ref.record.restarts))

        @on(Tick)
        def tick(self, message: Tick) -> None:
            ticks.append((message.of, now()))

        @on(Fail)
        def fail(self, message: Fail) -> None:
            raise ValueError(message.why)

    ticking = worker("t", Ticking)
    async with System(supervisor("root", ticking)):
        await asyncio.sleep(1.5)
        await fail(ticking)
        await asyncio.sleep(2.9)
    await asyncio.sleep(9)
    assert [of for of, _ in ticks] == [0, 1, 1, 1]
    assert [at for _, at in ticks] == pytest.approx([1, 2.5, 3.5, 4])
