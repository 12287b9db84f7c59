"""Retry: bounded attempts with full jitter, a bounded time, and only what may pass."""

import asyncio
import random
from collections.abc import Callable

import pytest

from callboard.actors.infrastructure.retry import RetryPolicy, retry
from callboard.runtime import Backoff, Context, use_context
from callboard.runtime.testkit import VirtualTimeLoop

POLICY = RetryPolicy(5, Backoff(initial_s=1.0, max_s=4.0, jitter=1.0), within_s=60.0)


class Work:
    """Work that fails, and the times of its attempts."""

    def __init__(self, failures: int = 99) -> None:
        self.failures = failures
        self.at: list[float] = []

    async def __call__(self) -> str:
        self.at.append(asyncio.get_running_loop().time())
        if len(self.at) <= self.failures:
            raise ConnectionError(len(self.at))
        return "done"


def run(work: Work, policy: RetryPolicy = POLICY, wait: Callable[[Exception], float | None] = lambda _: 0.0) -> object:
    """The result of a retried piece of work under virtual time, or its error."""

    async def main() -> object:
        try:
            return await retry(work, policy, wait, random.Random(7))  # noqa: S311 - jitter
        except ConnectionError as error:
            return error

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def test_it_ends_with_the_first_success() -> None:
    work = Work(failures=2)
    assert run(work) == "done"
    assert len(work.at) == 3


def test_it_ends_with_the_last_error_after_the_last_attempt() -> None:
    work = Work()
    assert isinstance(error := run(work), ConnectionError)
    assert error.args == (5,)
    waits = [after - before for before, after in zip(work.at, work.at[1:], strict=False)]
    assert all(0 <= wait_s <= most_s for wait_s, most_s in zip(waits, (1, 2, 4, 4), strict=True))
    assert len(set(waits)) == 4  # the whole of each wait is random


def test_what_would_fail_again_is_not_tried_again() -> None:
    work = Work()
    run(work, wait=lambda _: None)
    assert len(work.at) == 1


def test_it_waits_at_least_as_long_as_the_error_says() -> None:
    work = Work(failures=1)
    assert run(work, wait=lambda _: 20.0) == "done"
    assert work.at[1] - work.at[0] == pytest.approx(20.0)


def test_no_attempt_begins_after_its_time() -> None:
    work = Work()
    run(work, RetryPolicy(99, POLICY.backoff, within_s=10.0))
    assert 1 < len(work.at) < 99
    assert work.at[-1] - work.at[0] < 10.0
    run(work := Work(), RetryPolicy(99, POLICY.backoff, within_s=10.0), wait=lambda _: 11.0)
    assert len(work.at) == 1  # it does not wait in vain


def test_no_attempt_begins_after_the_deadline_of_the_request() -> None:
    work = Work()

    async def main() -> None:
        with use_context(Context(deadline=asyncio.get_running_loop().time() + 3.0)), pytest.raises(ConnectionError):
            await retry(work, RetryPolicy(99, POLICY.backoff, within_s=60.0), lambda _: 1.0)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    assert len(work.at) == 3
