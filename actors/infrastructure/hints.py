"""Hints: a process announces new rows to the others by NOTIFY. A lost hint only delays a row to the next poll."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol
from uuid import uuid4

import asyncpg

from callboard.actors.infrastructure.database import ERRORS, Database
from callboard.actors.infrastructure.job_loops import Trouble, repeat
from callboard.runtime import Actor

CHANNEL = "callboard_jobs"
PACE_S = 0.05  # the least time between notices
HEARTBEAT_S = 10.0  # a listener notifies itself this often, to check its connection
PATIENCE_S = 2.0  # the wait for its own notice
RETRY_S = 300.0  # the retry interval if none arrives, because a pooler is in between
AGAIN_S = 1.0

log = logging.getLogger(__name__)


class Hinted(Protocol):
    """An owner of rows: it calls `tellers` for new ones of its process, and is woken for those of others if it is
    `hinted`.
    """

    tellers: list[Callable[[], None]]
    hinted: bool

    def wake(self) -> None:
        """Look for new rows."""


class Hints(Actor[None]):
    """Announces rows on a channel if it `tells`, and wakes the process for those of others if it `listens`."""

    def __init__(
        self,
        database: Database,
        queue: Hinted,
        *,
        listens: bool,
        tells: bool = True,
        channel: str = CHANNEL,
        what: str = "jobs",
    ) -> None:
        self.database = database
        self.queue = queue
        self.listens = listens
        self.tells = tells
        self.channel = channel
        self.what = what
        self.name = uuid4().hex
        self._due = asyncio.Event()
        self._heard = asyncio.Event()
        self._said = False

    async def run(self) -> None:
        """Notify and listen, each in its own loop, until the actor stops."""
        if self.tells:
            self.queue.tellers.append(self._due.set)
        try:
            async with asyncio.TaskGroup() as loops:
                if self.tells:
                    trouble = Trouble(log, f"other processes cannot be notified of {self.what}")
                    loops.create_task(repeat(self._notify, trouble))
                if self.listens:
                    trouble = Trouble(log, f"notifications of {self.what} cannot be received")
                    loops.create_task(repeat(self._listen_once, trouble, AGAIN_S, ERRORS))
        finally:
            if self.listens:
                self.queue.hinted = False
            if self.tells:
                self.queue.tellers.remove(self._due.set)

    async def _notify(self) -> float:
        """Send the first notice at once, then one each PACE_S at most; never in the transaction of a cause. If one is
        lost, a poll finds the job.
        """
        await self._due.wait()
        self._due.clear()
        async with self.database.acquire() as connection:
            await connection.execute("select pg_notify($1, $2)", self.channel, self.name)
        return PACE_S

    async def _listen_once(self) -> float:
        await self.database.available.wait()
        try:
            return AGAIN_S if await self._listen() else RETRY_S
        finally:
            self.queue.hinted = False

    async def _listen(self) -> bool:
        """Listen on a separate connection while it lives. Return False if no notice has ever arrived on it."""
        connection = await asyncpg.connect(
            self.database.direct_url, timeout=PATIENCE_S, command_timeout=PATIENCE_S, statement_cache_size=0
        )

        def hear(_connection: object, _pid: int, _channel: str, sender: object) -> None:
            if sender == self.name:
                return
            if sender == f"{self.name}!":
                self._heard.set()
            else:
                self.queue.wake()

        try:
            await connection.add_listener(self.channel, hear)
            while await self._hears_itself(connection):
                if not self.queue.hinted:
                    self.queue.hinted = True
                    self.queue.wake()  # for notices that were missed meanwhile
                await asyncio.sleep(HEARTBEAT_S)
            if self.queue.hinted:
                return True
            if not self._said:
                log.warning("this connection receives no notifications of new %s: they are polled instead", self.what)
                self._said = True
            return False
        finally:
            connection.terminate()

    async def _hears_itself(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        self._heard.clear()
        await connection.execute("select pg_notify($1, $2)", self.channel, f"{self.name}!")
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._heard.wait()
        except TimeoutError:
            return False
        return True
