"""Supervision, case by case as OTP tests it: the names are those of supervisor_SUITE (stdlib), where it has one.

Where callboard.runtime differs on purpose, the test says so; runtime/README.md has the list.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from callboard.runtime import (
    Actor,
    ActorStoppedError,
    AlreadyStartedError,
    Backoff,
    Cell,
    ChildSpec,
    ChildSpecError,
    Crashed,
    DuplicateNameError,
    Escalated,
    EscalationError,
    Intensity,
    NotAChildError,
    Request,
    Restart,
    Restarted,
    Started,
    State,
    Stopped,
    Strategy,
    Supervisor,
    System,
    described,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch

STRATEGIES = list(Strategy)
RESTARTS = list(Restart)
OFTEN = Intensity(restarts=100, window_s=1)


class Exit(Request[None], frozen=True):
    """Ends the actor as OTP's tests end their server: `normal`, `shutdown` or `abnormal`."""

    how: str


class Ping(Request[str], frozen=True):
    pass


class Server(Actor[Exit | Ping]):
    """A worker that writes down how its life goes, and fails to start as often as `failures` says."""

    def __init__(self, log: list[str] | None = None, failures: list[Exception] | None = None) -> None:
        self.log = [] if log is None else log
        self.failures = [] if failures is None else failures

    async def on_start(self) -> None:
        if self.failures:
            self.log.append(f"{self.ref.name} fails")
            raise self.failures.pop()
        self.log.append(f"{self.ref.name} starts")

    async def on_stop(self) -> None:
        self.log.append(f"{self.ref.name} stops")

    @on(Exit)
    def exit(self, message: Exit) -> None:
        if message.how == "abnormal":
            raise ValueError(message.how)
        self.stop("shutdown" if message.how == "shutdown" else None)

    @on(Ping)
    def ping(self, _message: Ping) -> str:
        return "pong"


def now() -> float:
    return asyncio.get_running_loop().time()


def servers(names: str, log: list[str] | None = None, **spec: Any) -> list[Cell[Exit | Ping]]:
    return [worker(name, Server, log, **spec) for name in names]


async def end(server: Cell[Exit | Ping], how: str = "abnormal") -> None:
    """Have it end, and the supervisor do what it does."""
    try:
        await server.ask(Exit(how))
    except ValueError:
        assert how == "abnormal"
    await asyncio.sleep(0.001)


def lives(parent: Supervisor) -> dict[str, str]:
    return {child.name: child.state.value for child in parent.children}


# Starting: sup_start_normal, sup_start_ignore_init, sup_start_error_return, sup_start_fail ---------------------------


async def test_sup_start_normal_starts_children_in_order_and_stops_them_in_reverse() -> None:
    log: list[str] = []
    async with System(supervisor("root", *servers("abc", log))):
        assert log == ["a starts", "b starts", "c starts"]
        log.clear()
    assert log == ["c stops", "b stops", "a stops"]


async def test_sup_start_fail_stops_those_already_started_in_reverse_and_raises_the_original_error() -> None:
    log: list[str] = []
    third = worker("c", Server, log, [OSError("no port")])
    before = asyncio.all_tasks()
    with pytest.raises(OSError, match="no port"):
        await System(supervisor("root", *servers("ab", log), third, *servers("d", log))).start()
    assert log == ["a starts", "b starts", "c fails", "c stops", "b stops", "a stops"]
    assert asyncio.all_tasks() == before


async def test_a_start_that_fails_gives_what_was_sent_before_it_its_fate() -> None:
    first = servers("a")[0]
    early = first.ask(Ping(), timeout_s=60)
    with pytest.raises(OSError, match="no port"):
        await System(supervisor("root", worker("b", Server, None, [OSError("no port")]), first)).start()
    with pytest.raises(ActorStoppedError):
        await early
    assert first.tally().pending == 0


async def test_a_constructor_that_raises_is_a_start_that_fails() -> None:
    class Unmade(Server):
        def __init__(self) -> None:
            raise OSError("no licence")

    root = supervisor("root", *servers("a"))
    async with System(root):
        with pytest.raises(OSError, match="no licence"):
            await root.start_child(worker("u", Unmade))
        assert lives(root) == {"a": "running"}


async def test_a_nested_supervisor_that_fails_to_start_fails_the_whole_start() -> None:
    log: list[str] = []
    inner = supervisor("inner", *servers("b", log), worker("c", Server, log, [OSError("no port")]))
    with pytest.raises(OSError, match="no port"):
        await System(supervisor("root", *servers("a", log), inner)).start()
    assert log == ["a starts", "b starts", "c fails", "c stops", "b stops", "a stops"]


async def test_a_child_that_ends_while_others_are_being_started_is_seen_to_afterwards() -> None:
    class Brief(Server):
        async def run(self) -> None:
            if not self.ref.record.restarts:
                raise ValueError("too early")
            await asyncio.sleep(999)

    class Slow(Server):
        async def on_start(self) -> None:
            await asyncio.sleep(5)
            await super().on_start()

    for strategy in STRATEGIES:
        log: list[str] = []
        root = supervisor("root", worker("a", Brief, log), worker("b", Slow, log), strategy=strategy)
        async with System(root) as system:
            assert log == ["a starts", "b starts"]
            await Watch(system).wait_for(Restarted)
            await asyncio.sleep(6)
            assert lives(root) == {"a": "running", "b": "running"}
            assert log.count("a starts") == 2


# Child specs: child_adm, child_specs, start_child, delete_child ------------------------------------------------------


async def test_child_adm_starts_terminates_restarts_and_deletes_a_child() -> None:
    log: list[str] = []
    root = supervisor("root", *servers("a", log))
    async with System(root):
        (child,) = servers("b", log)
        await root.start_child(child)
        assert lives(root) == {"a": "running", "b": "running"}
        await root.terminate_child(child)
        assert lives(root) == {"a": "running", "b": "stopped"}
        with pytest.raises(ActorStoppedError):
            await child.tell(Ping())
        await root.restart_child(child)
        assert await child.ask(Ping()) == "pong"
        await root.stop_child(child)
        assert lives(root) == {"a": "running"}
        await root.start_child(*servers("b", log))
        assert log == ["a starts", "b starts", "b stops", "b starts", "b stops", "b starts"]


async def test_restart_child_is_refused_for_one_that_runs_or_is_unknown() -> None:
    root = supervisor("root", *servers("a"))
    async with System(root):
        with pytest.raises(AlreadyStartedError, match="root/a is running: only what has been stopped is started again"):
            await root.restart_child(root.children[0])
        (stranger,) = servers("a")
        for refused in (root.restart_child, root.stop_child, root.terminate_child):
            with pytest.raises(NotAChildError, match="root has no child 'a': add it with start_child"):
                await refused(stranger)
        assert lives(root) == {"a": "running"}


async def test_restart_child_that_fails_leaves_the_child_stopped() -> None:
    failures: list[Exception] = []
    child = worker("a", Server, None, failures)
    root = supervisor("root", child)
    async with System(root):
        await root.terminate_child(child)
        failures.append(OSError("no port"))
        with pytest.raises(OSError, match="no port"):
            await root.restart_child(child)
        assert lives(root) == {"a": "stopped"}
        await root.restart_child(child)
        assert await child.ask(Ping()) == "pong"


async def test_a_restart_by_hand_is_not_counted_in_the_intensity() -> None:
    root = supervisor("root", *servers("a"), intensity=Intensity(0))
    async with System(root):
        for _ in range(3):
            await root.terminate_child(root.children[0])
            await root.restart_child(root.children[0])
        assert lives(root) == {"a": "running"}


async def test_a_supervisor_that_was_terminated_is_restarted_with_all_its_children() -> None:
    inner = supervisor("inner", *servers("ab"))
    root = supervisor("root", inner)
    async with System(root):
        await root.terminate_child(inner)
        assert lives(inner) == {"a": "stopped", "b": "stopped"}
        await root.restart_child(inner)
        assert lives(inner) == {"a": "running", "b": "running"}


async def test_the_name_of_a_child_that_ended_is_taken_until_it_is_stopped_by_name() -> None:
    root = supervisor("root", *servers("a", restart=Restart.TRANSIENT))
    async with System(root):
        await end(root.children[0], "normal")  # type: ignore[arg-type]
        with pytest.raises(DuplicateNameError, match="stop that one first"):
            await root.start_child(*servers("a"))
        await root.stop_child(root.children[0])
        await root.start_child(*servers("a"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: worker("w", Server, mailbox=5),
            "Expected `object`, got `int` - at `$.mailbox`; it wants mailbox: Mailbox",
        ),
        (lambda: worker("w", Server, restart="sometimes"), "Invalid enum value 'sometimes' - at `$.restart`"),
        (lambda: worker("w", Server, shutdown_s="5 s"), "Expected `float`, got `str` - at `$.shutdown_s`"),
        (
            lambda: worker("w", Server, retries=3),
            "the child spec of w has no retries; it has mailbox, restart, backoff",
        ),
        (lambda: pool("p", Server, size=2, restrat=1), "the child spec of p has no restrat"),
        (lambda: supervisor("s", Server), "a child of s is made by worker"),
    ],
    ids=["mailbox", "restart", "shutdown", "unknown", "pool", "no child"],
)
def test_child_specs_that_are_none_are_refused_before_anything_starts(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ChildSpecError) as caught:
        make()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Intensity(-1),
        lambda: Intensity(1, 0),
        lambda: Backoff(initial_s=-1),
        lambda: Backoff(factor=0.5),
        lambda: Backoff(jitter=2),
        lambda: supervisor("s", strategy="one_for_two"),
    ],
    ids=["restarts", "window", "wait", "shrinking", "jitter", "strategy"],
)
def test_flags_that_make_no_sense_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"not|valid"):
        make()


def test_a_spec_may_be_given_by_the_names_of_its_values() -> None:
    made = worker("w", Server, restart="transient", shutdown_s=3)
    assert made.spec == ChildSpec(restart=Restart.TRANSIENT, shutdown_s=3.0)
    assert supervisor("s", strategy="one_for_all").strategy is Strategy.ONE_FOR_ALL


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
    second = worker("b", Server, log, failures)
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
    second = worker("b", Server, log, failures)
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
    child = worker("a", Server, None, failures)
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
    shaky, slow = worker("a", Shaky, log), worker("b", Slow, log)
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
        assert (system.root.state, child.state) == (State.CRASHED, State.CRASHED)
        assert "more than 3 restarts in 10 s" in str(await system.failed())


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


# Dynamic children: simple_one_for_one --------------------------------------------------------------------------------


async def test_dynamic_children_are_restarted_one_by_one_and_stopped_in_reverse() -> None:
    log: list[str] = []
    root = supervisor("root", intensity=OFTEN)
    async with System(root) as system:
        watch = Watch(system)
        added = servers("abc", log)
        for child in added:
            await root.start_child(child)
        assert [event.actor for event in watch.of(Started)] == ["root/a", "root/b", "root/c"]
        log.clear()
        await end(added[1])
        assert log == ["b stops", "b starts"]
        log.clear()
    assert log == ["c stops", "b stops", "a stops"]


async def test_a_dynamic_child_joins_its_group() -> None:
    log: list[str] = []
    (first,), (added,) = servers("a", log), servers("b", log)
    root = supervisor("root", first, strategy=Strategy.ONE_FOR_ALL)
    async with System(root):
        await root.start_child(added)
        log.clear()
        await end(added)
        assert log == ["b stops", "a stops", "a starts", "b starts"]


# Children that do not want to end: shutdown, brutal_kill -------------------------------------------------------------


class Hold(Request[str], frozen=True):
    pass


class Holding(Actor[Hold]):
    @on(Hold)
    async def hold(self, _message: Hold) -> str:
        await asyncio.sleep(60)
        return "held"


@pytest.mark.parametrize("shutdown_s", [0.0, 2.0])
async def test_shutdown_waits_for_the_message_in_hand_as_long_as_the_spec_says(shutdown_s: float) -> None:
    child = worker("h", Holding, shutdown_s=shutdown_s)
    root = supervisor("root", child)
    async with System(root):
        held = child.ask(Hold(), timeout_s=90)
        await asyncio.sleep(0.1)
        await root.stop_child(child)
        assert now() == pytest.approx(0.1 + shutdown_s)
        with pytest.raises(Exception, match="crashed while it handled Hold"):
            await held
