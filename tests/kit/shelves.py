"""The pool of shelves, whose workers tell when the order of a key is broken."""

import asyncio
import zlib
from collections import Counter
from typing import Any

from callboard.runtime import (
    Actor,
    Elasticity,
    Intensity,
    Message,
    Pool,
    PoolScaler,
    Props,
    Request,
    on,
    pool,
    worker,
)

RULE = Elasticity(least=2, most=10, age_s=1.0, idle_s=30.0, cooldown_s=5.0)


class Put(Message, frozen=True):
    key: str
    n: int
    seconds: float = 0.0
    crashes: int = 0


class Leave(Message, frozen=True):
    key: str
    seconds: float = 0.0


class Ask(Request[int], frozen=True):
    key: str
    n: int
    seconds: float = 0.0


class Hold(Message, frozen=True):
    """Stash until Free."""

    key: str
    n: int


class Free(Message, frozen=True):
    key: str


class Seen:
    """What all workers have handled, by key, in order, and who is at which key just now."""

    def __init__(self, *, ordered: bool = True) -> None:
        self.ordered = ordered
        self.by_key: dict[str, list[int]] = {}
        self.busy: Counter[str] = Counter()
        self.crashed: Counter[tuple[str, int]] = Counter()
        self.started = 0
        self.stopped = 0

    def enter(self, key: str) -> None:
        assert not (self.ordered and self.busy[key]), "two messages of one key at once"

    def note(self, key: str, n: int) -> None:
        self.by_key.setdefault(key, []).append(n)

    @property
    def count(self) -> int:
        return sum(map(len, self.by_key.values()))


class Shelf(Actor[Put | Ask | Leave | Hold | Free]):
    """Handles at once what takes no seconds, and else asynchronously; two at one key at once is a bug."""

    def __init__(self, seen: Seen, start_s: float = 0.0) -> None:
        self.seen = seen
        self.start_s = start_s
        self.free = False
        self.seen.started += 1

    async def on_start(self) -> None:
        await asyncio.sleep(self.start_s)

    async def on_stop(self) -> None:
        self.seen.stopped += 1

    @on(Put)
    def put(self, message: Put) -> Any:
        return self.slowly(message) if message.seconds else self.finish(message)

    async def slowly(self, message: Put) -> None:
        self.seen.enter(message.key)
        self.seen.busy[message.key] += 1
        try:
            await asyncio.sleep(message.seconds)
        finally:
            self.seen.busy[message.key] -= 1
        self.finish(message)

    def finish(self, message: Put) -> None:
        self.seen.enter(message.key)
        if self.seen.crashed[message.key, message.n] < message.crashes:
            self.seen.crashed[message.key, message.n] += 1
            raise ValueError(message.n)
        self.seen.note(message.key, message.n)

    @on(Ask)
    async def ask(self, message: Ask) -> int:
        await self.slowly(Put(message.key, message.n, message.seconds))
        return message.n

    @on(Leave)
    async def leave(self, message: Leave) -> None:
        self.stop()
        await asyncio.sleep(message.seconds)
        self.seen.note(message.key, -1)

    @on(Hold)
    def hold(self, message: Hold) -> None:
        if self.free:
            self.seen.note(message.key, message.n)
        else:
            self.ref.stash(message)

    @on(Free)
    def let_go(self, _message: Free) -> None:
        self.free = True
        self.ref.unstash()


def key_of(message: Any) -> int:
    """Not the text itself, whose hash differs from process to process: a failure is to be the same again."""
    return zlib.crc32(message.key.encode())


def shelves(seen: Seen, size: int, **options: Any) -> Pool[Any]:
    options.setdefault("intensity", Intensity(10**6, 1))
    return pool("s", Props(Shelf, seen), size=size, **options)


async def settled(crowd: Pool[Any], accepted: int) -> None:
    """Wait until all is done, and hold the counts against what was sent."""
    while crowd.tally().pending:  # noqa: ASYNC110 - nothing tells of a pool that it has nothing to do
        await asyncio.sleep(1)
    assert crowd.tally().accepted == accepted


def scaler(crowd: Pool[Any], age: list[float] | None = None) -> Any:
    """Return a scaler of this pool, whose oldest message has the first of these ages."""
    ages = age or [0.0]
    time = asyncio.get_running_loop().time
    return worker("scaling", Props(PoolScaler, lambda: {crowd.name: crowd}, lambda _name: ages[0], time))
