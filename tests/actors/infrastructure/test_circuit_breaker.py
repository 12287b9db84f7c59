"""The circuit breaker: open at once, one probe, then more calls after each success."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.errors import DegradedError
from callboard.actors.infrastructure.circuit_breaker import (
    FIRST_PROBE_S,
    JITTER,
    LAST_PROBE_S,
    BreakerState,
    CircuitBreaker,
    CircuitOpenError,
)

MOST = 8


def breaker() -> CircuitBreaker:
    return CircuitBreaker("server", rng=random.Random(1))  # noqa: S311 - jitter


def test_it_lets_everything_through_until_a_failure_and_nothing_after_it() -> None:
    subject = breaker()
    assert (subject.allows(0.0, MOST), subject.probe_in(0.0)) == (MOST, None)
    subject.failed(0.0)
    assert subject.allows(0.9, MOST) == 0
    assert subject.probe_in(0.5) is not None


def test_one_probe_follows_and_its_success_doubles_the_calls_until_all_may_run() -> None:
    subject = breaker()
    subject.failed(0.0)
    allowed = []
    for n in range(4):
        allowed.append(subject.allows(2.0 + n, MOST))
        subject.succeeded(2.0 + n, MOST)
    assert allowed == [1, 2, 4, MOST]
    subject.failed(10.0)
    assert subject.allows(10.0 + FIRST_PROBE_S * (1 + JITTER), MOST) == 1  # it begins anew, with the first wait


def test_each_failed_probe_doubles_the_wait_up_to_a_minute() -> None:
    subject, now, waits = breaker(), 0.0, []
    for _ in range(9):
        subject.failed(now)
        wait_s = subject.probe_in(now)
        assert wait_s is not None
        waits.append(wait_s)
        now += wait_s
    for n, wait_s in enumerate(waits):
        usual = min(LAST_PROBE_S, FIRST_PROBE_S * 2**n)
        assert usual <= wait_s <= usual * (1 + JITTER)


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=50))
def test_calls_that_were_running_when_it_opened_neither_close_it_nor_lengthen_the_wait(
    late: list[tuple[float, bool]],
) -> None:
    subject = breaker()
    subject.failed(0.0)
    until = subject.probe_in(0.0)
    assert until is not None
    for at, success in late:
        now = min(at, until * 0.999)
        if success:
            subject.succeeded(now, MOST)
        else:
            subject.failed(now)
        assert subject.allows(now, MOST) == 0
    assert subject.allows(until, MOST) == 1


class ServerFailedError(Exception):
    """The server is at fault."""


class RequestRefusedError(Exception):
    """The request is at fault, or it was refused in words that say nothing of the server."""


def fault_of(error: Exception) -> str | None:
    return "away" if isinstance(error, ServerFailedError) else ""


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def called() -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    return CircuitBreaker("server", rng=random.Random(1), clock=clock), clock  # noqa: S311 - jitter


def fail(subject: CircuitBreaker, error: BaseException) -> None:
    with pytest.raises(type(error)), subject.call(fault_of, MOST):
        raise error


@pytest.mark.parametrize("error", [RequestRefusedError(), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr)
def test_neither_a_request_at_fault_nor_a_cancelled_call_opens_it(error: BaseException) -> None:
    subject, _ = called()
    for _ in range(20):
        fail(subject, error)
    assert (subject.opened, subject.running, subject.has_room(MOST)) == (0, 0, True)


def test_it_says_why_it_is_open_and_counts_openings_and_refused_calls() -> None:
    subject, clock = called()
    fail(subject, ServerFailedError())
    for _ in range(3):
        with pytest.raises(CircuitOpenError) as refused, subject.call(fault_of, MOST):
            pytest.fail("it was let through")
        assert refused.value.retry_after_s == pytest.approx(subject.probe_in(0.0))
    with pytest.raises(DegradedError, match="open: away; 3 calls refused"):
        asyncio.run(subject.check())
    assert (subject.state(clock()), subject.opened, subject.refused) == (BreakerState.OPEN, 1, 3)
    clock.now = 2.0
    assert subject.state(clock()) is BreakerState.HALF_OPEN
    asyncio.run(subject.check())


def test_of_many_who_wait_for_a_server_one_is_the_probe() -> None:
    subject, clock = called()
    fail(subject, ServerFailedError())
    clock.now = 2.0
    with subject.call(fault_of, MOST):
        for _ in range(20):
            with pytest.raises(CircuitOpenError), subject.call(fault_of, MOST):
                pytest.fail("a second probe was let through")
    assert subject.allows(clock(), MOST) == 2


def test_a_cancelled_probe_leaves_its_place_to_another() -> None:
    subject, clock = called()
    fail(subject, ServerFailedError())
    clock.now = 2.0
    fail(subject, asyncio.CancelledError())
    assert (subject.state(clock()), subject.has_room(MOST)) == (BreakerState.HALF_OPEN, True)


def test_the_connector_of_a_server_closes_it_for_all_at_once() -> None:
    subject, clock = called()
    subject.failed(0.0, "gone")
    subject.close()
    assert (subject.state(clock()), subject.allows(clock(), MOST)) == (BreakerState.CLOSED, MOST)
