"""Elastic pools: no sequence of ages, times and resizes leads out of the bounds, or loses a message."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from kit.property_examples import examples
from kit.shelves import RULE, Put, Seen, key_of, scaler, settled, shelves

from callboard.runtime import System, supervisor
from callboard.runtime.supervision.elastic import Sizing
from callboard.runtime.testkit import VirtualTimeLoop


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 20), st.floats(0.1, 3)), min_size=1, max_size=300))
def test_no_age_no_size_and_no_time_lead_out_of_the_bounds(looks: list[tuple[float, int, float]]) -> None:
    sizing, now, changed_at = Sizing(), 0.0, None
    for oldest_s, size, step in looks:
        now += step
        after = sizing.decide(RULE, size=size, oldest_s=oldest_s, now=now)
        assert RULE.least <= after <= RULE.most
        if after != size and RULE.least <= size <= RULE.most:
            assert changed_at is None or now - changed_at >= RULE.cooldown_s
        changed_at = now if after != size else changed_at


@settings(deadline=None, max_examples=examples(30))
@given(
    st.lists(st.one_of(st.integers(1, 9), st.floats(0.0, 2.0), st.just("elastic"), st.just("fixed")), max_size=25),
    st.booleans(),
)
def test_no_sequence_of_resizes_loses_a_message_or_the_order_of_a_key(steps: list[Any], by_key: bool) -> None:
    async def run() -> None:
        seen = Seen()
        seen.ordered = by_key
        crowd = shelves(seen, 3, key=key_of) if by_key else shelves(seen, 3)
        async with System(supervisor("root", crowd, scaler(crowd, [1.5]))):
            told, resizing = 0, []
            for step in steps:
                for _ in range(7):
                    await crowd.tell(Put(f"k{told % 5}", told, 0.3))
                    told += 1
                if isinstance(step, str):
                    crowd.elastic = RULE if step == "elastic" else None
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    resizing.append(asyncio.ensure_future(crowd.resize(step)))
            await asyncio.gather(*resizing)
            await settled(crowd, told)
            counts = crowd.counts()
            assert (counts.accepted, counts.handled) == (told, told)
        if by_key:
            assert seen.by_key == {f"k{key}": list(range(key, told, 5)) for key in range(5) if key < told}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
