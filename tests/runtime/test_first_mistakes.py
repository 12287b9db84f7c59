"""What a newcomer does wrong once, and what is said to it; and the limits of a tree."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from kit.recorder import Note, Notes, Recorder

from callboard.runtime import (
    Actor,
    Backoff,
    Counts,
    Intensity,
    Mailbox,
    NotStartedError,
    OutsideLoopError,
    Overflow,
    Props,
    Restart,
    Retry,
    RuntimeFault,
    Stopped,
    Supervisor,
    System,
    Terminated,
    TooDeepError,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.supervision.supervisor import MAX_LEVELS
from callboard.runtime.testkit import Watch


def test_a_system_outside_of_a_loop_says_where_to_make_it() -> None:
    with pytest.raises(OutsideLoopError, match="make a System where its event loop runs"):
        System(supervisor("root"))


def test_a_timer_in_a_constructor_says_where_to_make_it() -> None:
    class Early(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.after(1, Note("early"))

    with pytest.raises(NotStartedError, match=r"Early has no `ref` yet.*do in on_start what needs them") as caught:
        Early()
    assert isinstance(caught.value, RuntimeFault)
    assert not hasattr(Recorder(), "ref")
    with pytest.raises(AttributeError, match="'Recorder' object has no attribute 'nothing'"):
        _ = Recorder().nothing  # type: ignore[attr-defined]


# Options -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: supervisor("s", intensity=100), r"the intensity of s is an Intensity\(restarts, window_s\), not 100"),
        (lambda: pool("p", Recorder, size=1, intensity=3), "the intensity of p"),  # type: ignore[arg-type]
        (lambda: pool("p", Recorder, size=1, key=5), "the key of p is a function"),  # type: ignore[arg-type]
        (lambda: pool("p", Recorder, size=1, route="away"), "'away' is not a valid Route"),  # type: ignore[arg-type]
        (lambda: worker("w", Recorder, shutdown_s=float("nan")), "shutdown_s is 0 s or more, not nan"),
        (lambda: Mailbox(8, "refuse"), r"Mailbox\(overflow='refuse'\)"),  # type: ignore[arg-type]
        (lambda: Intensity(1.5), r"Intensity\(restarts=1.5\)"),  # type: ignore[arg-type]
        (lambda: Intensity(1, float("nan")), "an intensity is"),
        (lambda: Backoff(healthy_s="x"), r"Backoff\(healthy_s='x'\)"),  # type: ignore[arg-type]
        (lambda: Retry("x"), r"Retry\(times='x'\)"),  # type: ignore[arg-type]
    ],
)
def test_an_option_of_a_wrong_type_or_value_is_refused_where_it_is_given(make: Callable[[], Any], told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        make()


def test_the_text_of_an_option_is_as_good_as_the_option() -> None:
    assert Mailbox(8, "reject") == Mailbox(8, Overflow.REJECT)  # type: ignore[arg-type]
    assert Mailbox(8, "reject").overflow is Overflow.REJECT  # type: ignore[arg-type]


async def test_a_time_that_is_no_number_disorders_no_timer_of_the_loop() -> None:
    class Late(Actor[Note]):
        @on(Note)
        def note(self, message: Note) -> None:
            for start in (self.after, self.every):
                with pytest.raises(ValueError, match="tick"):
                    start(float("nan"), message)

    recorder, late = worker("r", Recorder), worker("l", Late)
    async with System(supervisor("root", recorder, late)):
        with pytest.raises(ValueError, match="an ask waits for a number of seconds"):
            recorder.ask(Notes(), timeout_s=float("nan"))
        late.tell(Note("now"))
        await late.drain(1)
        assert late.counts().handled == 1


# Leaving in the start ------------------------------------------------------------------------------------------------


class Leaves(Recorder):
    """Ends itself while it starts."""

    reason: str | None = None
    runs = 0

    async def on_start(self) -> None:
        await super().on_start()
        self.stop(self.reason)

    async def run(self) -> None:
        type(self).runs += 1


@pytest.mark.parametrize("reason", [None, "done"])
async def test_an_actor_may_stop_itself_in_its_start(reason: str | None) -> None:
    class Own(Leaves):
        pass

    Own.reason = reason
    log: list[str] = []
    told: list[str | None] = []

    class Widow(Actor[Terminated]):
        async def on_start(self) -> None:
            self.watch(own)

        @on(Terminated)
        def mourn(self, message: Terminated) -> None:
            told.append(message.reason)

    own = worker("o", Props(Own, log, "o"), restart=Restart.TRANSIENT)
    own.tell_nowait(Note("nobody handles it"))
    async with System(supervisor("root", own, worker("w", Widow))) as system:
        await Watch(system).wait_for(Stopped)
        assert log == ["o starts", "o stops"]
        assert Own.runs == 0
        await asyncio.sleep(1)
        assert told == [None if reason is None else "Shutdown: done"]
        assert own.tally() == Counts(dead_lettered=1)


async def test_a_child_added_later_may_stop_itself_in_its_start_and_in_each_restart() -> None:
    log: list[str] = []
    root = supervisor("root")
    async with System(root):
        own = worker("o", Props(Leaves, log, "o"), restart=Restart.TEMPORARY)
        await root.start_child(own)
        await asyncio.sleep(1)
        assert (log, root.children) == (["o starts", "o stops"], [])


# Deep trees ----------------------------------------------------------------------------------------------------------


def tower(levels: int, *children: object) -> Supervisor:
    top = supervisor("s", *children)
    for _ in range(levels - 1):
        top = supervisor("s", top)
    return top


async def test_a_tree_as_deep_as_it_may_be_starts_works_shows_itself_and_stops() -> None:
    recorder = worker("r", Recorder)
    async with System(tower(MAX_LEVELS, recorder)) as system:
        assert await recorder.ask(Notes()) == []
        assert recorder.path == "s/" * MAX_LEVELS + "r"
        node = system.dump()
        for _ in range(MAX_LEVELS):
            (node,) = node.children
        assert node.name == "r"


def test_one_level_more_is_refused_where_the_tree_is_made() -> None:
    with pytest.raises(TooDeepError, match=f"more than {MAX_LEVELS} levels deep"):
        tower(1000)


async def test_one_level_more_is_refused_where_it_is_added_to_a_running_tree() -> None:
    inner = supervisor("inner")
    top = inner
    for _ in range(MAX_LEVELS - 2):
        top = supervisor("s", top)
    async with System(top):
        await inner.start_child(supervisor("last"))
        with pytest.raises(TooDeepError):
            await inner.start_child(tower(2))
        assert [child.name for child in inner.children] == ["last"]
