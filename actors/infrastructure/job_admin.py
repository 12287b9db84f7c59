"""The operators' side of the queue: inspect jobs, cancel, retry, replay, discard, pause. Each change is audited."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.audit_actions import (
    JOB_CANCELLED,
    JOB_CHANGED,
    JOB_DISCARDED,
    JOB_KIND_CHANGED,
    JOB_REPLAYED,
    JOB_SCHEDULE_CHANGED,
)
from callboard.actors.infrastructure.audit_log import OPERATOR, AuditAction, record
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.errors import (
    JOBS_KIND_UNKNOWN,
    JOBS_NOT_DEAD,
    JOBS_NOT_FOUND,
    JOBS_NOT_WAITING,
    JOBS_SCHEDULE_UNKNOWN,
)
from callboard.actors.infrastructure.job_kinds import Priority
from callboard.actors.infrastructure.job_outcomes import QUERIES as OUTCOMES
from callboard.actors.infrastructure.job_outcomes import free_key
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.job_views import DeadFilter, JobView, KindView, ScheduleView
from callboard.actors.infrastructure.schedules import QUERIES as SCHEDULES
from callboard.actors.infrastructure.schedules import UNREADABLE, next_due, scheduled
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

REDACTED = "***"
MAX_ID = 2**63 - 1
MAX_COUNT = 10_001  # the limit of exact counts
TRIES = 10  # a job may start, or return to the queue, between two statements
BATCH = 100


class JobAdmin:
    """Inspects and changes the queue. Raises Problem(JOBS_...) for an unknown job, kind or schedule."""

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self.database = database
        self.queue = queue

    # Queries ---------------------------------------------------------------------------------------------------------

    async def jobs(self, *, kind: str | None, state: str | None, after: int, limit: int) -> list[JobView]:
        """List unfinished jobs, by id, after `after`."""
        async with self.database.acquire() as connection:
            rows = QUERIES.list_jobs(connection, kind=kind, state=state, after=after, limit=limit)
            return [self._view(row, row["state"]) async for row in rows]

    async def dead(
        self, which: DeadFilter, *, before: tuple[datetime, int] | None = None, limit: int = BATCH
    ) -> list[JobView]:
        """List dead letters, newest first, before `before`."""
        at, job_id = before or (None, None)
        async with self.database.acquire() as connection:
            rows = QUERIES.list_dead_jobs(
                connection, **msgspec.structs.asdict(which), before_at=at, before_id=job_id, limit=limit
            )
            return [self._view(row, "dead") async for row in rows]

    async def job(self, job_id: int) -> JobView:
        """Find a job: in the queue, among the dead letters, or among the stored outcomes."""
        async with self.database.acquire() as connection:
            if (row := await QUERIES.job(connection, job_id=job_id)) is not None:
                return self._view(row, row["state"])
            if (row := await QUERIES.dead_job(connection, job_id=job_id)) is not None:
                return self._view(row, "dead")
            if (row := await QUERIES.finished_job(connection, job_id=job_id)) is not None:
                return self._view(row, row["outcome"])
        raise Problem(JOBS_NOT_FOUND)

    async def dead_job(self, job_id: int) -> JobView | None:
        """Find a dead letter, replayed and discarded ones too."""
        async with self.database.acquire() as connection:
            row = await QUERIES.dead_job(connection, job_id=job_id)
            return None if row is None else self._view(row, "dead")

    async def kinds(self) -> list[KindView]:
        """List every kind that this release declares, and unknown kinds that wait."""
        known = self.queue.kinds
        async with self.database.acquire() as connection:
            rows = [row async for row in QUERIES.depths(connection, kinds=list(known), most=MAX_COUNT)]
            others = [row async for row in QUERIES.unknown_kinds(connection, kinds=list(known), most=MAX_COUNT)]
        views = [
            KindView(
                row["kind"],
                True,
                row["paused"],
                known[row["kind"]].max_running if row["max_running"] is None else row["max_running"],
                row["waiting"],
                row["blocked"],
                row["running"],
                row["dead"],
                row["oldest_s"],
            )
            for row in rows
        ]
        return views + [
            KindView(row["kind"], False, False, 0, row["waiting"], 0, 0, 0, row["oldest_s"] or 0.0) for row in others
        ]

    async def schedules(self) -> list[ScheduleView]:
        """List every schedule, by name."""
        async with self.database.acquire() as connection:
            rows = [row async for row in SCHEDULES.list_schedules(connection)]
        return [
            ScheduleView(
                row["name"],
                row["kind"],
                row["cron"],
                row["zone"],
                row["enabled"],
                row["missed"],
                row["last_due"],
                _next_due(row),
            )
            for row in rows
        ]

    # Changes ---------------------------------------------------------------------------------------------------------

    async def cancel(self, job_id: int) -> Literal["cancelled", "requested"]:
        """End a job that has not started, or request the cancellation of one that runs: its handler is cancelled within
        a third of its lease, unless it is done first.
        """
        for _ in range(TRIES):
            async with self.database.transaction() as connection:
                known = await QUERIES.job(connection, job_id=job_id)
                kind = known and self.queue.kinds.get(known["kind"])
                row = await QUERIES.cancel_waiting(connection, job_id=job_id, keep_s=kind.keep_s if kind else 0.0)
                if row is not None:
                    await free_key(connection, row["kind"], row["order_key"])
                    await _note(connection, JOB_CANCELLED, job_id=job_id, kind=row["kind"])
                    return "cancelled"
                name = await QUERIES.request_cancel(connection, job_id=job_id)
                if name is not None:
                    await _note(connection, JOB_CANCELLED, job_id=job_id, kind=name)
                    return "requested"
                if known is None:
                    raise Problem(JOBS_NOT_FOUND)
        raise Problem(JOBS_NOT_WAITING)

    async def retry_now(self, job_id: int) -> None:
        """Start a waiting job without further delay."""
        await self._change(QUERIES.retry_now, job_id)
        self.queue.ring()

    async def set_priority(self, job_id: int, priority: Priority) -> None:
        """Change the priority of a job that has not started."""
        await self._change(QUERIES.set_priority, job_id, priority=int(priority))
        self.queue.ring()

    async def discard(self, job_id: int) -> None:
        """Discard a dead letter: it will not be replayed, and its order key goes on."""
        async with self.database.transaction() as connection:
            row = await QUERIES.take_dead(connection, job_id=job_id)
            if row is None or await QUERIES.discard(connection, job_id=job_id) is None:
                raise Problem(JOBS_NOT_FOUND if row is None else JOBS_NOT_DEAD)
            await free_key(connection, row["kind"], row["order_key"])
            await _note(connection, JOB_DISCARDED, job_id=job_id, kind=row["kind"])
        self.queue.ring()

    async def replay(self, job_id: int, *, delay_s: float = 0.0) -> int:
        """Make a new job from a dead letter, once; return its id."""
        async with self.database.transaction() as connection:
            row = await QUERIES.take_dead(connection, job_id=job_id)
            if row is None:
                raise Problem(JOBS_NOT_FOUND)
            key, blocked = row["order_key"], False
            if key is not None:
                await OUTCOMES.wait_for_key(connection, kind=row["kind"], order_key=key)
                blocked = await QUERIES.head_of(connection, kind=row["kind"], order_key=key)
            made = await QUERIES.replay(connection, job_id=job_id, delay_s=delay_s, blocked=blocked)
            if made["job_id"] is None:
                raise Problem(JOBS_NOT_DEAD)
            await QUERIES.mark_replayed(connection, job_id=job_id, replayed_as=made["job_id"])
            await _note(connection, JOB_REPLAYED, job_id=job_id, kind=row["kind"], replayed_as=made["job_id"])
        self.queue.ring()
        return int(made["job_id"])

    async def replay_all(self, which: DeadFilter, *, per_second: float, most: int) -> int:
        """Replay the dead letters of a filter, newest first, a limited number each second; return their number."""
        replayed = 0
        before: tuple[datetime, int] | None = None
        while replayed < most:
            page = await self.dead(which, before=before, limit=min(BATCH, most - replayed))
            for each in page:
                try:
                    await self.replay(each.job_id, delay_s=replayed / per_second)
                except Problem as problem:
                    if problem.code not in (JOBS_NOT_DEAD, JOBS_NOT_FOUND):  # another was faster
                        raise
                    continue
                replayed += 1
            if not page or page[-1].ended_at is None:
                break
            before = page[-1].ended_at, page[-1].job_id
        return replayed

    async def set_paused(self, kind: str, *, paused: bool) -> None:
        """Pause a kind in all processes, or resume it. Running jobs go on to their end."""
        self._known(kind)
        async with self.database.transaction() as connection:
            await QUERIES.set_paused(connection, kind=kind, paused=paused)
            await _note(connection, JOB_KIND_CHANGED, kind=kind, paused=paused)
        self.queue.ring()

    async def set_limit(self, kind: str, max_running: int | None) -> None:
        """Limit how many jobs of a kind run in all processes together: 0 is no limit, None the kind's own."""
        self._known(kind)
        async with self.database.transaction() as connection:
            await QUERIES.set_limit(connection, kind=kind, max_running=max_running)
            await _note(connection, JOB_KIND_CHANGED, kind=kind, max_running=max_running)
        self.queue.ring()

    async def enable_schedule(self, name: str, *, enabled: bool) -> None:
        """Enable or disable a schedule."""
        async with self.database.transaction() as connection:
            if not await SCHEDULES.enable_schedule(connection, name=name, enabled=enabled):
                raise Problem(JOBS_SCHEDULE_UNKNOWN)
            await _note(connection, JOB_SCHEDULE_CHANGED, schedule=name, enabled=enabled)

    async def run_schedule(self, name: str) -> int | None:
        """Enqueue a schedule's job now, outside of its rhythm; None if one with its key already waits."""
        async with self.database.transaction() as connection:
            row = await SCHEDULES.schedule_of(connection, name=name)
            if row is None or row["kind"] not in self.queue.kinds:
                raise Problem(JOBS_SCHEDULE_UNKNOWN)
            job_id = await self.queue.enqueue(connection, scheduled(self.queue, row, row["now"]))
            await _note(connection, JOB_SCHEDULE_CHANGED, schedule=name, job_id=job_id)
        return job_id

    async def _change(self, query: Any, job_id: int, **values: Any) -> None:
        async with self.database.transaction() as connection:
            kind = await query(connection, job_id=job_id, **values)
            if kind is None:
                known = await QUERIES.job(connection, job_id=job_id)
                raise Problem(JOBS_NOT_FOUND if known is None else JOBS_NOT_WAITING)
            await _note(connection, JOB_CHANGED, job_id=job_id, kind=kind, **values)

    def _known(self, kind: str) -> None:
        if kind not in self.queue.kinds:
            raise Problem(JOBS_KIND_UNKNOWN)

    def _view(self, row: Any, state: str) -> JobView:
        """Return a row for display, without the fields that its kind declares secret; of an unknown kind all are
        secret.
        """
        facts = dict(row)
        kind = self.queue.kinds.get(facts["kind"])
        payload = facts.get("payload")
        if payload is not None:
            fields = msgspec.json.decode(payload)
            facts["payload"] = {
                name: REDACTED if kind is None or name in kind.secret else value for name, value in fields.items()
            }
        if facts.get("progress") is not None:
            facts["progress"] = msgspec.json.decode(facts["progress"])
        if "priority" in facts:
            facts["priority"] = Priority(facts["priority"]).name.lower()
        facts["error"] = facts.get("error", facts.get("last_error"))
        facts["ended_at"] = facts.get("died_at", facts.get("finished_at"))
        shown = {name: facts[name] for name in JobView.__struct_fields__ if facts.get(name) is not None}
        return JobView(**{**shown, "state": state})


def _next_due(row: Any) -> datetime | None:
    """Return the next due time of a schedule; None if it is disabled or unreadable."""
    try:
        return next_due(row["cron"], row["zone"], max(row["last_due"], row["now"])) if row["enabled"] else None
    except UNREADABLE:
        return None


async def _note(connection: Any, action: AuditAction, **detail: Any) -> None:
    """Record a change in the audit log, in its own transaction."""
    await record(connection, action, by=OPERATOR, **detail)
