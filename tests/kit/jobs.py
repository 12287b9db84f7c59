"""Jobs for tests: a kind, handlers that do what a test says, and processes that run them on one database."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import (
    Backoff,
    Job,
    JobGroup,
    JobKind,
    Outcome,
    job_pool,
    on_job,
    on_job_group,
)
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.job_sweeper import JobSweeper, Sweep
from callboard.actors.infrastructure.job_worker import JobWorker
from callboard.runtime import Actor, Props, System, supervisor, worker


class Note(msgspec.Struct, frozen=True):
    """A payload."""

    text: str = ""


NOTE = JobKind("note", Note, slots=4, backoff=Backoff(0.01, 0.05), lease_s=30.0, keep_s=3600.0)

Handle = Callable[[Job[Note]], Awaitable[Outcome]]
HandleGroup = Callable[[JobGroup[Note]], Awaitable[Outcome]]


class Notes(Actor[Job[Note]]):
    """Does what the test says."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle

    @on_job
    async def take(self, job: Job[Note]) -> Outcome:
        return await self.handle(job)


class NoteGroups(Actor[JobGroup[Note]]):
    """The same for groups."""

    def __init__(self, handle: HandleGroup) -> None:
        self.handle = handle

    @on_job_group
    async def take(self, group: JobGroup[Note]) -> Outcome:
        return await self.handle(group)


def kind(**changes: Any) -> JobKind[Note]:
    """The kind of these tests, with changes."""
    return msgspec.structs.replace(NOTE, **changes)


class Process:
    """One process that works at jobs: a worker and a sweeper of its own, and pools of its own."""

    def __init__(
        self,
        database: Database,
        *handlers: "tuple[JobKind[Any], Any]",
        name: str = "process",
        grace_s: float = 0.0,
        sweeps: bool = True,
    ) -> None:
        self.database = database
        self.queue = JobQueue([declared for declared, _ in handlers])
        self.counts = JobCounts()
        self.handlers = [
            job_pool(declared, Props(NoteGroups if declared.group > 1 else Notes, handle))
            for declared, handle in handlers
        ]
        self.made: list[JobWorker] = []
        self.name = name
        self.grace_s = grace_s
        kinds = [declared for declared, _ in handlers]
        self.sweeper = worker("sweeper", Props(JobSweeper, database, self.queue, kinds, self.counts))
        self.sweeps = sweeps

    @asynccontextmanager
    async def working(self) -> AsyncIterator["Process"]:
        """Run until the end of the block."""
        process = self

        class Kept(JobWorker):
            def __init__(self) -> None:
                super().__init__(
                    process.database,
                    process.queue,
                    process.handlers,
                    process.counts,
                    name=process.name,
                    grace_s=process.grace_s,
                )
                process.made.append(self)

        children = [each.pool for each in self.handlers]
        extra = [self.sweeper] if self.sweeps else []
        async with System(supervisor("jobs", *children, *extra, worker("worker", Kept))):
            yield self

    async def sweeper_once(self) -> None:
        """Sweep, though nothing of this process runs."""
        await JobSweeper(self.database, self.queue, [each.kind for each in self.handlers], self.counts).sweep(Sweep())

    @property
    def worker(self) -> JobWorker:
        """The living worker."""
        return self.made[-1]

    async def put(self, *texts: str, **options: Any) -> list[int | None]:
        """Enqueue notes, each in a transaction of its own."""
        ids = []
        for text in texts:
            async with self.database.transaction() as connection:
                ids.append(await self.queue.enqueue(connection, Note(text), **options))
        return ids

    async def settled(self, timeout_s: float = 20.0) -> None:
        """Wait until no job is left."""
        async with asyncio.timeout(timeout_s):
            while await self.value("select count(*) from jobs"):  # noqa: ASYNC110 - what is awaited is in PostgreSQL
                await asyncio.sleep(0.005)

    async def value(self, query: str, *arguments: Any) -> Any:
        async with self.database.acquire() as connection:
            return await connection.fetchval(query, *arguments)

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        async with self.database.acquire() as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]

    async def execute(self, statement: str) -> None:
        async with self.database.acquire() as connection:
            await connection.execute(statement)


async def effect(job: Job[Note]) -> Outcome:
    """What every holder of a job does: its effect, once."""
    async with job.finish() as connection:
        await connection.execute(
            "insert into job_effects values ($1, $2, $3)", job.job_id, job.lease_id, job.payload.text
        )
    return None


async def effects(process: Process) -> Counter[str]:
    return Counter(row["note"] for row in await process.rows("select note from job_effects"))


async def outcomes(process: Process) -> dict[str, int]:
    rows = await process.rows("select outcome, count(*) as n from finished_jobs group by 1")
    return {row["outcome"]: row["n"] for row in rows}
