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


def test_requests_are_counted_by_route_and_by_how_long_they_took() -> None:
    metrics = Metrics()
    for seconds in (0.0004, 0.001, 0.3, 60.0):
        metrics.observe("/things/{thing_id}", "GET", 200, seconds)
    metrics.observe("/things/{thing_id}", "GET", 404, 0.001)
    page = metrics.page().decode()
    where = 'method="GET",route="/things/{thing_id}",status="200"'
    for bound, count in (("0.001", 2), ("0.25", 2), ("0.5", 3), ("10.0", 3), ("+Inf", 4)):
        assert f'callboard_http_request_seconds_bucket{{le="{bound}",{where}}} {count}.0' in page
    assert f"callboard_http_request_seconds_count{{{where}}} 4.0" in page
    assert f"callboard_http_request_seconds_sum{{{where}}} 60.3014" in page
