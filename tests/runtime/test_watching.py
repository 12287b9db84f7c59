"""Watching: the tree dump and the stream of lifecycle events."""

import asyncio
from typing import Any

import pytest
from kit.recorder import Fail, Note, Notes, Recorder, Refuse, Wait

from callboard.runtime import (
    Backoff,
    Crashed,
    DeadLettered,
    Escalated,
    Intensity,
    Lifecycle,
    Mailbox,
    Overflow,
    Overflowed,
    Refused,
    Restarted,
    Started,
    Stopped,
    System,
    TreeNode,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import Watch


def leaves(node: TreeNode) -> list[TreeNode]:
    return [leaf for child in node.children for leaf in leaves(child)] if node.children else [node]


async def test_a_tree_dump_gives_state_depth_age_handler_and_rates_even_while_mailboxes_are_full() -> None:
    full = Mailbox(3, Overflow.REJECT)
    crowd = pool("p", Recorder, size=3, mailbox=full)
    down = worker("d", Recorder, mailbox=full, backoff=Backoff(initial_s=100))
    async with System(supervisor("root", crowd, down)) as system:
        waits = [crowd.ask(Wait(60), timeout_s=90) for _ in range(3)]
        down.tell_nowait(Fail())
        await asyncio.sleep(1)
        for n in range(9):
            crowd.tell_nowait(Note(str(n)))
        for n in range(3):
            down.tell_nowait(Note(str(n)))
        await asyncio.sleep(4)
        *busy, fallen = leaves(system.dump())
        for node in busy:
            assert (node.state, node.depth, node.capacity, node.current) == ("running", 3, 3, "Wait")
            assert node.oldest_s == pytest.approx(5)
            assert node.counts is not None
            assert (node.counts.handled, node.counts.pending) == (0, 4)
        assert (fallen.state, fallen.depth, fallen.current, fallen.restarts) == ("crashed", 3, None, 0)
        assert fallen.oldest_s == pytest.approx(5)
        for wait in waits:
            wait.cancel()


async def test_a_tree_dump_shows_how_often_each_was_restarted() -> None:
    recorder = worker("r", Recorder)
    inner = supervisor("inner", recorder, intensity=Intensity(1, 60))
    async with System(supervisor("root", inner)) as system:
        watch = Watch(system)
        for n in range(2):
            await recorder.tell(Fail())
            await watch.wait_for(Restarted, n + 1)
        (node,) = system.dump().children
        assert (node.restarts, node.children[0].restarts) == (1, 1)


async def test_an_actor_that_has_its_turn_in_a_moment_has_nothing_old() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)) as system:
        await recorder.ask(Wait(1))
        await asyncio.sleep(3600)
        recorder.tell_nowait(Note("a"))
        (node,) = leaves(system.dump())
        assert (node.depth, node.oldest_s) == (1, None)


async def test_what_was_sent_before_the_start_is_not_older_than_the_start() -> None:
    class Slow(Recorder):
        async def on_start(self) -> None:
            await asyncio.sleep(5)

    await asyncio.sleep(3600)
    slow = worker("s", Slow)
    await slow.tell(Note("early"))
    system = System(supervisor("root", slow))
    assert leaves(system.dump())[0].oldest_s is None
    starting = asyncio.ensure_future(system.start())
    await asyncio.sleep(2)
    assert leaves(system.dump())[0].oldest_s == pytest.approx(2)
    await starting
    await system.stop()


async def test_a_rate_is_that_of_the_time_between_two_looks_a_second_apart() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)) as system:

        def rate() -> float | None:
            return leaves(system.dump())[0].handled_per_s

        assert rate() is None
        for n in range(30):
            recorder.tell_nowait(Note(str(n)))
        await asyncio.sleep(0.5)
        assert rate() is None
        await asyncio.sleep(1.5)
        assert rate() == 15
        await asyncio.sleep(0.5)
        assert rate() == 15
        await asyncio.sleep(1)
        assert rate() == 0


async def play(system: System, recorder: Any) -> None:
    """A life with each kind of event in it."""
    await recorder.tell(Refuse("nobody hears it"))
    await recorder.ask(Notes())
    for text in "ab":
        recorder.tell_nowait(Note(text))
    recorder.tell_nowait(Note("too many"))
    await asyncio.sleep(1)
    recorder.tell_nowait(Fail())
    await asyncio.sleep(1)
    recorder.tell_nowait(Fail())
    recorder.tell_nowait(Note("left over"))
    await system.failed()


def tree() -> tuple[System, Any]:
    recorder = worker("r", Recorder, mailbox=Mailbox(2, Overflow.DROP_NEWEST))
    return System(supervisor("root", recorder, intensity=Intensity(1, 60))), recorder


KINDS = [Started, Refused, Overflowed, Crashed, Restarted, Crashed, Escalated, Stopped]


async def test_lifecycle_events_are_a_stream_anyone_can_subscribe_to() -> None:
    system, recorder = tree()
    watches = [Watch(system) for _ in range(3)]
    async with system:
        await play(system, recorder)
    for watch in watches:
        kinds = [type(event) for event in watch.events]
        assert [kind for kind in kinds if kind is not DeadLettered] == KINDS
        assert [event.message for event in watch.of(DeadLettered)] == [Note("left over")]
        assert all(event.actor in ("root", "root/r") for event in watch.events)


async def test_a_subscriber_that_raises_breaks_neither_the_runtime_nor_other_subscribers() -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    system, recorder = tree()

    def careless(event: Lifecycle) -> None:
        raise KeyError(event.actor)

    before = Watch(system)
    system.subscribe(careless)
    after = Watch(system)
    async with system:
        await play(system, recorder)
    assert list(before.events) == list(after.events)
    assert [kind for event in after.events if (kind := type(event)) is not DeadLettered] == KINDS
    assert len(said) == len(after.events)
    assert said[0]["message"] == "a watcher of lifecycle events failed on Started of root/r"
    assert isinstance(said[0]["exception"], KeyError)


async def test_a_subscriber_may_end_its_subscription_while_it_is_told() -> None:
    seen: list[str] = []
    recorder = worker("r", Recorder)
    system = System(supervisor("root", recorder))

    def once(event: Lifecycle) -> None:
        seen.append(f"once {type(event).__name__}")
        end()
        end()

    end = system.subscribe(once)
    system.subscribe(lambda event: seen.append(type(event).__name__))
    async with system:
        pass
    assert seen == ["once Started", "Started", "Stopped"]


async def test_a_subscriber_may_tell_and_stop_actors() -> None:
    recorder = worker("r", Recorder)
    other = worker("o", Recorder)
    system = System(supervisor("root", other, recorder))
    system.subscribe(lambda event: other.tell_nowait(Note(type(event).__name__)) if event.actor == "root/r" else None)
    async with system:
        await recorder.tell(Fail())
        await asyncio.sleep(1)
        assert await other.ask(Notes()) == ["Started", "Crashed", "Restarted"]
