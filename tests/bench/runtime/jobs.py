"""What is measured: the jobs, their sizes, the messages that Python peers exchange, and the stopwatch.

tell        one sender tells one actor `size` times; done when the actor has handled all
ask         one sender asks one actor `size` times, each time after the reply
in_flight   ASKERS tasks ask one actor, `size` times in all
fan_out     one sender tells each of MEMBERS actors in turn, `size` messages in all
ring        one message goes round a ring of MEMBERS actors, `size` hops
spawn       `size` actors are started and stay idle; also gives the bytes that each holds
"""

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import msgspec

CAPACITY = 1024  # of every mailbox that can be bounded
ASKERS = MEMBERS = int(os.environ.get("BENCH_MEMBERS", "1000"))  # fewer only to try the benchmark itself
SWEEPS = 8  # messages to each member before the sender lets the event loop turn
PAGE = 4096


class Job(NamedTuple):
    """`size` operations at full scale: some tenths of a second for a fast peer."""

    key: str
    title: str
    size: int
    unit: str = "a second"


JOBS = (
    Job("tell", "tell", 400_000),
    Job("ask", "ask", 60_000),
    Job("in_flight", "1,000 asks in flight", 120_000),
    Job("fan_out", "fan-out", 200_000),
    Job("ring", "ring", 100_000),
    Job("spawn", "spawn", 60_000),
)
BYTES = Job("bytes", "bytes an actor", 0, "bytes")  # comes with spawn
FIGURES = (*JOBS, BYTES)


# gc=False on both sides: messages of plain numbers cannot be in a cycle, and peers are not to be told apart by what the
# collector does with a thousand of them.
class Add(msgspec.Struct, frozen=True, gc=False):
    """Add to the actor's total."""

    n: int


class Get(msgspec.Struct, frozen=True, gc=False):
    """Add to the actor's total; it is the reply."""

    n: int


class Hop(msgspec.Struct, frozen=True, gc=False):
    """Go round the ring so many times more."""

    left: int


def resident() -> int:
    """The bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Stopwatch:
    """`with watch:` around what counts; every job begins with an empty young generation of the collector."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.grown = 0  # bytes

    def __enter__(self) -> Self:
        """Start."""
        gc.collect()
        self.grown = -resident()
        self.seconds = -time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.seconds += time.perf_counter()
        self.grown += resident()


async def until(done: Callable[[], bool]) -> None:
    """Let the event loop turn until that is so; a signal from the actor would be a part of what is measured."""
    while not done():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0)


@asynccontextmanager
async def working(*consumers: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run the consumers, each in a task that waits for its first message when the block begins."""
    tasks = [asyncio.create_task(consumer) for consumer in consumers]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Peer(Protocol):
    """One way to have actors. A job runs in the event loop if it is asynchronous, and checks what its actors got."""

    def tell(self, size: int, watch: Stopwatch) -> Awaitable[None] | None: ...
    def ask(self, size: int, watch: Stopwatch) -> Awaitable[None] | None: ...
    def in_flight(self, size: int, watch: Stopwatch) -> Awaitable[None] | None: ...
    def fan_out(self, size: int, watch: Stopwatch) -> Awaitable[None] | None: ...
    def ring(self, size: int, watch: Stopwatch) -> Awaitable[None] | None: ...
    def spawn(self, size: int, watch: Stopwatch) -> Awaitable[None] | None: ...
