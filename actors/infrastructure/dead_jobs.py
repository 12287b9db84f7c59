"""Dead letters of jobs, and so of mails: a replay is a new job with a new deadline."""

from datetime import datetime
from uuid import UUID

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.dead_letters import (
    LISTED_BYTES,
    SHOWN_BYTES,
    DeadLetterFilter,
    DeadLetterView,
    Position,
    State,
    as_base64,
    as_text,
)
from callboard.actors.infrastructure.errors import JOBS_NOT_DEAD, JOBS_NOT_FOUND
from callboard.actors.infrastructure.job_admin import MAX_ID, QUERIES, JobAdmin
from callboard.actors.infrastructure.job_views import DeadFilter, JobView

SOURCE = "job"
GONE = (JOBS_NOT_DEAD, JOBS_NOT_FOUND)


class JobLetters:
    """The dead letters of jobs, as a source. Their values are their payloads, without secret fields."""

    name = SOURCE

    def __init__(self, admin: JobAdmin) -> None:
        self.admin = admin

    async def page(
        self, which: DeadLetterFilter, *, replayed: bool, before: Position | None, limit: int
    ) -> list[DeadLetterView]:
        """See DeadLetterSource."""
        chosen = DeadFilter(which.name, which.reason, which.since, replayed)
        position = before and (before[0], min(before[1].int, MAX_ID))
        return [_view(job, LISTED_BYTES) for job in await self.admin.dead(chosen, before=position, limit=limit)]

    async def find(self, key: str) -> DeadLetterView | None:
        """See DeadLetterSource."""
        if (job_id := _number(key)) is None:
            return None
        job = await self.admin.dead_job(job_id)
        return None if job is None else _view(job, SHOWN_BYTES)

    async def oldest(self, which: DeadLetterFilter, *, until: datetime, limit: int) -> list[str]:
        """See DeadLetterSource."""
        async with self.admin.database.acquire() as connection:
            rows = QUERIES.oldest_dead_jobs(
                connection, kind=which.name, reason=which.reason, since=which.since, until=until, limit=limit
            )
            return [str(row["job_id"]) async for row in rows]

    async def replay(self, key: str, *, delay_s: float) -> bool:
        """See DeadLetterSource."""
        job_id = _number(key)
        try:
            return job_id is not None and await self.admin.replay(job_id, delay_s=delay_s) > 0
        except Problem as problem:
            if problem.code in GONE:  # another operator was faster
                return False
            raise

    async def drop(self, key: str) -> bool:
        """See DeadLetterSource."""
        if (job_id := _number(key)) is None:
            return False
        try:
            await self.admin.discard(job_id)
        except Problem as problem:
            if problem.code in GONE:
                return False
            raise
        return True


def _number(key: str) -> int | None:
    fits = key.isascii() and key.isdecimal() and len(key) <= len(str(MAX_ID)) and int(key) <= MAX_ID
    return int(key) if fits else None


def _view(job: JobView, most: int) -> DeadLetterView:
    state: State = "waiting"
    if job.replayed_as is not None or job.discarded_at is not None:
        state = "dropped" if job.replayed_as is None else "replayed"
    payload = msgspec.json.encode(job.payload)
    value = payload[:most]
    key = None if job.order_key is None else job.order_key.encode()
    return DeadLetterView(
        id=f"{SOURCE}:{job.job_id}",
        source=SOURCE,
        name=job.kind,
        state=state,
        reason=job.reason or "",
        detail=job.error or "",
        attempts=job.attempts,
        replays=job.replays,
        created_at=job.ended_at or job.created_at,
        position=UUID(int=job.job_id),
        key=job.order_key,
        key_base64=as_base64(key),
        value=as_text(value, is_cut=len(payload) > most),
        value_base64=as_base64(value),
        value_bytes=len(payload),
        is_cut=len(payload) > most,
        traceparent=job.traceparent,
        job_id=job.job_id,
        replayed_as=job.replayed_as,
    )
