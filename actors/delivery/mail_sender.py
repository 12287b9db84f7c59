"""The mail sender: runs the jobs of the mail queue.

A mail is sent once. One more copy with the same Message-ID can follow if the final dot was written and no reply was
noted: the server gave none, or our process was killed or lost its lease before it noted the reply. A copy is counted in
the mail's row before its final dot, under the fence of the job's lease. So two holders of one job make one copy, the
next one follows after a minute or more, and there are three at most.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from callboard.actors.delivery.mail_monitor import MailMonitor
from callboard.actors.delivery.mail_queue import QUERIES, SendMail
from callboard.actors.delivery.mail_retries import MAX_ATTEMPTS, WAITING, Reason, decide, reason_of, unknown_wait_s
from callboard.actors.delivery.mail_writer import MailWriter, UnwritableError
from callboard.actors.delivery.smtp_client import Phase, SmtpClient, SmtpError
from callboard.actors.errors import ErrorKind, Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import (
    Done,
    Job,
    Later,
    LeaseLostError,
    Outcome,
    Permanent,
    Retry,
    on_job,
)
from callboard.runtime import Actor

AGAIN_S = 0.5  # the retry interval while the database is unavailable


def utc_now() -> datetime:
    """Return the time for the header Date; no decision depends on it."""
    return datetime.now(UTC)


class MailSender(Actor[Job[SendMail]]):
    """Writes a mail, sends it, and notes the outcome."""

    def __init__(
        self,
        database: Database,
        writer: MailWriter,
        client: SmtpClient,
        monitor: MailMonitor,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.database = database
        self.writer = writer
        self.client = client
        self.monitor = monitor
        self.now = now

    @on_job
    async def send(self, job: Job[SendMail]) -> Outcome:
        """Send the mail of a job. No database connection is held meanwhile."""
        async with self.database.acquire() as connection:
            mail = await QUERIES.mail_of(connection, mail_id=job.payload.mail_id)
            if mail is None or mail["status"] == "sent":  # erased, or sent by a process of an earlier release
                return Done()
            if mail["status"] in ("dead", "expired"):  # an operator replays the job: its copies count anew
                mail = await QUERIES.revive(connection, mail_id=job.payload.mail_id)
            if mail["copies"]:
                if mail["copies"] >= MAX_ATTEMPTS:
                    return Permanent(f"{Reason.UNKNOWN}: no copy was confirmed")
                wait_s = unknown_wait_s(mail["copies"]) - mail["silent_s"]
                if wait_s > 0:
                    return Later(wait_s, f"{Reason.UNKNOWN}: the last copy was not confirmed")
            try:
                outgoing = await self.writer.write(connection, mail, self.now())
            except UnwritableError as error:
                self.monitor.unwritable(str(error))
                return Permanent(str(error))
        try:
            await self.client.send(
                sender=outgoing.sender,
                recipient=outgoing.recipient,
                content=outgoing.content,
                before_dot=lambda: self._count_copy(job),
            )
        except SmtpError as error:
            return await self._failed(job, mail, error)
        await self._note_sent(job)
        self.monitor.accepted()
        return Done()

    async def _count_copy(self, job: Job[SendMail]) -> None:
        """Note that the final dot is about to be written. Raises LeaseLostError if another process holds the job."""
        async with self.database.acquire() as connection:
            if not await QUERIES.count_copy(
                connection, mail_id=job.payload.mail_id, job_id=job.job_id, lease_id=job.lease_id
            ):
                raise LeaseLostError(f"another holds job {job.job_id} now, or it has been deleted")

    async def _note_sent(self, job: Job[SendMail]) -> None:
        """End the job. If the database is unavailable, try again while the lease is valid."""
        while True:
            try:
                async with job.finish() as connection:
                    await QUERIES.mark_sent(connection, mail_id=job.payload.mail_id, attempts=job.attempt)
            except Problem as problem:
                if problem.code.kind is not ErrorKind.UNAVAILABLE:
                    raise
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _failed(self, job: Job[SendMail], mail: Any, error: SmtpError) -> Outcome:
        reason = reason_of(error)
        decision = decide(reason, attempts=job.attempt, age_s=mail["age_s"], left_s=mail["left_s"])
        said = f"{reason}: {error}"
        async with self.database.acquire() as connection:
            await QUERIES.note_failure(
                connection,
                mail_id=job.payload.mail_id,
                error=said[:500],
                attempts=job.attempt if decision.counts else job.attempt - 1,
                refused=error.phase is Phase.FINAL and reason is not Reason.UNKNOWN,
            )
        if decision.delay_s is None:
            self.monitor.failed("dead", reason, error)
            return Permanent(said)
        self.monitor.failed("failed" if decision.counts else "delayed", reason, error)
        if decision.counts:
            return Retry(said, decision.delay_s)
        return Later(decision.delay_s, said, away=reason in WAITING)
