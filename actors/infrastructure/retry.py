"""Retry with backoff: a bounded number of attempts, none of which begins after a bounded time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct

from callboard.runtime import Backoff, current_context

T = TypeVar("T")

Wait = Callable[[Exception], float | None]
RANDOM = random.Random()  # noqa: S311 - jitter


class RetryPolicy(Struct, frozen=True):
    """How often one piece of work is tried, how long it waits in between, and until when an attempt may begin.

    With full jitter, `Backoff(..., jitter=1.0)`, clients that have failed at once come back one by one.
    """

    attempts: int
    backoff: Backoff
    within_s: float


async def retry(work: Callable[[], Awaitable[T]], policy: RetryPolicy, wait: Wait, rng: random.Random = RANDOM) -> T:
    """Do work, again after a failure that may pass. Raises the last error.

    `wait` returns the least seconds to wait after an error, and None if another attempt would not help. No attempt
    begins after the deadline of the request.
    """
    clock = asyncio.get_running_loop().time
    context = current_context()
    deadline = context.deadline if context is not None else None
    ends_at = min(clock() + policy.within_s, deadline if deadline is not None else float("inf"))
    failures = 0
    while True:
        try:
            return await work()
        except Exception as error:
            failures += 1
            least_s = wait(error)
            if least_s is None or failures >= policy.attempts:
                raise
            delay_s = max(least_s, policy.backoff.delay_s(failures, rng))
            if clock() + delay_s >= ends_at:
                raise
        await asyncio.sleep(delay_s)
