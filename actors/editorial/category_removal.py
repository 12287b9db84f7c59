"""The removal of a deleted category: a job takes its articles out of it in batches, and then deletes its row."""

import time
from uuid import UUID

import msgspec

from callboard.actors.editorial.events import ContentEdited
from callboard.actors.errors import SERVER_TIMEOUT, Problem
from callboard.actors.infrastructure.job_kinds import Job, JobKind, Later, Outcome, Priority, on_job
from callboard.runtime import Actor
from callboard.streams.adaptive_batch import AdaptiveBatch
from callboard.streams.outbox import emit_all
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

MAX_BATCH = 200  # articles of one step: an edit of one of them waits for it
TURN_S = 60.0  # the duration of one attempt
DELAY_S = 5.0


class RemoveCategory(msgspec.Struct, frozen=True):
    """Remove a category that a user has deleted."""

    category_id: UUID
    actor_id: UUID


REMOVE_CATEGORY = JobKind(
    "remove_category",
    RemoveCategory,
    priority=Priority.BULK,
    slots=1,
    timeout_s=2 * TURN_S,
    max_attempts=20,
    alarm_s=6 * 3600.0,
)


class CategoryRemoval(Actor[Job[RemoveCategory]]):
    """Takes articles out of deleted categories. Each has a new version, and an event that says so."""

    def __init__(self) -> None:
        self.batch = AdaptiveBatch(MAX_BATCH)

    @on_job
    async def remove(self, job: Job[RemoveCategory]) -> Outcome:
        """Work until the category has no article; after a minute, continue in a later attempt."""
        end, done = time.monotonic() + TURN_S, int(job.cursor or 0)
        while time.monotonic() < end:
            count = await self._detach_batch(job, done)
            if count is None and not self.batch.timed_out():
                return Later(DELAY_S, "even one article takes too long")
            if count == 0:
                return await self._finish(job)
            done += count or 0
        return Later(0.0, "more articles remain")

    async def _detach_batch(self, job: Job[RemoveCategory], done: int) -> int | None:
        """Take one batch out, and return its size; None if it took too long. Articles that are being edited wait."""
        began = time.monotonic()
        try:
            async with job.step() as step:
                rows = QUERIES.detach_content(
                    step.connection, category_id=job.payload.category_id, limit=self.batch.size
                )
                edited = [
                    ContentEdited(
                        row["content_id"], row["author_id"], row["title"], job.payload.actor_id, row["version"]
                    )
                    async for row in rows
                ]
                await emit_all(step.connection, edited)
                step.report(done + len(edited), cursor=done + len(edited))
        except Problem as problem:
            if problem.code is SERVER_TIMEOUT:
                return None
            raise
        self.batch.succeeded(len(edited), time.monotonic() - began)
        return len(edited)

    async def _finish(self, job: Job[RemoveCategory]) -> Outcome:
        """Delete the row, unless articles of the category are being edited now."""
        category_id = job.payload.category_id
        async with job.step() as step:
            if await QUERIES.has_content(step.connection, category_id=category_id):
                return Later(DELAY_S, "the remaining articles are being edited")
        async with job.finish() as connection:
            await QUERIES.remove_category(connection, category_id=category_id)
        return None
