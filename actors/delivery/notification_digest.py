"""Digests: each day, or each week, one mail with the notifications that a user has not read in the app."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from callboard.actors.delivery.notification_preferences import Digest
from callboard.actors.delivery.notification_recorder import send_digests
from callboard.actors.delivery.notifications import QUERIES
from callboard.actors.infrastructure.job_kinds import Job, JobKind, Outcome, Priority, on_job
from callboard.actors.infrastructure.schedules import Schedule
from callboard.runtime import Actor

BATCH = 100  # users in one transaction


class SendDigests(msgspec.Struct, frozen=True):
    """Send the digests of a day or a week. The daily ones include what waits for users who have left digests."""

    period: Literal["daily", "weekly"]
    due_at: datetime | None = None


SEND_DIGESTS = JobKind(
    "notification_digest", SendDigests, priority=Priority.BULK, slots=1, timeout_s=600.0, alarm_s=6 * 3600.0
)
SCHEDULES = (
    Schedule("notification_digest_daily", SendDigests("daily"), "0 7 * * *"),
    Schedule("notification_digest_weekly", SendDigests("weekly"), "0 7 * * 1"),
)
DUE = {"daily": (Digest.DAILY, Digest.OFF), "weekly": (Digest.WEEKLY,)}


class DigestSender(Actor[Job[SendDigests]]):
    """Sends digests. A notification leaves the waiting ones in the transaction that requests its mail."""

    @on_job
    async def send(self, job: Job[SendDigests]) -> Outcome:
        """Send a batch after another, until no user is left. A later attempt finds those that are left."""
        mails = 0
        while True:
            async with job.step() as step:
                users = await _due_users(step.connection, job.payload)
                mails += await send_digests(step.connection, users)
                step.report(mails)
            if len(users) < BATCH:
                return None


async def _due_users(connection: Any, payload: SendDigests) -> list[Any]:
    digests = [each.value for each in DUE[payload.period]]
    return [row["user_id"] async for row in QUERIES.lock_waiting(connection, digests=digests, limit=BATCH)]
