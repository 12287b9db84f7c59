"""The test kit itself: virtual time, seeds, probes and stress."""

import asyncio
import random
import time

import pytest
from kit.recorder import Fail, Note, Notes, Recorder, Wait

from callboard.runtime import (
    Actor,
    Props,
    Refusal,
    Restarted,
    State,
    Strategy,
    System,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import (
    LeftOverError,
    Probe,
    StuckError,
    VirtualTimeLoop,
    Watch,
    nodes,
    run,
    seeds,
    stress,
)


async def test_a_virtual_clock_runs_hours_in_milliseconds() -> None:
    began = time.perf_counter()
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        for _ in range(24):
            assert await recorder.ask(Wait(3600, "an hour"), 7200) == "an hour"
        assert asyncio.get_running_loop().time() == pytest.approx(24 * 3600)
    assert time.perf_counter() - began < 1


async def test_virtual_time_stands_still_while_there_is_something_to_do() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)
    assert asyncio.get_running_loop().time() == 0


async def test_threads_are_waited_for_in_real_time() -> None:
    began = time.perf_counter()
    await asyncio.to_thread(time.sleep, 0.05)
    assert time.perf_counter() - began >= 0.05


def test_waiting_for_what_can_never_come_raises_instead_of_hanging() -> None:
    class Hasty(VirtualTimeLoop):
        patience_s = 0.01

    with asyncio.Runner(loop_factory=Hasty) as runner, pytest.raises(StuckError, match="no timer is due"):
        runner.run(asyncio.Event().wait())


# The probe -----------------------------------------------------------------------------------------------------------


async def test_a_probe_hands_out_what_it_is_told_in_order() -> None:
    probe = Probe("p", Note, Wait)
    async with System(supervisor("root", probe)):
        await probe.tell(Note("a"))
        await probe.tell(Wait(1))
        assert await probe.expect(Note) == Note("a")
        assert (await probe.expect(Wait)).seconds == 1
        assert probe.received == [Note("a"), Wait(1)]


async def test_a_probe_waits_for_a_message() -> None:
    probe = Probe("p", Note)
    async with System(supervisor("root", probe)):
        asyncio.get_running_loop().call_later(2, probe.tell_nowait, Note("late"))
        await probe.expect_nothing(1)
        assert await probe.expect(Note, within_s=2) == Note("late")
        assert asyncio.get_running_loop().time() == pytest.approx(2)


async def test_a_probe_fails_the_test_when_nothing_comes_or_something_else() -> None:
    probe = Probe("p", Note, Wait)
    async with System(supervisor("root", probe)):
        with pytest.raises(AssertionError, match="root/p was told nothing in 3 s, not Note"):
            await probe.expect(Note)
        await probe.tell(Note("a"))
        with pytest.raises(AssertionError, match=r"Note.*, not Wait"):
            await probe.expect(Wait)
        await probe.tell(Note("b"))
        with pytest.raises(AssertionError, match="left in peace"):
            await probe.expect_nothing()


async def test_a_probe_answers_as_scripted() -> None:
    probe = Probe("p", Wait, Notes)
    async with System(supervisor("root", probe)):
        assert await probe.ask(Wait(1)) is None
        probe.answer(Wait, "first", Refusal("no"), lambda message: message.text)
        assert await probe.ask(Wait(1)) == "first"
        with pytest.raises(Refusal):
            await probe.ask(Wait(1))
        assert [await probe.ask(Wait(1, each)) for each in ("x", "y")] == ["x", "y"]
        probe.answer(Wait, ValueError("broken"))
        with pytest.raises(ValueError, match="broken"):
            await probe.ask(Wait(1))


async def test_a_probe_stands_in_for_an_actor_and_survives_its_restart() -> None:
    probe = Probe("p", Note)
    async with System(supervisor("root", probe)) as system:
        watch = Watch(system)
        await probe.tell(Note("before"))
        probe.kill()
        await probe.tell(Note("after"))
        await watch.wait_for(Restarted)
        assert [await probe.expect(Note) for _ in range(2)] == [Note("before"), Note("after")]


# The seeded scheduler ------------------------------------------------------------------------------------------------


async def bustle() -> list[str]:
    """Everything that happens in a small tree, in order."""
    log: list[str] = []
    rng = random.Random(1)  # noqa: S311
    crowd = pool("p", Props(Recorder, log, "p"), size=2)
    parts = [worker(name, Props(Recorder, log, name)) for name in "abc"]
    async with System(supervisor("root", crowd, *parts, strategy=Strategy.ONE_FOR_ALL), rng=rng) as system:
        watch = Watch(system)
        asks: list[asyncio.Future[object]] = []
        for n in range(12):
            asks.append(parts[n % 3].ask(Wait(n % 4 / 10, str(n)), 60))
            await crowd.tell(Note(str(n)))
            asks.append(crowd.ask(Wait(n % 3 / 10, f"p{n}"), 60))
        await parts[0].tell(Fail())
        await crowd.resize(3)
        await asyncio.gather(*asks, return_exceptions=True)
        log += [str(event) for event in watch.events]
    return log


def test_a_run_with_the_same_seed_is_identical() -> None:
    for seed in seeds(20):
        assert run(bustle, seed) == run(bustle, seed)


def test_other_seeds_are_other_schedules() -> None:
    assert len({tuple(run(bustle, seed)) for seed in range(20)}) > 10


def test_a_seed_changes_the_order_of_tasks_and_keeps_that_of_callbacks() -> None:
    async def order() -> tuple[list[int], list[int]]:
        tasks: list[int] = []
        callbacks: list[int] = []

        async def step(n: int) -> None:
            await asyncio.sleep(0)  # the first step of an eager task is no step of the loop's
            tasks.append(n)

        loop = asyncio.get_running_loop()
        all_tasks = [loop.create_task(step(n)) for n in range(8)]
        for n in range(8):
            loop.call_soon(callbacks.append, n)
        await asyncio.gather(*all_tasks)
        return tasks, callbacks

    orders = [run(order, seed) for seed in range(20)]
    assert all(callbacks == list(range(8)) for _, callbacks in orders)
    assert all(sorted(tasks) == list(range(8)) for tasks, _ in orders)
    assert len({tuple(tasks) for tasks, _ in orders}) > 10


def test_sockets_and_threads_work_on_a_seeded_loop() -> None:
    async def echo() -> bytes:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(100_000))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 100_000)
        answer = await reader.readexactly(100_000)
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(1)
        return answer + await asyncio.to_thread(bytes, 1)

    for seed in range(5):
        assert len(run(echo, seed)) == 100_001


def test_a_failing_seed_says_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        raise ValueError("by chance")

    with pytest.raises(ValueError, match="by chance") as caught:
        run(fails, 1234)
    (note,) = caught.value.__notes__
    assert note.startswith("seed 1234; replay it: CALLBOARD_SEED=1234 ")
    assert note.endswith(
        "-m pytest tests/runtime/test_testkit.py::test_a_failing_seed_says_the_command_that_replays_it"
    )
    monkeypatch.setenv("CALLBOARD_SEED", "1234")
    assert list(seeds(10_000)) == [1234]


def test_a_scenario_that_leaves_a_task_or_hangs_or_breaks_a_callback_fails() -> None:
    async def leaves() -> None:
        asyncio.get_running_loop().create_task(asyncio.sleep(9), name="left over")

    async def hangs() -> None:
        await asyncio.sleep(10_000)

    async def breaks() -> None:
        asyncio.get_running_loop().call_soon([].pop)
        await asyncio.sleep(1)

    with pytest.raises(LeftOverError, match="left over"):
        run(leaves, 1)
    with pytest.raises(TimeoutError):
        run(hangs, 1)
    with pytest.raises(IndexError):
        run(breaks, 1)


# The stress of lifecycles --------------------------------------------------------------------------------------------


class Fickle(Recorder):
    """Takes its time to start and to stop, and does not always start."""

    async def on_start(self) -> None:
        rng = asyncio.get_running_loop().rng  # type: ignore[attr-defined]
        await asyncio.sleep(rng.choice((0, 0, 0.1, 1)))
        if rng.random() < 0.2:
            raise OSError("no such port")

    async def on_stop(self) -> None:
        rng = asyncio.get_running_loop().rng  # type: ignore[attr-defined]
        await asyncio.sleep(rng.choice((0, 0, 0.1, 1)))


def fickle_tree(strategy: Strategy) -> object:
    inner = supervisor("inner", worker("a", Recorder), worker("b", Fickle), strategy=strategy)
    return supervisor("root", inner, pool("p", Fickle, size=2), worker("c", Fickle), strategy=strategy)


@pytest.mark.long
@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_lifecycle_stress_that_races_start_and_stop(strategy: Strategy) -> None:
    async def play(system: System, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(rng.random())
            node = rng.choice(nodes(system.root))
            if hasattr(node, "tell") and node.state is State.RUNNING:
                node.tell(rng.choice((Note("a"), Fail(), Wait(0.5))))

    stress(lambda: fickle_tree(strategy), seeds(300), play=play, allowed=(OSError,))  # type: ignore[arg-type,return-value]


def test_the_stress_finds_an_actor_that_does_not_stop() -> None:
    class Undead(Actor[Note]):
        @on(Note)
        def note(self, _message: Note) -> None: ...

        async def on_stop(self) -> None:
            asyncio.get_running_loop().call_later(1, setattr, self.ref, "state", State.RUNNING)

    with pytest.raises(LeftOverError, match="root/u is running after the stop") as caught:
        stress(lambda: supervisor("root", worker("u", Undead)), range(50))
    assert "replay it: CALLBOARD_SEED=" in caught.value.__notes__[0]
