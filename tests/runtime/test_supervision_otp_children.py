"""Starting, adding, taking away and stopping children, case by case as OTP tests it: see test_supervision_otp.py."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from kit.otp import Ping, Server, end, lives, now, servers

from callboard.runtime import (
    Actor,
    ActorStoppedError,
    AlreadyStartedError,
    Backoff,
    ChildSpec,
    ChildSpecError,
    DuplicateNameError,
    Intensity,
    NotAChildError,
    Props,
    Request,
    Restart,
    Restarted,
    Started,
    Strategy,
    System,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch

STRATEGIES = list(Strategy)
RESTARTS = list(Restart)
OFTEN = Intensity(restarts=100, window_s=1)


# Starting: sup_start_normal, sup_start_ignore_init, sup_start_error_return, sup_start_fail ---------------------------


async def test_sup_start_normal_starts_children_in_order_and_stops_them_in_reverse() -> None:
    log: list[str] = []
    async with System(supervisor("root", *servers("abc", log))):
        assert log == ["a starts", "b starts", "c starts"]
        log.clear()
    assert log == ["c stops", "b stops", "a stops"]


async def test_sup_start_fail_stops_those_already_started_in_reverse_and_raises_the_original_error() -> None:
    log: list[str] = []
    third = worker("c", Props(Server, log, [OSError("no port")]))
    before = asyncio.all_tasks()
    with pytest.raises(OSError, match="no port"):
        await System(supervisor("root", *servers("ab", log), third, *servers("d", log))).start()
    assert log == ["a starts", "b starts", "c fails", "c stops", "b stops", "a stops"]
    assert asyncio.all_tasks() == before


async def test_a_start_that_fails_gives_what_was_sent_before_it_its_fate() -> None:
    first = servers("a")[0]
    early = first.ask(Ping(), timeout_s=60)
    with pytest.raises(OSError, match="no port"):
        await System(supervisor("root", worker("b", Props(Server, None, [OSError("no port")])), first)).start()
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
    inner = supervisor("inner", *servers("b", log), worker("c", Props(Server, log, [OSError("no port")])))
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
        root = supervisor("root", worker("a", Props(Brief, log)), worker("b", Props(Slow, log)), strategy=strategy)
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
    child = worker("a", Props(Server, None, failures))
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
