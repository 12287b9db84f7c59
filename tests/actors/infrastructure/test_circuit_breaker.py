"""The circuit breaker: open at once, one probe, then more calls after each success."""

import random

from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.infrastructure.circuit_breaker import FIRST_PROBE_S, JITTER, LAST_PROBE_S, CircuitBreaker

MOST = 8


def breaker() -> CircuitBreaker:
    return CircuitBreaker(random.Random(1))  # noqa: S311 - jitter


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
