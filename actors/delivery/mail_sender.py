"""The mail sender: runs the jobs of the mail queue.

A mail is sent once. One more copy with the same Message-ID can follow if the final dot was written and no reply was
noted: the server gave none, or our process was killed or lost its lease before it noted the reply. A copy is counted in
the mail's row before its final dot, under the fence of the job's lease. So two holders of one job make one copy, the
next one follows after a minute or more, and there are three at most.

Where the process dies, in order:

1. Before the copy is counted: the server has no final dot, so it discards what it has. The mail is sent anew, at once.
2. Between the count and the dot, or while the dot is in the socket's buffer: nothing was accepted, but the row cannot
   tell this from the next case. The mail is sent anew after a minute.
3. After the dot and before the reply, or before the reply is noted: the server may have accepted the mail. It is sent
   anew after a minute, by the same server and with the same Message-ID: one copy too many for each such death.
4. After the reply is noted, which ends the job in the same transaction: never again.

SMTP has no way to ask a server whether it has a mail, so no program can do better without losing mails instead.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from callboard.actors.delivery.mail_queue import QUERIES, SendMail
from callboard.actors.delivery.mail_retries import MAX_ATTEMPTS, WAITING, Reason, decide, unknown_wait_s
from callboard.actors.delivery.mail_servers import DeliveryError, MailRoute, MailServer
from callboard.actors.delivery.mail_writer import MailWriter, UnwritableError
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
from callboard.actors.infrastructure.worker_renewal import RenewalLimits, WorkerLife
from callboard.runtime import Actor

log = logging.getLogger(__name__)

AGAIN_S = 0.5  # the retry interval while the database is unavailable


def utc_now() -> datetime:
    """Return the time for the header Date; no decision depends on it."""
    return datetime.now(UTC)


class MailSender(Actor[Job[SendMail]]):
    """Writes a mail, sends it, and notes the outcome. Its connections are its own, and end with it."""

    def __init__(
        self,
        database: Database,
        writer: MailWriter,
        servers: Sequence[MailServer],
        limits: RenewalLimits = RenewalLimits(),  # noqa: B008 - immutable
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.database = database
        self.writer = writer
        self.route = MailRoute(servers)
        self.life = WorkerLife(limits)
        self.now = now

    async def on_stop(self) -> None:
        """Close the connections."""
        self.route.close()

    @on_job
    async def send(self, job: Job[SendMail]) -> Outcome:
        """Send the mail of a job. After its last one, the worker is replaced; no mail waits for that or is lost."""
        try:
            return await self._send(job)
        finally:
            if (reason := self.life.end_job()) is not None:
                log.info("a mail worker is replaced: %s", reason)
                self.renew()

    async def _send(self, job: Job[SendMail]) -> Outcome:
        """No database connection is held while the servers have the mail."""
        async with self.database.acquire() as connection:
            mail = await QUERIES.mail_of(connection, mail_id=job.payload.mail_id)
            if mail is None or mail["status"] == "sent":  # erased, or sent by a process of an earlier release
                return Done()
            if mail["status"] in ("dead", "expired"):  # an operator replays the job: its copies count anew
                mail = await QUERIES.revive(connection, mail_id=job.payload.mail_id)
            if mail["copies"] and (outcome := self._after_copies(mail)) is not None:
                return outcome
            try:
                outgoing = await self.writer.write(connection, mail, self.now())
            except UnwritableError as error:
                self.route.first.monitor.unwritable(str(error))
                return Permanent(str(error))
        holder = mail["relay"] if mail["copies"] else None
        try:
            server = await self.route.send(outgoing, partial(self._count_copy, job), only=holder)
        except DeliveryError as failure:
            return await self._failed(job, mail, failure)
        await self._note_sent(job)
        server.monitor.accepted()
        return Done()

    def _after_copies(self, mail: Any) -> Outcome:
        """Return what follows for a mail with unconfirmed copies; None if it may be sent again."""
        if mail["copies"] >= MAX_ATTEMPTS:
            return Permanent(f"{Reason.UNKNOWN}: no copy was confirmed")
        wait_s = unknown_wait_s(mail["copies"]) - mail["silent_s"]
        return Later(wait_s, f"{Reason.UNKNOWN}: the last copy was not confirmed") if wait_s > 0 else None

    async def _count_copy(self, job: Job[SendMail], server_name: str) -> None:
        """Note that the final dot is about to be written. Raises LeaseLostError if another process holds the job."""
        async with self.database.acquire() as connection:
            if not await QUERIES.count_copy(
                connection,
                mail_id=job.payload.mail_id,
                relay=server_name,
                job_id=job.job_id,
                lease_id=job.lease_id,
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

    async def _failed(self, job: Job[SendMail], mail: Any, failure: DeliveryError) -> Outcome:
        reason, error, monitor = failure.reason, failure.error, failure.server.monitor
        decision = decide(reason, attempts=job.attempt, age_s=mail["age_s"], left_s=mail["left_s"])
        said = str(failure)
        async with self.database.acquire() as connection:
            await QUERIES.note_failure(
                connection,
                mail_id=job.payload.mail_id,
                error=said[:500],
                attempts=job.attempt if decision.counts else job.attempt - 1,
                copies=None if reason is Reason.UNKNOWN else mail["copies"],  # what was not accepted is no copy
                job_id=job.job_id,
                lease_id=job.lease_id,
            )
        if decision.delay_s is None:
            monitor.failed("dead", reason, error)
            return Permanent(said)
        monitor.failed("failed" if decision.counts else "delayed", reason, error)
        if decision.counts:
            return Retry(said, decision.delay_s)
        return Later(decision.delay_s, said, away=reason in WAITING)
