"""The clock of a request: work that takes long by design, and not because a server is slow, stops it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Protocol, runtime_checkable

from callboard.runtime import current_context


@runtime_checkable
class Timed(Protocol):
    """The baggage of a request whose answer has a time limit: `due`, in the loop's time."""

    due: float

    def pause(self) -> None:
        """Stop its clock."""

    def resume(self) -> None:
        """Let its clock go on."""


def _request() -> Timed | None:
    context = current_context()
    request = None if context is None else context.baggage
    return request if isinstance(request, Timed) else None


def time_left_s() -> float:
    """Return the seconds that are left for the answer to the request that is being handled; infinite without one."""
    request = _request()
    return inf if request is None else request.due - asyncio.get_running_loop().time()


@contextmanager
def paused_clock() -> Iterator[None]:
    """Stop the clock of the request that this work is for, if it is for one."""
    request = _request()
    if request is None:
        yield
        return
    request.pause()
    try:
        yield
    finally:
        request.resume()
