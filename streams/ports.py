"""Ports: the services that streams needs of the layers above it, declared here so that it imports only the runtime."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

from callboard.runtime import Refusal


class Database(Protocol):
    """PostgreSQL. While it is unavailable, each of these raises a temporary refusal."""

    @property
    def available(self) -> asyncio.Event:
        """Set while the database is available."""

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        """Yield a connection for single statements."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Yield a connection in a transaction, which is committed when the block ends."""

    def session(self, name: str, *, timeout_s: float, statement_timeout_s: float) -> AbstractAsyncContextManager[Any]:
        """Yield a separate connection, for a lease and for LISTEN. Every error of the driver that ends the block
        becomes the cause of a refusal.
        """


class Breaker(Protocol):
    """The circuit breaker of the cluster, which times the attempts to reach it. Its clock is monotonic."""

    @property
    def clock(self) -> Callable[[], float]:
        """Return the clock."""

    def failed(self, now: float, reason: str = "") -> None:
        """Note that the cluster was not reached."""

    def close(self) -> None:
        """Note that it was."""

    async def until_probe(self) -> None:
        """Wait until the next attempt may be made."""


@runtime_checkable
class PassingRefusal(Protocol):
    """A refusal that may be temporary: the request itself is valid."""

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later."""

    @property
    def timed_out(self) -> bool:
        """Whether the time was too short: a smaller request may succeed."""


def passes(error: BaseException) -> bool:
    """Whether an error is a temporary refusal. Any other error is final."""
    return isinstance(error, Refusal) and isinstance(error, PassingRefusal) and error.passes


def timed_out(error: BaseException) -> bool:
    """Whether an error is a refusal because the time was too short."""
    return isinstance(error, Refusal) and isinstance(error, PassingRefusal) and error.timed_out
