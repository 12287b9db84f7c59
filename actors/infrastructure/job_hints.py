"""Hints: a process tells the others by NOTIFY that there is work. A hint that is lost costs one poll, and no more."""

import asyncio
import logging
from contextlib import suppress
from uuid import uuid4

import asyncpg

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import ERRORS, Database
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.runtime import Actor

CHANNEL = "callboard_jobs"
PACE_S = 0.05  # one notice in so long
HEARTBEAT_S = 10.0  # a listener tells itself so often, to know that its connection lives
PATIENCE_S = 2.0  # for a notice of one's own to come
RETRY_S = 300.0  # where none comes, because a pooler stands in between
AGAIN_S = 1.0

log = logging.getLogger(__name__)


class JobHints(Actor[None]):
    """Sends notices for what this process enqueues; with `listens` it also wakes the workers at the others'."""

    def __init__(self, database: Database, queue: JobQueue, *, listens: bool) -> None:
        self.database = database
        self.queue = queue
        self.listens = listens
        self.name = uuid4().hex
        self._due = asyncio.Event()
        self._heard = asyncio.Event()
        self._said = False

    async def run(self) -> None:
        """Tell and listen, each in a loop of its own, until the actor stops."""
        self.queue.tellers.append(self._due.set)
        try:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(self._tell_on())
                if self.listens:
                    loops.create_task(self._listen_on())
        finally:
            self.queue.hinted = False
            self.queue.tellers.remove(self._due.set)

    async def _tell_on(self) -> None:
        """The first notice at once, then one each PACE_S at most; never in the transaction of a cause."""
        while True:
            await self._due.wait()
            self._due.clear()
            with suppress(Problem, asyncpg.PostgresError):  # a poll will find the job
                async with self.database.acquire() as connection:
                    await connection.execute("select pg_notify($1, $2)", CHANNEL, self.name)
            await asyncio.sleep(PACE_S)

    async def _listen_on(self) -> None:
        while True:
            await self.database.back.wait()
            pause_s = AGAIN_S
            try:
                if not await self._listen():
                    pause_s = RETRY_S
            except ERRORS:
                pass
            finally:
                self.queue.hinted = False
            await asyncio.sleep(pause_s)

    async def _listen(self) -> bool:
        """Listen on a connection of its own while it lives. False when no notice has ever come on it."""
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
            await connection.add_listener(CHANNEL, hear)
            while await self._hears_itself(connection):
                if not self.queue.hinted:
                    self.queue.hinted = True
                    self.queue.wake()  # for whatever was told meanwhile
                await asyncio.sleep(HEARTBEAT_S)
            if self.queue.hinted:
                return True
            if not self._said:
                log.warning("this connection receives no notifications of new jobs: the queue is polled instead")
                self._said = True
            return False
        finally:
            connection.terminate()

    async def _hears_itself(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        self._heard.clear()
        await connection.execute("select pg_notify($1, $2)", CHANNEL, f"{self.name}!")
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._heard.wait()
        except TimeoutError:
            return False
        return True
