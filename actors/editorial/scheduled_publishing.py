"""Scheduled publication and expiry: a job at the next time of an article's schedule.

The times are in the article's row, and the job reads them there. So a job whose article was edited, scheduled anew or
deleted meanwhile does nothing, and one that comes late does all that is due.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.editorial import events
from callboard.actors.editorial.content_cache import ContentCache
from callboard.actors.editorial.content_rows import Content, as_content, record, tell
from callboard.actors.editorial.workflow_rules import TRANSITION_RULES, Action
from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.infrastructure.job_kinds import Backoff, Job, JobKind, Outcome, on_job
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.runtime import Actor
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

MAX_DAYS = 3660  # a later time is a slip of the pen


class RunSchedule(msgspec.Struct, frozen=True):
    """Make the transitions of an article that are due. The actor is the user who made the schedule."""

    content_id: UUID
    actor_id: UUID


RUN_SCHEDULE = JobKind(
    "content_schedule",
    RunSchedule,
    slots=2,
    lease_s=10.0,  # a killed process delays a publication by no more
    timeout_s=10.0,
    max_attempts=20,
    backoff=Backoff(0.2, 60.0),
    alarm_s=60.0,
)
DUE = (
    (QUERIES.publish_due, Action.PUBLISH, events.ContentPublished),
    (QUERIES.archive_due, Action.ARCHIVE, events.ContentArchived),
)


async def check_times(connection: Any, publish_at: datetime | None, expire_at: datetime | None) -> None:
    """Check new times against the database's clock, which fires them. Raises Problem(REQUEST_INVALID) for each."""
    fields = {"publish_at": publish_at, "expire_at": expire_at}
    given = [(field, time) for field, time in fields.items() if time is not None]
    if not given:
        return
    checks = QUERIES.check_times(connection, times=[time for _, time in given], max_days=MAX_DAYS)
    faults = [FieldError(given[row["place"] - 1][0], row["fault"]) async for row in checks]
    if publish_at is not None and expire_at is not None and expire_at <= publish_at:
        faults.append(FieldError("expire_at", "Must be after publish_at."))
    if faults:
        raise Problem(REQUEST_INVALID, details=tuple(faults))


async def plan(connection: Any, jobs: JobQueue, before: Content, content: Content, actor_id: UUID) -> None:
    """Have a changed schedule run at its next time, in the transaction that has just changed the article.

    The changed row is locked: of two schedules at once the later one replaces the job of the earlier.
    """
    if times(before) == times(content):
        return
    await jobs.withdraw(connection, RUN_SCHEDULE, unique=str(content.content_id))
    await _enqueue(connection, jobs, RunSchedule(content.content_id, actor_id), content)


def times(content: Content) -> tuple[datetime, ...]:
    """Return the times of an article's schedule."""
    return tuple(time for time in (content.publish_at, content.expire_at) if time is not None)


async def _enqueue(connection: Any, jobs: JobQueue, payload: RunSchedule, content: Content) -> None:
    if scheduled := times(content):
        await jobs.enqueue(connection, payload, run_at=min(scheduled), unique=str(payload.content_id))


class ScheduledPublisher(Actor[Job[RunSchedule]]):
    """Publishes and archives articles at their times. The end of the job is in the same transaction."""

    def __init__(self, jobs: JobQueue, cache: ContentCache) -> None:
        self.jobs = jobs
        self.cache = cache

    @on_job
    async def make_due(self, job: Job[RunSchedule]) -> Outcome:
        """Make what is due, and plan what is not.

        If both times have passed, no reader sees the article: it is published and archived in one transaction.
        """
        content_id, actor_id = job.payload.content_id, job.payload.actor_id
        async with self.cache.changing(content_id), job.finish() as connection:
            locked = await QUERIES.lock_content(connection, content_id=content_id)
            if locked is None:  # deleted
                return None
            content = as_content(locked)
            for change, action, event in DUE:
                row = await change(connection, content_id=content_id)
                if row is not None:
                    await record(connection, content, action, TRANSITION_RULES[action].target, actor_id)
                    content = await tell(connection, event, row, actor_id)
            # A job that waits already is of a later schedule, and plans the next itself.
            await _enqueue(connection, self.jobs, job.payload, content)
        return None
