"""What lifecycle events and the watch over stalls cost, in microseconds, medians of interleaved rounds.

python tests/bench/lifecycle.py        # from the checkout, with the package installed; about 20 s

A child is started and stopped (two events), crashed and restarted (two events), and told a message (none): with 0, 1
and 3 subscribers, and with none but a StallWatch.
"""

import asyncio
import statistics
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

from callboard.runtime import Actor, Intensity, Lifecycle, Message, System, on, supervisor, worker

ROUNDS = 7
CHILDREN = 20_000
CRASHES = 5000
TELLS = 500_000
SUBSCRIBERS = (0, 1, 3)
CAPACITY = 1000


class Add(Message, frozen=True):
    n: int


class Counter(Actor[Add]):
    """Adds up; crashes at less than nothing."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0

    @on(Add)
    def add(self, message: Add) -> None:
        if message.n < 0:
            raise ValueError
        self.total += message.n


async def start_and_stop(_system: System) -> float:
    """Microseconds for the life of a child."""
    root = _system.root
    began = perf_counter()
    for n in range(CHILDREN):
        child = worker(str(n), Counter)
        await root.start_child(child)
        await root.stop_child(child)
    return (perf_counter() - began) / CHILDREN * 1e6


async def crash_and_restart(system: System) -> float:
    """Microseconds from a message that crashes to the next incarnation."""
    counter = worker("c", Counter)
    await system.root.start_child(counter)
    crash = Add(-1)
    began = perf_counter()
    for n in range(CRASHES):
        await counter.tell(crash)
        while counter.record.restarts <= n:  # noqa: ASYNC110 - an event would need a subscriber
            await asyncio.sleep(0)
    took = perf_counter() - began
    await system.root.stop_child(counter)
    return took / CRASHES * 1e6


async def tell(system: System) -> float:
    """Microseconds for a message told and handled."""
    counter = worker("c", Counter, mailbox={"capacity": CAPACITY})
    await system.root.start_child(counter)
    add = Add(1)
    began = perf_counter()
    for _ in range(TELLS // CAPACITY):
        for _ in range(CAPACITY):
            await counter.tell(add)
        await asyncio.sleep(0)
    took = perf_counter() - began
    await system.root.stop_child(counter)
    return took / TELLS * 1e6


def ignore(_event: Lifecycle) -> None:
    """What a subscriber itself does is its own cost."""


async def measure(job: Callable[[System], Awaitable[float]], subscribers: int, stall_after_s: float | None) -> float:
    """One round of a job on a system of its own."""
    intensity = Intensity(restarts=10 * CRASHES, window_s=1)
    async with System(supervisor("root", intensity=intensity), stall_after_s=stall_after_s) as system:
        for _ in range(subscribers):
            system.subscribe(ignore)
        return await job(system)


def main() -> None:
    """Print a line for each job."""
    cases = [(subscribers, None) for subscribers in SUBSCRIBERS] + [(0, 0.1)]
    for job in (start_and_stop, crash_and_restart, tell):
        rounds = [[asyncio.run(measure(job, *case)) for case in cases] for _ in range(ROUNDS)]
        none, one, three, stalls = (statistics.median(column) for column in zip(*rounds, strict=True))
        said = f"{none:.2f} us; 1 subscriber {one:.2f}, 3 subscribers {three:.2f}, stall watch {stalls:.2f}"
        sys.stdout.write(f"{job.__name__.replace('_', ' ')}: {said}\n")


if __name__ == "__main__":
    main()
