"""The loops of the queue: a step after the other, and what a database that is away or in trouble does to them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import asyncpg

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.job_outcomes import failure

AGAIN_S = 0.25  # after the database was away, or refused
DATABASE_ERRORS = (Problem, asyncpg.PostgresError)


class Trouble:
    """Says once what keeps a loop from its work, until something else does, or it works again."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._reason: str | None = None

    def tell(self, error: Exception) -> None:
        """Log an error, unless its like was the last. That the database is away or slow it says itself."""
        reason = failure(error).reason
        if reason != self._reason and not isinstance(error, Problem):
            self._log.error("%s: %s", self._what, reason)
        self._reason = reason

    def end(self) -> None:
        """Note that the work goes on."""
        self._reason = None


async def repeat(step: Callable[[], Awaitable[float]], trouble: Trouble, again_s: float = AGAIN_S) -> None:
    """Take steps until cancelled, after each the pause in seconds that it asks for; after an error `again_s`."""
    while True:
        try:
            pause_s = await step()
            trouble.end()
        except DATABASE_ERRORS as error:
            trouble.tell(error)
            pause_s = again_s
        await asyncio.sleep(pause_s)
