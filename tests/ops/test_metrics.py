"""Metrics: what Prometheus reads of requests, actors and the loop."""

import asyncio
import re

from callboard.ops.metrics import Metrics
from callboard.runtime import System, supervisor


async def test_the_loops_lag_is_among_the_metrics() -> None:
    metrics = Metrics()
    system = System(supervisor("root"), stall_after_s=0.1)
    metrics.watch(system)
    async with system:
        await asyncio.sleep(0)
    page = metrics.page().decode()
    for name in ("callboard_loop_lag_seconds", "callboard_loop_lag_max_seconds"):
        assert re.search(rf"^{name} \d", page, re.MULTILINE)


async def test_a_system_whose_loop_nobody_watches_has_no_such_metric() -> None:
    metrics = Metrics()
    metrics.watch(System(supervisor("root")))
    assert "callboard_loop_lag" not in metrics.page().decode()
