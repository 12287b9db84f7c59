"""Whatever is done to a tree, in whatever order: each accepted message has exactly one fate, at every instant."""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from kit.ledger import Accounted, Crew, MessageAccounting, Quick, Slow, by_key, own, unordered
from kit.property_examples import examples

from callboard.runtime import (
    Backoff,
    Cell,
    Intensity,
    Mailbox,
    Overflow,
    Pool,
    Props,
    Restart,
    Retry,
    RuntimeFault,
    State,
    Strategy,
    Supervisor,
    System,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import SeededLoop, nodes

PAUSES_S = (0.0, 0.01, 0.1, 1.0)
SPECS = st.fixed_dictionaries(
    {
        "mailbox": st.builds(Mailbox, st.sampled_from((1, 2, 8)), st.sampled_from(Overflow)),
        "restart": st.sampled_from((Restart.PERMANENT, Restart.PERMANENT, Restart.TRANSIENT)),
        "retry": st.builds(Retry, st.sampled_from((0, 1))),
        "backoff": st.builds(Backoff, st.sampled_from((0.0, 0.2))),
        "shutdown_s": st.sampled_from((0.05, 1.0)),
    }
)
SENDS = st.fixed_dictionaries(
    {
        "way": st.sampled_from(("tell", "tell_nowait", "ask")),
        "to": st.integers(0, 5),
        "kind": st.sampled_from((Quick, Slow)),
        "sender": st.sampled_from("ab"),
        "key": st.integers(0, 3),
        "what": st.sampled_from(("work", "work", "crash", "refuse", "stash", "unstash", "exit")),
        "seconds": st.sampled_from(PAUSES_S),
        "timeout_s": st.sampled_from(PAUSES_S),
    }
)


class Fates(RuleBasedStateMachine):
    """Three actors and three pools, one with a key, under one supervisor; an actor and a pool handle two messages at
    once. The model is the senders' own books.
    """

    root: Supervisor
    system: System

    @initialize(
        seed=st.integers(0, 2**16), specs=st.lists(SPECS, min_size=6, max_size=6), strategy=st.sampled_from(Strategy)
    )
    def begin(self, seed: int, specs: list[dict[str, Any]], strategy: Strategy) -> None:
        self.loop = SeededLoop(seed)
        self.loop.set_exception_handler(lambda _loop, _context: None)  # whose asks' errors interest nobody
        self.ledger = MessageAccounting()
        self.open = ExitStack()
        self.work: list[asyncio.Future[Any]] = []
        often = Intensity(50, 5)
        first, second = (worker(name, Props(Accounted, self.ledger, own), **specs[n]) for n, name in enumerate("ab"))
        keyed = pool(
            "keyed", Props(Accounted, self.ledger, by_key), size=2, key=lambda job: job.key, intensity=often, **specs[2]
        )  # fmt: skip
        turns = pool("turns", Props(Accounted, self.ledger, unordered), size=2, intensity=often, **specs[3])
        crew = worker("crew", Props(Crew, self.ledger, unordered), **specs[4])
        crews = pool("crews", Props(Crew, self.ledger, unordered), size=2, intensity=often, **specs[5])
        self.refs: list[Cell[Any] | Pool[Any]] = [first, second, crew, keyed, turns, crews]
        self.root = supervisor("root", *self.refs, strategy=strategy, intensity=often)

        async def start() -> None:
            self.system = System(self.root, log=False)
            self.open.enter_context(self.ledger.watching(self.system))
            await self.system.start()

        self.loop.run_until_complete(start())

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin something, and do not wait for it."""
        self.work.append(self.loop.create_task(work))

    @rule(sends=st.lists(SENDS, min_size=1, max_size=6))
    def send(self, sends: list[dict[str, Any]]) -> None:
        async def send_all() -> None:
            for fields in sends:
                one = dict(fields)
                way, ref = one.pop("way"), self.refs[one.pop("to")]
                job = self.ledger.job(one.pop("kind"), one.pop("sender"), **one)
                if way == "ask":
                    self.ledger.ask(ref, job)
                else:
                    self.ledger.tell(ref, job, nowait=way == "tell_nowait")

        self.loop.run_until_complete(send_all())

    @rule(seconds=st.sampled_from(PAUSES_S))
    def time_passes(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule(which=st.integers(0, 99))
    def an_asker_or_a_sender_gives_up(self, which: int) -> None:
        hope = [each for each in (*self.ledger.asks.values(), *self.ledger.rooms.values()) if not each.done()]
        if hope:
            hope[which % len(hope)].cancel()

    @rule(to=st.integers(3, 5), size=st.integers(1, 4))
    def resize(self, to: int, size: int) -> None:
        crowd = self.refs[to]
        assert isinstance(crowd, Pool)
        self.later(crowd.resize(size))

    @rule(which=st.integers(0, 99))
    def kill(self, which: int) -> None:
        cells = [node for node in nodes(self.root) if isinstance(node, Cell)]
        cells[which % len(cells)].kill()

    @rule(which=st.integers(0, 2), grace_s=st.sampled_from(PAUSES_S))
    def drain(self, which: int, grace_s: float) -> None:
        cell = self.refs[which]
        assert isinstance(cell, Cell)
        self.later(cell.drain(grace_s))

    @rule(which=st.integers(0, 5))
    def stop(self, which: int) -> None:
        self.later(self.root.terminate_child(self.refs[which]))

    @rule(which=st.integers(0, 5))
    def start_again(self, which: int) -> None:
        self.later(self.root.restart_child(self.refs[which]))

    @invariant()
    def each_message_has_one_fate(self) -> None:
        self.ledger.check(*self.refs)

    def teardown(self) -> None:
        if not hasattr(self, "system"):
            return

        async def end() -> None:
            async with asyncio.timeout(600):
                ends = await asyncio.gather(*self.work, return_exceptions=True)
                await self.system.stop()
            faults = [each for each in ends if isinstance(each, BaseException) and not isinstance(each, RuntimeFault)]
            assert not faults, faults
            assert asyncio.all_tasks() == {asyncio.current_task()}

        try:
            self.loop.run_until_complete(end())
            self.ledger.check_end(*self.refs)
            assert {node.state for node in nodes(self.root)} == {State.STOPPED}
        finally:
            self.open.close()
            self.loop.close()


Fates.TestCase.settings = settings(
    max_examples=examples(100), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_accepted_is_the_sum_of_all_fates_at_every_instant_for_every_actor = pytest.mark.long(Fates.TestCase)
