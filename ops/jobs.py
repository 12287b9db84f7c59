"""The job queue in the tree: which kinds there are, which of them a process runs, and the actors that run them."""

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from callboard.actors.database import Database
from callboard.actors.email_requests import EMAIL_REQUEST
from callboard.actors.exports import MAKE_EXPORT
from callboard.actors.job_counts import JobCounts
from callboard.actors.job_hints import JobHints
from callboard.actors.job_kinds import JobHandler, JobKind, job_pool
from callboard.actors.job_queue import JobQueue
from callboard.actors.job_sweeper import JobSweeper
from callboard.actors.job_worker import JobWorker
from callboard.actors.mail_queue import SEND_MAIL
from callboard.actors.retention import PURGE_EXPIRED
from callboard.actors.schedules import Schedule, Scheduler
from callboard.runtime import Backoff, Intensity, Node, Pool, supervisor, worker

# Every kind of jobs, whichever of them this process runs.
JOB_KINDS: tuple[JobKind[Any], ...] = (EMAIL_REQUEST, MAKE_EXPORT, PURGE_EXPIRED, SEND_MAIL)
STOP_S = 2.5  # beyond the grace time: to cancel what is left, and to write it down


class Jobs:
    """The queue of one process, its counts, and the handlers of the kinds that it runs."""

    def __init__(self, database: Database, *, works: bool, grace_s: float) -> None:
        self.database = database.pool("jobs")
        self.claiming = database.pool("queue")
        self.works = works
        self.grace_s = grace_s
        self.queue = JobQueue(JOB_KINDS)
        self.counts = JobCounts()
        self.handlers: list[JobHandler[Any]] = []
        self.schedules: list[Schedule] = []

    def handle(self, kind: JobKind[Any], actor: Callable[..., Any], *args: Any) -> Pool[Any]:
        """Run a kind of jobs by a pool of `actor`, if this process is one that works."""
        handler = job_pool(kind, actor, *args)
        if self.works:
            self.handlers.append(handler)
        return handler.pool

    def node(self, *, backoff: Backoff, intensity: Intensity) -> Node:
        """What runs the jobs. Its worker stops first, and waits for what the pools have in hand."""
        kinds = [each.kind for each in self.handlers]
        hints = worker("hints", partial(JobHints, self.claiming, self.queue, listens=bool(kinds)), backoff=backoff)
        if not kinds:
            return supervisor("jobs", hints, intensity=intensity)
        runner = partial(
            JobWorker,
            self.claiming,
            self.queue,
            self.handlers,
            self.counts,
            name=f"{socket.gethostname()}:{os.getpid()}",
            grace_s=self.grace_s,
            effects=self.database,
        )
        return supervisor(
            "jobs",
            *(each.pool for each in self.handlers),
            worker("sweeper", JobSweeper, self.claiming, self.queue, kinds, self.counts, backoff=backoff),
            hints,
            worker("schedules", Scheduler, self.claiming, self.queue, self.schedules, backoff=backoff),
            worker("worker", runner, backoff=backoff, shutdown_s=self.grace_s + STOP_S),
            intensity=intensity,
        )
