"""Three processes under load, killed and frozen at random moments, and their broker too: counted at the end.

`make test-chaos` plays 20 seeds on each broker, with `SEEDS=7,8` these; a test run plays two of its own.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from kit.kafka import EMBEDDED
from kit.stream_process import StreamProcess

from callboard.actors.analytics.events import ACTIVITY
from callboard.streams.group_offsets import UNREACHABLE, GroupOffsets
from callboard.streams.outbox import emit
from callboard.streams.topics import full_name

PROCESSES, KEYS = 3, 8
PER_SECOND = 200  # events that are written
ROLLED_BACK = 0.05  # of all transactions
LOAD_S = 2.5
SETTLED_S = 120.0  # a limit of waiting
EFFECTS = "select count(*) from effects"
PENDING = "select count(*) from outbox where published_at is null"


def seeds() -> list[int]:
    """The seeds to play: those of CHAOS_SEEDS, so many, or two."""
    said = os.environ.get("CHAOS_SEEDS", "2")
    if "," in said:
        return [int(each) for each in said.split(",") if each]
    return [random.SystemRandom().randrange(1 << 32) for _ in range(int(said))]


class Theatre:
    """The processes, and the books of what was committed: by key, the values in their order."""

    def __init__(self, stage: Any, folder: Path, kill_server: Callable[[Any], Awaitable[None]]) -> None:
        self.stage = stage
        self.folder = folder
        self.log = folder / "processes.log"
        self.processes: list[StreamProcess] = []
        self.committed: Counter[str] = Counter()
        self._kill_server = kill_server

    def new(self) -> StreamProcess:
        """Start a process."""
        return StreamProcess(self.stage.database.direct_url, self.stage.broker, self.folder, self.log)

    # What is written ------------------------------------------------------------------------------------------------

    async def write(self, key: str, rng: random.Random, until: float) -> None:
        """Commit events of one key, in order and at a pace; some transactions are rolled back."""
        while asyncio.get_running_loop().time() < until:
            first, count = self.committed[key], rng.choice((1, 1, 1, 2, 5))
            with suppress(LookupError):
                async with self.stage.database.transaction() as connection:
                    for value in range(first, first + count):
                        await emit(connection, self.stage.view(key, float(value)), event_id=uuid4())
                    if rng.random() < ROLLED_BACK:
                        raise LookupError
                self.committed[key] += count
            await asyncio.sleep(KEYS * count / PER_SECOND)

    async def produce(self, key: str, until: float) -> None:
        """Write events of a producer, each again until the broker has acknowledged it."""
        name = full_name(self.stage.broker.prefix, ACTIVITY)
        async with AIOKafkaProducer(bootstrap_servers=self.stage.broker.addresses, acks="all") as producer:
            while asyncio.get_running_loop().time() < until:
                value, headers = self.stage.encoded(self.stage.view(key, float(self.committed[key])))
                while not await _acknowledged(producer.send_and_wait(name, value, key=key.encode(), headers=headers)):
                    pass  # the client waits before it refuses
                self.committed[key] += 1

    # What happens meanwhile ------------------------------------------------------------------------------------------

    async def kill(self, after_s: float, which: int) -> None:
        """Kill a process, and start another."""
        await asyncio.sleep(after_s)
        await asyncio.to_thread(self.processes[which].kill)
        self.processes[which] = self.new()

    async def freeze(self, after_s: float, which: int, for_s: float) -> None:
        """Stop a process, and let it go on."""
        await asyncio.sleep(after_s)
        process = self.processes[which]
        process.signal(signal.SIGSTOP)
        await asyncio.sleep(for_s)
        process.signal(signal.SIGCONT)

    async def kill_broker(self, after_s: float, for_s: float) -> None:
        """Kill the broker, and start it again."""
        await asyncio.sleep(after_s)
        await self._kill_server(self.stage.server)
        await asyncio.sleep(for_s)
        await self.stage.server.start()

    async def play(self, seed: int) -> str:
        """Write, and meanwhile do what the seed says; tell it."""
        rng = random.Random(seed)  # noqa: S311 - a play, no secret
        plays = [("kill", rng.uniform(0, LOAD_S), rng.randrange(PROCESSES))]
        if rng.random() < 0.5:
            plays.append(("kill_broker", rng.uniform(0, LOAD_S), rng.uniform(0, 1.5)))
        if rng.random() < 0.5:
            plays.append(("freeze", rng.uniform(0, LOAD_S), rng.randrange(PROCESSES), rng.uniform(0.5, 5)))
        until = asyncio.get_running_loop().time() + LOAD_S
        writers = [self.write(f"k{number}", rng, until) for number in range(KEYS)]
        if not EMBEDDED:  # the embedded broker keeps nothing: its producers' events are lost with it
            writers += [self.produce(f"p{number}", until) for number in range(2)]
        await asyncio.gather(*writers, *(getattr(self, name)(*arguments) for name, *arguments in plays))
        return f"seed {seed}: {plays}"

    # What came of it ------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Wait until all that was committed is published, and all that was published is processed."""
        offsets = GroupOffsets(self.stage.broker, [full_name(self.stage.broker.prefix, ACTIVITY)])
        try:
            async with asyncio.timeout(SETTLED_S):
                while await self._is_open() or await _lag(offsets):  # noqa: ASYNC110 - the truth is in other processes
                    await asyncio.sleep(0.05)
        finally:
            await offsets.close()

    async def _is_open(self) -> bool:
        effects, pending = await self.stage.count(EFFECTS), await self.stage.count(PENDING)
        return bool(effects < self.committed.total() or pending)

    async def effects(self) -> dict[str, list[int]]:
        """The values of each key, in the order of their effects."""
        async with self.stage.database.acquire() as connection:
            rows = await connection.fetch(
                "select subject_id, array_agg(value::int order by nr) as found from effects group by subject_id"
            )
        return {row["subject_id"]: row["found"] for row in rows}


async def _acknowledged(sending: Awaitable[Any]) -> bool:
    try:
        await sending
    except KafkaError:
        return False
    return True


async def _lag(offsets: GroupOffsets) -> bool:
    """Whether records wait, or the broker does not say."""
    try:
        return any(each.lag != 0 for each in await offsets.read())
    except UNREACHABLE:
        return True


@pytest.fixture
async def theatre(stage: Any, kill: Any, tmp_path: Path) -> AsyncIterator[Theatre]:
    made = Theatre(stage, tmp_path, kill)
    await stage.broker.wait("the test")
    made.processes = [made.new() for _ in range(PROCESSES)]
    try:
        await asyncio.gather(*(asyncio.to_thread(each.wait_reading) for each in made.processes))
        yield made
    finally:
        for each in made.processes:
            each.kill()


async def test_every_event_has_one_effect_in_its_order_whoever_is_killed_or_frozen(theatre: Theatre) -> None:
    for seed in seeds():
        told = await theatre.play(seed)
        began = asyncio.get_running_loop().time()
        print(told, flush=True)  # noqa: T201 - to play it again
        try:
            await theatre.settle()
        except TimeoutError:
            pytest.fail(f"{told}: not settled in {SETTLED_S:g} s\n{theatre.log.read_text()[-3000:]}")
        wanted = {key: list(range(count)) for key, count in theatre.committed.items() if count}
        assert await theatre.effects() == wanted, told
        took_s = asyncio.get_running_loop().time() - began
        print(f"{theatre.committed.total()} effects; settled in {took_s:.1f} s", flush=True)  # noqa: T201 - a report
