"""Metrics: what Prometheus reads of requests, actors and the loop."""

import asyncio
import re
import time

from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.ops.application import dry_run
from callboard.ops.breaker_metrics import BreakerCollector
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
    assert 'api_requests_total{endpoint="/things/{thing_id}",method="GET",status="200"} 4.0' in page
    assert 'api_requests_total{endpoint="/things/{thing_id}",method="GET",status="404"} 1.0' in page
    assert 'api_request_duration_seconds_count{endpoint="/things/{thing_id}",method="GET"} 5.0' in page
    assert 'api_request_duration_seconds_bucket{endpoint="/things/{thing_id}",le="0.001",method="GET"} 3.0' in page
    assert f"callboard_http_request_seconds_sum{{{where}}} 60.3014" in page


def test_each_breaker_is_counted_by_its_name() -> None:
    metrics, breakers = Metrics(), [CircuitBreaker("s3"), CircuitBreaker("smtp")]
    metrics.registry.register(BreakerCollector(breakers))
    breakers[0].failed(time.monotonic(), "away")
    assert not breakers[0].has_room(8)
    page = metrics.page().decode()
    assert 'callboard_breaker_state{breaker="s3",state="open"} 1.0' in page
    assert 'callboard_breaker_state{breaker="s3",state="closed"} 0.0' in page
    assert 'callboard_breaker_opened_total{breaker="s3"} 1.0' in page
    assert 'callboard_breaker_refused_total{breaker="s3"} 1.0' in page
    assert 'callboard_breaker_state{breaker="smtp",state="closed"} 1.0' in page


def test_every_server_that_a_process_calls_has_a_breaker_of_its_name() -> None:
    names = [each.name for each in dry_run({"AWS_S3_BUCKET": "uploads", "SMTP_FALLBACK_HOST": "other"}).tree.breakers]
    assert len(names) == len(set(names))
    assert {"postgresql", "redis", "kafka", "smtp", "smtp_fallback", "s3", "jobs.mail"} <= set(names)
