"""A mail queue, and workers that run what is due of it when a test says so: the real claims, leases and outcomes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

from callboard.actors.delivery.events import MailRequested, TemplatedEmailRequested
from callboard.actors.delivery.mail_monitor import MailMonitor
from callboard.actors.delivery.mail_producers import MailProducers, parse_mail_producers
from callboard.actors.delivery.mail_queue import SEND_MAIL, MailQueue, mail_id_of
from callboard.actors.delivery.mail_sender import MailSender
from callboard.actors.delivery.mail_servers import MailServer
from callboard.actors.delivery.mail_templates import MailTemplates
from callboard.actors.delivery.mail_writer import MailWriter
from callboard.actors.delivery.notification_preferences import UnsubscribeLinks
from callboard.actors.delivery.smtp_settings import SmtpSettings, SmtpTimeouts, Tls
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.job_sweeper import JobSweeper
from callboard.actors.infrastructure.job_worker import JobWorker
from callboard.actors.infrastructure.worker_renewal import RenewalLimits
from callboard.ops.metrics import Metrics
from callboard.runtime import Props, System, supervisor, worker
from kit.domain import Domain, consume, envelope
from kit.smtp_script import ScriptedSmtpServer

PRODUCERS = MailProducers(parse_mail_producers("/tests 1000000/day *"))
URL = "https://board.example"
TEMPLATES = MailTemplates()
SENDER = "Callboard <board@example.org>"
QUICK = SmtpTimeouts(*[0.1] * 6, before_dot_s=5.0, reset_s=0.1)  # each phase by itself

DUE_OR_RUNNING = """
    select count(*) from jobs
    where (state = 'running' or run_at <= clock_timestamp()) and ($1::text is null or payload->>'mail_id' = $1)
"""


class Post:
    """The mail queue of one process, and the servers that it sends to: each a port of the loopback."""

    def __init__(self, domain: Domain, *ports: int, timeouts: SmtpTimeouts = QUICK) -> None:
        self.domain = domain
        self.metrics = Metrics()
        self.servers = [
            MailServer(
                SmtpSettings("127.0.0.1", port, tls=Tls.NONE),
                MailMonitor(self.metrics.count_mail, server=f"server {n}"),
                timeouts=timeouts,
                breaker=CircuitBreaker(f"smtp {n}"),
            )
            for n, port in enumerate(ports)
        ]
        self.server = self.servers[0]
        self.monitor = self.server.monitor
        self.writer = MailWriter(
            domain.signer, SENDER, URL, UnsubscribeLinks(domain.signer, URL, domain.kinds), TEMPLATES
        )
        self.renewal = RenewalLimits()
        self.jobs = JobQueue([SEND_MAIL])
        self.counts = JobCounts()
        self.queue_actor = MailQueue(domain.database, self.jobs, PRODUCERS)

    async def queue(self, event: Any, **facts: Any) -> UUID:
        """Have a mail queued as the streams would, and give its id."""
        asked = envelope(event, **facts)
        await self.queue_actor.consume(consume(asked))
        return mail_id_of(asked)

    async def ready(self, to: str = "ada@example.org", subject: str = "Hello", text: str = "A text") -> UUID:
        return await self.queue(MailRequested(to, subject, text))

    @asynccontextmanager
    async def working(self, name: str = "worker") -> AsyncIterator[None]:
        """Run a process that sends until the end of the block."""
        database = self.domain.database
        handler = job_pool(SEND_MAIL, Props(MailSender, database, self.writer, self.servers, self.renewal))
        children = (
            handler.pool,
            worker("sweeper", Props(JobSweeper, database, self.jobs, [SEND_MAIL], self.counts)),
            worker("worker", Props(JobWorker, database, self.jobs, [handler], self.counts, name=name, grace_s=0.0)),
        )
        async with System(supervisor("jobs", *children)):
            yield

    async def send(self, mail_id: UUID | None = None, processes: int = 1) -> None:
        """Let so many processes run what is due, until nothing is, or until this mail is not."""
        named = None if mail_id is None else str(mail_id)
        async with AsyncExitStack() as stack, asyncio.timeout(20):
            for number in range(processes):
                await stack.enter_async_context(self.working(f"worker {number}"))
            while await self.domain.value(DUE_OR_RUNNING, named):  # noqa: ASYNC110 - its truth is in PostgreSQL
                await asyncio.sleep(0.01)

    async def row(self, mail_id: UUID) -> dict[str, Any]:
        """The mail, and in how many seconds its job is due; None when it has none."""
        query = """
            select m.*, extract(epoch from j.run_at - now())::float8 as due_s, j.attempts as job_attempts
            from mails m left join jobs j on j.payload->>'mail_id' = m.mail_id::text
            where m.mail_id = $1"""
        (row,) = await self.domain.rows(query, mail_id)
        return row

    async def due(self) -> None:
        """Let the time pass that something is waited for."""
        await self.domain.execute(
            "update jobs set run_at = now() - interval '1 s' where state = 'waiting';"
            "update mails set copied_at = copied_at - interval '1 h'"
        )


@asynccontextmanager
async def misbehaving(domain: Domain, **answers: Any) -> AsyncIterator[tuple[Post, ScriptedSmtpServer]]:
    async with ScriptedSmtpServer(**answers).listening() as script:
        yield Post(domain, script.port), script


async def verification(post: Post, domain: Domain, user_id: UUID, token_of: UUID | None = None, **facts: Any) -> UUID:
    query = "select token_id from mail_tokens where user_id = $1"
    token_id = await domain.value(query, token_of or user_id)
    return await post.queue(TemplatedEmailRequested("verify_email", user_id, {"token_id": str(token_id)}), **facts)
