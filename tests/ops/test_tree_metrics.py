"""Metrics of the tree: one series an actor of the composition, whatever is resized, spawned or kept by a key."""

import asyncio

from prometheus_client import CollectorRegistry

from callboard.ops.tree_metrics import TreeCollector
from callboard.runtime import (
    Actor,
    KeyedProps,
    Request,
    System,
    entities,
    on,
    pool,
    supervisor,
    worker,
)


class Say(Request[str], frozen=True):
    key: str = ""


class Fail(Request[None], frozen=True):
    pass


class Wait(Request[None], frozen=True):
    pass


gate: asyncio.Event


class Speaker(Actor[Say | Fail | Wait]):
    def __init__(self, _key: str = "") -> None:
        self.children = 0

    @on(Say)
    async def say(self, message: Say) -> str:
        await asyncio.sleep(0.01)
        if message.key == "spawn":
            self.children += 1
            await self.spawn(worker(f"child-{self.children}", Speaker))
        return message.key

    @on(Fail)
    async def fail(self, _message: Fail) -> None:
        raise LookupError

    @on(Wait)
    async def wait(self, _message: Wait) -> None:
        await gate.wait()


def series(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def watched(system: System) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(TreeCollector(system))
    return registry


async def test_a_pool_is_one_actor_and_its_counters_survive_each_resize() -> None:
    speakers = pool("speakers", Speaker, size=4)
    system = System(supervisor("root", speakers))
    registry = watched(system)
    async with system:
        await asyncio.gather(*(speakers.ask(Say()) for _ in range(40)))
        where = ("root/speakers", "handled")
        assert series(registry, "callboard_actor_messages_total")[where] == 40
        busy = series(registry, "callboard_actor_handler_seconds_total")[("root/speakers",)]
        assert busy >= 0.4
        await speakers.resize(1)
        assert series(registry, "callboard_actor_messages_total")[where] == 40
        assert series(registry, "callboard_actor_handler_seconds_total")[("root/speakers",)] >= busy
        await speakers.resize(6)
        await asyncio.gather(*(speakers.ask(Say()) for _ in range(6)))
        assert series(registry, "callboard_actor_messages_total")[where] == 46
        assert {actor for actor, _ in series(registry, "callboard_actor_messages_total")} == {"root/speakers"}


async def test_no_key_of_an_entity_and_no_name_of_a_child_is_a_label() -> None:
    crowd = entities(
        "crowd", KeyedProps(Speaker), key=lambda message: getattr(message, "key", ""), idle_s=60.0, limit=100
    )
    parent = worker("parent", Speaker)
    system = System(supervisor("root", crowd, parent))
    registry = watched(system)
    async with system:
        await asyncio.gather(*(crowd.ask(Say(f"ada{n}@example.org")) for n in range(30)))
        for _ in range(3):
            await parent.ask(Say("spawn"))
        counts = series(registry, "callboard_actor_messages_total")
    assert {actor for actor, _ in counts} == {"root/crowd", "root/parent"}
    assert counts[("root/crowd", "handled")] == 30


async def test_what_waits_has_an_age_and_a_crash_is_a_restart() -> None:
    global gate  # noqa: PLW0603 - of this loop
    gate = asyncio.Event()
    lone = worker("lone", Speaker)
    system = System(supervisor("root", lone), log=False)
    registry = watched(system)
    async with system:
        waits = [lone.ask(Wait()) for _ in range(3)]
        await asyncio.sleep(0.02)
        assert series(registry, "callboard_actor_mailbox_depth")[("root/lone",)] == 2
        assert series(registry, "callboard_actor_mailbox_age_seconds")[("root/lone",)] > 0
        gate.set()
        await asyncio.gather(*waits)
        assert series(registry, "callboard_actor_mailbox_age_seconds")[("root/lone",)] == 0
        await asyncio.gather(lone.ask(Fail()), return_exceptions=True)
        assert await lone.ask(Say("again")) == "again"
        assert series(registry, "callboard_actor_restarts_total")[("root/lone",)] == 1
