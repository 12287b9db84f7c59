"""Supervision, case by case as OTP tests it: the names are those of supervisor_SUITE (stdlib), where it has one.

Where callboard.runtime differs on purpose, the test says so; runtime/README.md has the list.
"""

import asyncio

import pytest
from kit.otp import Exit, Ping, Server, end, lives, servers

from callboard.runtime import (
    ChildSpec,
    Crashed,
    Escalated,
    EscalationError,
    Intensity,
    Props,
    Restart,
    State,
    Stopped,
    Strategy,
    System,
    described,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch

STRATEGIES = list(Strategy)
RESTARTS = list(Restart)
OFTEN = Intensity(restarts=100, window_s=1)


# Restart types: permanent_, transient_ and temporary_ with normal, shutdown and abnormal exits -----------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("how", ["normal", "shutdown", "abnormal"])
@pytest.mark.parametrize("restart", RESTARTS)
async def test_permanent_transient_and_temporary_children_each_with_normal_shutdown_and_crash_exits(
    restart: Restart, how: str, strategy: Strategy
) -> None:
    log: list[str] = []
    (child,) = servers("b", log, restart=restart)
    root = supervisor("root", *servers("a", log), child, *servers("c", log), strategy=strategy)
    async with System(root) as system:
        watch = Watch(system)
        log.clear()
        await end(child, how)
        again = restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and how == "abnormal")
        if again:
            assert await child.ask(Ping()) == "pong"
            assert lives(root) == {"a": "running", "b": "running", "c": "running"}
            stopped = {Strategy.ONE_FOR_ONE: "b", Strategy.REST_FOR_ONE: "cb", Strategy.ONE_FOR_ALL: "cba"}[strategy]
            started = "".join(reversed(stopped))
            assert log == [f"{name} stops" for name in stopped] + [f"{name} starts" for name in started]
        else:
            kept = {} if restart is Restart.TEMPORARY else {"b": "stopped"}
            assert lives(root) == {"a": "running", **kept, "c": "running"}
            assert log == ["b stops"]
            assert [event.actor for event in watch.of(Stopped)] == ["root/b"]
        assert len(watch.of(Crashed)) == (how == "abnormal")


async def test_a_temporary_child_leaves_nothing_not_even_its_name() -> None:
    root = supervisor("root")
    async with System(root):
        for _ in range(3):
            (child,) = servers("t", restart=Restart.TEMPORARY)
            await root.start_child(child)
            await end(child)
            assert root.children == []
        (child,) = servers("t", restart=Restart.TEMPORARY)
        await root.start_child(child)
        await root.terminate_child(child)
        assert root.children == []


# Strategies: one_for_one, one_for_all, rest_for_one, and their _escalation -------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_temporary_bystander_is_stopped_with_its_group_and_not_restarted(strategy: Strategy) -> None:
    log: list[str] = []
    (first,), (bystander,) = servers("a", log), servers("b", log, restart=Restart.TEMPORARY)
    root = supervisor("root", first, bystander, *servers("c", log), strategy=strategy)
    async with System(root):
        await end(first)
        if strategy is Strategy.ONE_FOR_ONE:
            assert lives(root) == {"a": "running", "b": "running", "c": "running"}
        else:
            assert lives(root) == {"a": "running", "c": "running"}
            assert log.count("b stops") == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_sibling_that_had_ended_for_good_stays_so_when_its_group_restarts(strategy: Strategy) -> None:
    """OTP would start it again: its process is dead, and its spec is still there. Ours has told its watchers."""
    (first,), (ended,) = servers("a"), servers("b", restart=Restart.TRANSIENT)
    root = supervisor("root", first, ended, strategy=strategy)
    async with System(root):
        await end(ended, "normal")
        await end(first)
        assert lives(root) == {"a": "running", "b": "stopped"}


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_escalation_stops_all_children_and_reaches_the_parent_with_the_chain_of_causes(
    strategy: Strategy,
) -> None:
    log: list[str] = []
    children = servers("abc", log)
    inner = supervisor("inner", *children, strategy=strategy, intensity=Intensity(1, 5))
    root = supervisor("root", inner, *servers("z", log))
    async with System(root) as system:
        watch = Watch(system)
        await end(children[1])
        log.clear()
        await end(children[1])
        (escalated,) = watch.of(Escalated)
        assert escalated.actor == "root/inner"
        assert described(escalated.error) == (
            "EscalationError: root/inner gave up on b: more than 1 restarts in 5 s; see the cause "
            "<- ValueError: abnormal"
        )
        assert sorted(log[:3]) == ["a stops", "b stops", "c stops"]
        assert log[3:] == ["a starts", "b starts", "c starts"]
        assert lives(root) == {"inner": "running", "z": "running"}
        assert inner.record.restarts == 1


async def test_an_escalation_is_a_crash_for_a_transient_supervisor() -> None:
    """OTP's supervisor exits with `shutdown`, so that a transient one is not restarted: a footgun we leave out."""
    children = servers("a")
    inner = supervisor("inner", *children, intensity=Intensity(0), spec=ChildSpec(restart=Restart.TRANSIENT))
    async with System(supervisor("root", inner)):
        await end(children[0])
        assert await children[0].ask(Ping()) == "pong"


async def test_simultaneous_crashes_in_one_for_all_cause_one_restart_of_the_group() -> None:
    log: list[str] = []
    children = servers("abc", log)
    root = supervisor("root", *children, strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(1))
    async with System(root):
        log.clear()
        for child in children:
            await child.tell(Exit("abnormal"))
        await asyncio.sleep(1)
        assert log == ["c stops", "b stops", "a stops", "a starts", "b starts", "c starts"]
        assert [child.record.restarts for child in children] == [1, 1, 1]
        assert root.state is State.RUNNING


async def test_simultaneous_crashes_in_one_for_one_each_count() -> None:
    children = servers("abc")
    root = supervisor("root", *children, intensity=Intensity(2))
    system = System(root)
    async with system:
        for child in children:
            await child.tell(Exit("abnormal"))
        assert isinstance(await system.failed(), EscalationError)


async def test_rest_for_one_leaves_those_before_the_crashed_child_alone() -> None:
    log: list[str] = []
    children = servers("abcd", log)
    async with System(supervisor("root", *children, strategy=Strategy.REST_FOR_ONE)):
        log.clear()
        await end(children[2])
        assert log == ["d stops", "c stops", "c starts", "d starts"]


# A sibling that fails during a restart: rest_for_one_other_child_fails_restart, one_for_all_other_child_fails_restart -


async def test_one_for_all_other_child_fails_restart() -> None:
    log: list[str] = []
    failures: list[Exception] = []
    (first,) = servers("a", log)
    second = worker("b", Props(Server, log, failures))
    root = supervisor("root", first, second, *servers("c", log), strategy=Strategy.ONE_FOR_ALL, intensity=OFTEN)
    async with System(root) as system:
        watch = Watch(system)
        log.clear()
        failures += [OSError("no port"), OSError("no port")]
        await end(first)
        assert log == [
            *["c stops", "b stops", "a stops"],
            *["a starts", "b fails", "b stops", "a stops"],
            *["a starts", "b fails", "b stops", "a stops"],
            *["a starts", "b starts", "c starts"],
        ]
        assert [type(event.error) for event in watch.of(Crashed)] == [ValueError, OSError, OSError]
        assert lives(root) == {"a": "running", "b": "running", "c": "running"}


async def test_rest_for_one_other_child_fails_restart() -> None:
    log: list[str] = []
    failures: list[Exception] = []
    (first,) = servers("a", log)
    second = worker("b", Props(Server, log, failures))
    root = supervisor("root", first, second, *servers("c", log), strategy=Strategy.REST_FOR_ONE, intensity=OFTEN)
    async with System(root):
        log.clear()
        failures.append(OSError("no port"))
        await end(first)
        assert log == [
            *["c stops", "b stops", "a stops"],
            *["a starts", "b fails", "b stops"],
            *["b starts", "c starts"],
        ], "those before the one that failed to start stay up"


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_restarts_that_fail_count_and_escalate(strategy: Strategy) -> None:
    failures: list[Exception] = []
    child = worker("a", Props(Server, None, failures))
    root = supervisor("root", child, strategy=strategy, intensity=Intensity(3, 5))
    async with System(root) as system:
        failures += [OSError(f"attempt {3 - n}") for n in range(3)]
        await end(child)
        reason = await system.failed()
        assert described(reason).endswith("<- OSError: attempt 3"), "the last error is the cause"


async def test_a_sibling_that_crashes_while_its_group_restarts_restarts_the_group_again() -> None:
    class Shaky(Server):
        async def run(self) -> None:
            if self.ref.record.restarts == 1:
                raise ValueError("shaken")
            await asyncio.sleep(999)

    class Slow(Server):
        async def on_start(self) -> None:
            await asyncio.sleep(1)
            await super().on_start()

    log: list[str] = []
    shaky, slow = worker("a", Props(Shaky, log)), worker("b", Props(Slow, log))
    async with System(supervisor("root", shaky, slow, strategy=Strategy.ONE_FOR_ALL)):
        await end(shaky)
        await asyncio.sleep(3)
        assert [log.count(f"{name} starts") for name in "ab"] == [3, 3]
        assert (shaky.state, slow.state) == (State.RUNNING, State.RUNNING)


# Intensity: the window's edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_n_restarts_in_the_window_pass_and_n_plus_1_stops_the_supervisor(strategy: Strategy) -> None:
    (child,) = servers("a")
    system = System(supervisor("root", child, strategy=strategy, intensity=Intensity(3, 10)))
    async with system:
        for _ in range(3):
            await end(child)
        assert await child.ask(Ping()) == "pong"
        await end(child)
        assert "more than 3 restarts in 10 s" in str(await system.failed())
        await asyncio.sleep(0.001)
        assert (system.root.state, child.state) == (State.STOPPED, State.STOPPED)


@pytest.mark.parametrize(("gap_s", "passes"), [(9.9, False), (10.0, False), (10.1, True)])
async def test_a_restart_is_forgotten_when_it_is_older_than_the_window(gap_s: float, passes: bool) -> None:
    (child,) = servers("a")
    system = System(supervisor("root", child, intensity=Intensity(1, 10)))
    async with system:
        with pytest.raises(ValueError, match="abnormal"):
            await child.ask(Exit("abnormal"))
        await asyncio.sleep(gap_s)
        with pytest.raises(ValueError, match="abnormal"):
            await child.ask(Exit("abnormal"))
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert (system.root.state is State.RUNNING) is passes
        if not passes:
            await system.failed()


async def test_the_window_slides() -> None:
    (child,) = servers("a")
    root = supervisor("root", child, intensity=Intensity(2, 10))
    async with System(root):
        for _ in range(20):
            await end(child)
            await asyncio.sleep(5.1)
        assert child.record.restarts == 20
        assert root.state is State.RUNNING


async def test_normal_exits_of_a_permanent_child_count_too() -> None:
    (child,) = servers("a")
    system = System(supervisor("root", child, intensity=Intensity(2, 10)))
    async with system:
        for _ in range(3):
            await end(child, "normal")
        assert (await system.failed()).__cause__ is None


async def test_an_intensity_of_none_escalates_at_once() -> None:
    (child,) = servers("a")
    system = System(supervisor("root", child, intensity=Intensity(0)))
    async with system:
        await end(child)
        assert isinstance(await system.failed(), EscalationError)
        assert child.record.restarts == 0


# Nested budgets ------------------------------------------------------------------------------------------------------


async def test_nested_budgets_multiply() -> None:
    (child,) = servers("a")
    inner = supervisor("inner", child, intensity=Intensity(2, 60))
    middle = supervisor("middle", inner, intensity=Intensity(1, 60))
    root = supervisor("root", middle, intensity=Intensity(0))
    system = System(root)
    async with system:
        watch = Watch(system)
        for _ in range(5):
            await end(child)
            assert root.state is State.RUNNING
        await end(child)
        reason = await system.failed()
        assert [event.actor for event in watch.of(Escalated)] == [
            *["root/middle/inner", "root/middle/inner"],
            *["root/middle", "root"],
        ]
        assert described(reason).count("gave up on") == 3
        assert described(reason).endswith("<- ValueError: abnormal")


async def test_a_restarted_supervisor_begins_with_its_whole_budget() -> None:
    (child,) = servers("a")
    inner = supervisor("inner", child, intensity=Intensity(2, 60))
    async with System(supervisor("root", inner, intensity=OFTEN)):
        for _ in range(3):
            await end(child)
        assert inner.record.restarts == 1
        for _ in range(2):
            await end(child)
        assert inner.record.restarts == 1


async def test_a_restarted_supervisor_keeps_its_dynamic_children() -> None:
    """OTP's begins with those of its init: who was added since is gone. Ours are references that stay good."""
    (first,), (added,) = servers("a"), servers("b")
    inner = supervisor("inner", first, intensity=Intensity(0))
    async with System(supervisor("root", inner)):
        await inner.start_child(added)
        await end(first)
        assert lives(inner) == {"a": "running", "b": "running"}
        assert await added.ask(Ping()) == "pong"
