"""Ports: what streams needs of the layers above it, declared here, so that it imports nothing but the runtime."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

from callboard.runtime import Refusal


class Database(Protocol):
    """PostgreSQL. While it is unavailable, each of these raises a refusal that passes."""

    @property
    def back(self) -> asyncio.Event:
        """Set while the database can be used."""

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        """A connection for single statements."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A connection in a transaction, which is committed when the block ends."""

    def session(self, name: str, *, timeout_s: float, statement_timeout_s: float) -> AbstractAsyncContextManager[Any]:
        """A connection of one's own, for a lease and for LISTEN. Every error of the driver that ends the block becomes
        the cause of a refusal.
        """


@runtime_checkable
class PassingRefusal(Protocol):
    """A refusal that can say that nothing is wrong with what was asked."""

    @property
    def passes(self) -> bool:
        """Whether the same may be asked again later."""

    @property
    def timed_out(self) -> bool:
        """Whether the time was too short: less may fit into it."""


def passes(error: BaseException) -> bool:
    """Whether an error is a refusal that passes. One that does not say so is final."""
    return isinstance(error, Refusal) and isinstance(error, PassingRefusal) and error.passes


def timed_out(error: BaseException) -> bool:
    """Whether an error is a refusal because the time was too short."""
    return isinstance(error, Refusal) and isinstance(error, PassingRefusal) and error.timed_out
