"""The loops of the queue: one step after another, with a pause after a failure of the database."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import asyncpg

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.job_outcomes import failure

AGAIN_S = 0.25  # after the database was unavailable, or refused
DATABASE_ERRORS = (Problem, asyncpg.PostgresError)


class Trouble:
    """Logs an error that stops a loop once, until another error or a success."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._reason: str | None = None

    def tell(self, error: Exception) -> None:
        """Log an error, unless the last one was the same. The database guard logs outages itself."""
        reason = failure(error).reason
        if reason != self._reason and not isinstance(error, Problem):
            self._log.error("%s: %s", self._what, reason)
        self._reason = reason

    def end(self) -> None:
        """Note a success."""
        self._reason = None


async def repeat(
    step: Callable[[], Awaitable[float]],
    trouble: Trouble,
    again_s: float = AGAIN_S,
    errors: tuple[type[Exception], ...] = DATABASE_ERRORS,
) -> None:
    """Run steps until cancelled, with the pause in seconds that each returns; after one of `errors` `again_s`.

    Any other error of a step is raised.
    """
    while True:
        try:
            pause_s = await step()
            trouble.end()
        except errors as error:
            trouble.tell(error)
            pause_s = again_s
        await asyncio.sleep(pause_s)
