"""Thousands of schedules of one small, nasty afternoon in a tree, each drawn from a seed."""

import asyncio
import random
from functools import partial
from typing import Any

import pytest
from kit.ledger import WAITS, Accounted, Job, MessageAccounting, Quick, Slow, by_key, own, unordered
from kit.property_examples import examples

from callboard.runtime import (
    Backoff,
    Intensity,
    Mailbox,
    Props,
    Retry,
    RuntimeFault,
    State,
    Strategy,
    System,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import nodes, run, seeds

SCHEDULES = examples(2_000)  # ten thousand for `make test-thorough`
WHAT = ("work", "work", "work", "work", "crash", "refuse", "stash", "unstash", "exit", "nest", "nest")


class Afternoon:
    """A front, which asks a middle, which asks the back: a pool. Three senders, and somebody who will not let it be."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)  # noqa: S311
        self.ledger = ledger = MessageAccounting()
        keyed = rng.random() < 0.5
        spec: dict[str, Any] = {
            "mailbox": Mailbox(rng.choice((1, 2, 8)), rng.choice(WAITS)),
            "retry": Retry(rng.choice((0, 0, 1))),
            "backoff": Backoff(rng.choice((0.0, 0.0, 0.2))),
            "shutdown_s": 1.0,
        }
        line = by_key if keyed else unordered
        crowd = pool(
            "back", Props(Accounted, ledger, line), size=2, key=(lambda job: job.key) if keyed else None,
            intensity=Intensity(9, 5), **spec,
        )  # fmt: skip
        middle = worker("middle", Props(Accounted, ledger, own, lambda: crowd), **spec)
        front = worker("front", Props(Accounted, ledger, own, lambda: middle), **spec)
        self.crowd, self.refs = crowd, (front, middle, crowd)
        inner = supervisor("inner", front, middle, strategy=rng.choice(list(Strategy)), intensity=Intensity(9, 5))
        self.system = System(supervisor("root", crowd, inner), rng=rng, log=False)

    def send(self, sender: str) -> object:
        """One message, somehow; what there is to wait for."""
        rng, ledger = self.rng, self.ledger
        job: Job = ledger.job(
            rng.choice((Quick, Slow)), sender, key=rng.randint(0, 3), what=rng.choice(WHAT),
            seconds=rng.choice((0, 0, 0.01, 0.1, 2)), timeout_s=rng.choice((0, 0.01, 0.1, 1, 5)),
        )  # fmt: skip
        ref = rng.choice(self.refs)
        way = rng.random()
        if way < 0.5:
            reply = ledger.ask(ref, job)
            if reply is not None and way < 0.1:
                asyncio.get_running_loop().call_later(rng.choice((0, 0.01, 0.1)), reply.cancel)
            return reply
        return ledger.tell(ref, job, nowait=way < 0.7)

    async def sender(self, name: str) -> None:
        for _ in range(self.rng.randint(1, 4)):
            waits = self.send(name)
            if isinstance(waits, asyncio.Future) and self.rng.random() < 0.5:
                await asyncio.wait((waits,), timeout=1)
            elif self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.choice((0, 0.01, 0.1)))

    async def trouble(self) -> None:
        for _ in range(self.rng.randint(0, 3)):
            await asyncio.sleep(self.rng.choice((0, 0, 0.01, 0.1)))
            if self.rng.random() < 0.5:
                await self.crowd.resize(self.rng.randint(1, 4))
            else:
                self.rng.choice([node for node in nodes(self.system.root) if hasattr(node, "kill")]).kill()
            self.ledger.check(*self.refs)

    async def pass_by(self) -> None:
        """Live through it, and check that nothing is lost."""
        ledger = self.ledger
        with ledger.watching(self.system):
            async with self.system:
                ends = await asyncio.gather(
                    *(self.sender(name) for name in "abc"), self.trouble(), return_exceptions=True
                )
                await asyncio.gather(*(ref.drain(self.rng.choice((0, 1, 9))) for ref in self.refs[:2]))
                ledger.check(*self.refs)
                assert ledger.turned_away("back") == [], "by a pool that has not stopped"
        assert all(end is None or isinstance(end, RuntimeFault) for end in ends), ends
        ledger.check_end(*self.refs)
        assert {node.state for node in nodes(self.system.root)} == {State.STOPPED}


async def afternoon(seed: int) -> list[object]:
    """One schedule: everything that happened in it."""
    passing = Afternoon(seed)
    await passing.pass_by()
    return [sorted(passing.ledger.fates.items()), passing.ledger.accepted]


@pytest.mark.long
def test_thousands_of_seeded_schedules_pass_under_virtual_time() -> None:
    for seed in seeds(SCHEDULES):
        run(partial(afternoon, seed), seed)


def test_a_failing_seed_replays_identically() -> None:
    for seed in seeds(50):
        assert run(partial(afternoon, seed), seed) == run(partial(afternoon, seed), seed)
