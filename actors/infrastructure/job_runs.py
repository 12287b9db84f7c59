"""The running jobs of a process: its hold on each is timed by the database's clock, and trusted for less than the
lease.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Job, JobKind, LeaseLostError, Step, encode_progress
from callboard.actors.infrastructure.job_outcomes import ONE_DELETED, complete, completion, nothing
from callboard.runtime import Span, SpanKind, begin_span, begin_trace
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__, "job_worker")

MARGIN_S = 5.0  # a lease is trusted for this much less than it lasts
MARGIN_SHARE = 6.0  # or for this part of it, if that is less
PROGRESS_INTERVAL_S = 1.0
ONE_LOCKED = "SELECT 1"


class RunningJob:
    """One running job. `trusted_until` is in the loop's time; `stopped` is the reason of a cancellation."""

    __slots__ = (
        "ended",
        "finishing",
        "job",
        "kind",
        "order_key",
        "priority",
        "progress_at",
        "reply",
        "span",
        "started_at",
        "stopped",
        "traceparent",
        "trusted_until",
        "unsaved",
    )

    def __init__(self, job: Job[Any], kind: JobKind[Any], row: Any, sent_at: float, now: float) -> None:
        self.job = job
        self.kind = kind
        self.order_key: str | None = row["order_key"]
        self.priority: int = row["priority"]
        self.traceparent: str | None = row["traceparent"]
        self.span: Span | None = None
        self.started_at = now
        self.trusted_until = sent_at + trusted_s(kind.lease_s)
        self.reply: asyncio.Future[Any] | None = None
        self.finishing = False
        self.ended = False  # `finish` has committed
        self.stopped: str | None = None
        self.progress_at = -PROGRESS_INTERVAL_S
        self.unsaved: str | None = None

    def begin_span(self, left_s: float | None) -> None:
        """Begin the attempt's span: below the job's cause, or in a trace of its own if that had none."""
        attributes = {"job.id": self.job.job_id, "job.attempt": self.job.attempt}
        if left_s is not None:
            attributes["deadline_ms"] = round(left_s * 1000)
        name = f"JOB {self.kind.name}"
        if self.traceparent is None:
            self.span = begin_trace(name, SpanKind.CONSUMER, attributes)
        else:
            self.span = begin_span(name, SpanKind.CONSUMER, attributes, parent=self.traceparent)
        if self.span is not None:
            self.traceparent = self.span.traceparent

    def stop(self, why: str) -> None:
        """Cancel the handler; the first reason stands."""
        if self.stopped is None:
            self.stopped = why
        if self.reply is not None:
            self.reply.cancel()


def trusted_s(lease_s: float) -> float:
    """Return how long a process trusts a lease after it has asked for it."""
    return lease_s - min(MARGIN_S, lease_s / MARGIN_SHARE)


class RunningJobs:
    """All running jobs, by id. It is the `holder` of each: it finishes them, renews their leases, stores progress.

    `effects` is the pool for the transactions of handlers, whose statements may take longer than those of the queue.
    """

    def __init__(self, database: Database, effects: Database) -> None:
        self.database = database
        self.effects = effects
        self.by_id: dict[int, RunningJob] = {}
        self.any = asyncio.Event()  # set while a job runs
        self.none = asyncio.Event()
        self.none.set()

    def add(self, run: RunningJob) -> None:
        """Add a running job."""
        if not self.by_id:
            self.any.set()
            self.none.clear()
        self.by_id[run.job.job_id] = run

    def remove(self, run: RunningJob) -> None:
        """Remove a job."""
        if self.by_id.get(run.job.job_id) is run:  # else a later claim of ours has it
            del self.by_id[run.job.job_id]
            if not self.by_id:
                self.any.clear()
                self.none.set()

    def make(self, row: Any, payload: msgspec.Struct | None) -> Job[Any]:
        """Build the job of a claimed row."""
        progress = row["progress"]
        return Job(
            row["job_id"],
            row["lease_id"],
            payload,  # None only if no handler will see it
            row["attempts"],
            row["max_attempts"],
            row["created_at"],
            row["deadline"],
            msgspec.json.decode(progress).get("cursor") if progress else None,
            self,
        )

    def _held(self, job: Job[Any]) -> RunningJob:
        run = self.by_id.get(job.job_id)
        if run is None or run.job.lease_id != job.lease_id or run.ended:
            raise LeaseLostError(f"job {job.job_id} is not held any more")
        return run

    @asynccontextmanager
    async def finish(self, jobs: tuple[Job[Any], ...]) -> AsyncIterator[tuple[Any, frozenset[int]]]:
        """See job_kinds.Holder. The delete comes first, under the fence: it locks the rows."""
        runs = [self._held(job) for job in jobs]
        for run in runs:
            run.finishing = True
        opening = completion(runs[0]) if len(runs) == 1 else ""
        try:
            async with self.effects.transaction(opening) as connection:
                if opening:
                    held = frozenset(run.job.job_id for run in runs if connection.opened == ONE_DELETED)
                    free_keys: Callable[[], Awaitable[None]] = nothing
                else:
                    held, free_keys = await complete(connection, runs)
                if not held:
                    raise LeaseLostError("another holds the job now, or it has been deleted")
                yield connection, held
                await free_keys()
            for run in runs:
                run.ended = run.job.job_id in held
        finally:
            for run in runs:
                run.finishing = False

    @asynccontextmanager
    async def step(self, job: Job[Any]) -> AsyncIterator[Step]:
        """See job_kinds.Holder. The lock comes first, under the fence: until the commit nobody else takes the job."""
        run = self._held(job)
        held = f"job_id = {int(job.job_id)} and lease_id = {int(job.lease_id)}"
        run.finishing = True
        try:
            async with self.effects.transaction(f"select from jobs where {held} for no key update") as connection:
                if connection.opened != ONE_LOCKED:
                    raise LeaseLostError(f"another holds job {job.job_id} now, or it has been deleted")
                step = Step(connection)
                yield step
                if step.progress is not None:
                    await store_progress(connection, job, step.progress)
        finally:
            run.finishing = False

    async def confirm(self, job: Job[Any]) -> None:
        """See job_kinds.Holder."""
        self._held(job)
        async with self.database.acquire() as connection:
            if not await QUERIES.confirm(connection, job_id=job.job_id, lease_id=job.lease_id):
                raise LeaseLostError(f"another holds job {job.job_id} now, or it has been deleted")

    async def progress(self, job: Job[Any], done: int, total: int | None, cursor: Any) -> None:
        """See job_kinds.Holder. A report too soon after the last is stored with the next, or at the end."""
        run = self._held(job)
        run.unsaved = encode_progress(done, total, cursor)
        now = asyncio.get_running_loop().time()
        if now - run.progress_at < PROGRESS_INTERVAL_S:
            return
        run.progress_at = now
        async with self.database.acquire() as connection:
            await save_progress(connection, run)

    async def renew(self) -> None:
        """Renew the leases of all running jobs, in one statement.

        A job that another process holds now is stopped, and so is one to be cancelled. Raises Problem.
        """
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        runs = [run for run in list(self.by_id.values()) if not run.ended and run.stopped is None]
        runs = [run for run in runs if asked_at - run.started_at <= run.kind.timeout_s + run.kind.lease_s]
        if not runs:
            return
        async with self.database.acquire() as connection:
            rows = {
                row["job_id"]: row
                async for row in QUERIES.renew(
                    connection,
                    job_ids=[run.job.job_id for run in runs],
                    lease_ids=[run.job.lease_id for run in runs],
                    lease_s=[run.kind.lease_s for run in runs],
                )
            }
        for run in runs:
            row = rows.get(run.job.job_id)
            if row is None:
                if not run.finishing and not run.ended:
                    run.stop("lease")
            elif row["cancelled"] and not run.finishing:
                run.stop("cancelled")
            elif row["renewed"]:
                run.trusted_until = asked_at + trusted_s(run.kind.lease_s)

    def distrust(self) -> float | None:
        """Stop the jobs whose leases are no longer safe; return the time when the next one is.

        A job within `finish` is left alone: its row is locked, and its fence has held.
        """
        now, earliest = asyncio.get_running_loop().time(), None
        for run in list(self.by_id.values()):
            if run.ended or run.finishing or run.stopped is not None:
                continue
            if run.trusted_until <= now:
                run.stop("lease")
            elif earliest is None or run.trusted_until < earliest:
                earliest = run.trusted_until
        return earliest


async def save_progress(connection: Any, run: RunningJob) -> None:
    """Store pending progress. Raises LeaseLostError."""
    if run.unsaved is None:
        return
    progress, run.unsaved = run.unsaved, None
    await store_progress(connection, run.job, progress)


async def store_progress(connection: Any, job: Job[Any], progress: str) -> None:
    """Store a job's progress under its fence. Raises LeaseLostError."""
    if not await QUERIES.set_progress(connection, job_id=job.job_id, lease_id=job.lease_id, progress=progress):
        raise LeaseLostError(f"another holds job {job.job_id} now, or it has been deleted")
