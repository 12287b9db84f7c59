"""Elastic pools: they grow when messages wait, shrink when nothing does, and lose nothing; hours in milliseconds."""

import asyncio
from typing import Any

import pytest
from kit.shelves import RULE, Put, Seen, scaler, settled, shelves

from callboard.runtime import (
    Elasticity,
    SettingsError,
    System,
    apply_pools,
    plan_pools,
    supervisor,
)
from callboard.runtime.supervision.elastic import Sizing


async def test_a_pool_grows_while_messages_wait_and_shrinks_to_its_least_when_none_does() -> None:
    seen = Seen()
    crowd = shelves(seen, 2)
    crowd.elastic = RULE
    async with System(supervisor("root", crowd, scaler(crowd))):
        for n in range(200):
            await crowd.tell(Put(f"k{n}", n, 2.0))
        await asyncio.sleep(30)
        assert crowd.size > 5
        await settled(crowd, 200)
        await asyncio.sleep(600)
        assert crowd.size == 2
        assert crowd.counts().handled == 200


async def test_what_waits_outside_of_the_mailboxes_counts_too() -> None:
    seen, age = Seen(), [40.0]
    crowd = shelves(seen, 2)
    crowd.elastic = RULE
    async with System(supervisor("root", crowd, scaler(crowd, age))):
        await asyncio.sleep(60)
        assert crowd.size == 10
        age[0] = 0.0
        await asyncio.sleep(25)
        assert crowd.size == 10  # not at once
        await asyncio.sleep(400)
        assert crowd.size == 2


async def test_a_pool_without_bounds_stays_as_it_is() -> None:
    crowd = shelves(Seen(), 3)
    async with System(supervisor("root", crowd, scaler(crowd, [99.0]))):
        await asyncio.sleep(120)
        assert crowd.size == 3


def test_between_two_changes_there_is_a_pause_and_between_the_marks_none_changes() -> None:
    sizing, size, changes = Sizing(), 2, []
    for second in range(20):
        after = sizing.decide(RULE, size=size, oldest_s=1.0, now=float(second))
        changes += [second] * (after != size)
        size = after
    assert changes == [0, 5, 10, 15]  # 2, 3, 5, 8, 10
    assert size == 10
    for second in range(20, 400):
        assert sizing.decide(RULE, size=size, oldest_s=0.7, now=float(second)) == 10  # neither late nor calm


async def test_the_bounds_are_a_setting_of_a_pool_that_a_reload_changes() -> None:
    crowd = shelves(Seen(), 3)
    pools = {"s": crowd}
    table = {"least": 1, "most": 4, "age_s": 2.0}
    (change,) = await apply_pools(pools, {"pools": {"s": {"elastic": table}}})
    assert (change.field, change.before) == ("elastic", None)
    assert crowd.elastic == Elasticity(1, 4, age_s=2.0)
    assert plan_pools(pools, {"pools": {"s": {"elastic": table}}}) == []
    await apply_pools(pools, {"pools": {"s": {"elastic": False}}})
    assert crowd.elastic is None


@pytest.mark.parametrize(
    "bad",
    [
        3,
        True,
        {},
        {"least": 0, "most": 3},
        {"least": 4, "most": 3},
        {"least": 1, "most": 99_999},
        {"least": 1, "most": 3, "age_s": 0},
        {"least": 1, "most": 3, "idle_s": float("inf")},
        {"least": 1, "most": 3, "cooldown_s": float("nan")},
        {"least": 1, "most": 3, "colour": "red"},
        {"least": "1", "most": 3},
    ],
)
def test_bounds_that_are_none_are_refused_by_their_path(bad: Any) -> None:
    with pytest.raises(SettingsError, match=r"^pools\.s\.elastic: must "):
        plan_pools({"s": shelves(Seen(), 3)}, {"pools": {"s": {"elastic": bad}}})
