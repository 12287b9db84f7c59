"""The janitor: throws away what nobody will ask for again. What has expired is refused at once, by its own query."""

from pathlib import Path
from typing import Any

import aiosql
import msgspec

from callboard.actors import audit_log
from callboard.actors.database import Database
from callboard.runtime import Actor, Message, on

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("janitor.sql"), "asyncpg")

INTERVAL_S = 3600.0
PURGE_ROWS = 1000  # in a statement


class Kept(msgspec.Struct, frozen=True):
    """How long is kept what may be told apart by settings, in days."""

    audit_days: int = 365
    audit_failure_days: int = 30


KEPT = Kept()


class CleanUp(Message, frozen=True):
    """Do it now."""


class Janitor(Actor[CleanUp]):
    """Cleans up each hour; two at once do no harm."""

    def __init__(self, database: Database, kept: Kept = KEPT) -> None:
        self.database = database
        self.kept = kept

    async def on_start(self) -> None:
        """Begin the rounds."""
        self.every(INTERVAL_S, CleanUp())

    @on(CleanUp)
    async def clean_up(self, _message: CleanUp) -> None:
        """Expired sessions, spent secrets, old answers, mails long sent."""
        async with self.database.acquire() as connection:
            await QUERIES.end_sessions(connection)
            await QUERIES.forget_refresh_tokens(connection)
            await QUERIES.forget_tokens(connection)
            await QUERIES.forget_exports(connection)
            await QUERIES.forget_petitions(connection)
            await QUERIES.forget_keys(connection)
            await QUERIES.forget_mails(connection)
        while await self._purge_audit_log() == PURGE_ROWS:
            pass

    async def _purge_audit_log(self) -> int:
        async with self.database.acquire() as connection:
            return await audit_log.purge(
                connection, days=self.kept.audit_days, failure_days=self.kept.audit_failure_days, limit=PURGE_ROWS
            )
