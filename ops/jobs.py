"""The job queue in the tree: which kinds there are, which of them a process runs, and the actors that run them."""

from collections.abc import Sequence
from typing import Any

from callboard.actors.delivery.mail_monitor import MailMonitor
from callboard.actors.delivery.mail_queue import SEND_MAIL
from callboard.actors.delivery.mail_sender import MailSender
from callboard.actors.delivery.mail_writer import MailWriter
from callboard.actors.delivery.smtp_client import SmtpClient
from callboard.actors.editorial.search_refill import REFILL_SEARCH, SearchRefill
from callboard.actors.identity.data_export import MAKE_EXPORT, ExportWorker
from callboard.actors.identity.email_requests import EMAIL_REQUEST, EmailRequestWorker
from callboard.actors.identity.erasure import PERSONAL_DATA
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_hints import JobHints
from callboard.actors.infrastructure.job_kinds import JobHandler, JobKind, job_pool
from callboard.actors.infrastructure.job_monitor import JobDepths, JobMonitor
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.job_sweeper import JobSweeper
from callboard.actors.infrastructure.job_worker import JobWorker
from callboard.actors.infrastructure.retention import HOURLY, PURGE_EXPIRED, Retention, RetentionRule, rules
from callboard.actors.infrastructure.schedules import Schedule, Scheduler
from callboard.actors.infrastructure.token_signer import Signer
from callboard.ops.config.settings import Config
from callboard.ops.job_holders import holder_name, is_gone
from callboard.ops.job_metrics import JobCollector
from callboard.ops.metrics import Metrics
from callboard.runtime import Backoff, Intensity, Node, Pool, Props, supervisor, worker

# Every kind of jobs, whichever of them this process runs.
JOB_KINDS: tuple[JobKind[Any], ...] = (EMAIL_REQUEST, MAKE_EXPORT, PURGE_EXPIRED, REFILL_SEARCH, SEND_MAIL)
STOP_S = 2.5  # beyond the grace time: to cancel what is left, and to write it down


class Jobs:
    """The queue of one process, its counts, and the handlers of the kinds that it runs."""

    def __init__(self, database: Database, metrics: Metrics, *, works: bool, grace_s: float) -> None:
        self.database = database.pool("jobs")
        self.claiming = database.pool("queue")
        self.works = works
        self.grace_s = grace_s
        self.queue = JobQueue(JOB_KINDS)
        self.counts = JobCounts()
        self.depths = JobDepths()
        self.admin = JobAdmin(database.pool("operators"), self.queue)
        self.retention: Sequence[RetentionRule] = ()
        self.observing = database.pool("operators")
        metrics.registry.register(JobCollector(self.counts, self.depths))
        self.handlers: list[JobHandler[Any]] = []
        self.schedules: list[Schedule] = []

    def handle(self, kind: JobKind[Any], props: Props[Any]) -> Pool[Any]:
        """Run a kind of jobs by a pool of this actor, if this process is one that works."""
        handler = job_pool(kind, props)
        if self.works:
            self.handlers.append(handler)
        return handler.pool

    def handle_all(self, config: Config, signer: Signer, metrics: Metrics) -> dict[str, Pool[Any]]:
        """The pools of all kinds, by name, and what is due by the clock."""
        self.retention = rules(
            audit_days=config.audit_retention_days,
            audit_failure_days=config.audit_failures_retention_days,
            deleted_days=config.erase_after_days,
            unproven_days=config.unproven_account_days,
            known_days=config.known_device_days,
        )
        self.mail_monitor = MailMonitor(metrics.count_mail)
        self.schedules.append(HOURLY)
        writer = MailWriter(signer, config.mail_from, config.link_url)
        pools = (
            self.handle(EMAIL_REQUEST, Props(EmailRequestWorker, signer)),
            self.handle(MAKE_EXPORT, Props(ExportWorker, self.database, PERSONAL_DATA, config.export_max_bytes)),
            self.handle(PURGE_EXPIRED, Props(Retention, self.database, self.queue, self.retention)),
            self.handle(REFILL_SEARCH, Props(SearchRefill, self.database)),
            self.handle(
                SEND_MAIL, Props(MailSender, self.database, writer, SmtpClient(config.smtp), self.mail_monitor)
            ),
        )
        return {each.name: each for each in pools}

    def node(self, *, backoff: Backoff, intensity: Intensity) -> Node:
        """The node that runs the jobs. Its worker stops first, and waits for the jobs in progress."""
        kinds = [each.kind for each in self.handlers]
        hints = worker("hints", Props(JobHints, self.claiming, self.queue, listens=bool(kinds)), backoff=backoff)
        monitor = worker(
            "monitor", Props(JobMonitor, self.observing, JOB_KINDS, self.depths, self.retention), backoff=backoff
        )
        if not kinds:
            return supervisor("jobs", hints, monitor, intensity=intensity)
        runner = Props(
            JobWorker,
            self.claiming,
            self.queue,
            self.handlers,
            self.counts,
            name=holder_name(),
            grace_s=self.grace_s,
            effects=self.database,
        )
        sweeper = Props(JobSweeper, self.claiming, self.queue, kinds, self.counts, is_gone=is_gone)
        return supervisor(
            "jobs",
            *(each.pool for each in self.handlers),
            worker("sweeper", sweeper, backoff=backoff),
            hints,
            monitor,
            worker("schedules", Props(Scheduler, self.claiming, self.queue, self.schedules), backoff=backoff),
            worker("worker", runner, backoff=backoff, shutdown_s=self.grace_s + STOP_S),
            intensity=intensity,
        )
