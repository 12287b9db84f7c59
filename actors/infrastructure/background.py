"""The workers of the jobs, schedules and retention rules of all departments; they are built after them."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_hints import JobHints
from callboard.actors.infrastructure.job_kinds import JobHandler, job_pool
from callboard.actors.infrastructure.job_monitor import JobDepths, JobMonitor
from callboard.actors.infrastructure.job_sweeper import JobSweeper
from callboard.actors.infrastructure.job_worker import JobWorker
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.infrastructure.retention import HOURLY, PURGE_EXPIRED, Retention, RetentionRule
from callboard.actors.infrastructure.schedules import Scheduler
from callboard.runtime import Backoff, Intensity, Node, Props, supervisor, worker

STOP_S = 2.5  # beyond the grace time: to cancel what is left, and to write it down


class Holder(Struct, frozen=True):
    """The name of this process in leases, and how it sees that another process is gone."""

    name: str
    is_gone: Callable[[str], bool]


class Background(Struct, frozen=True):
    """The branch, what an operator may ask it, and what the metrics show of it."""

    node: Node
    admin: JobAdmin
    retention: JobHandler[Any]
    counts: JobCounts
    depths: JobDepths


def background(
    shared: Infrastructure,
    handlers: Sequence[JobHandler[Any]],
    rules: Sequence[RetentionRule],
    holder: Holder,
    *,
    works: bool,
    grace_s: float,
    backoff: Backoff,
    intensity: Intensity,
) -> Background:
    """Construct the actors; a process that `works` runs the jobs, any other only counts and announces them.

    The worker of jobs stops first, and waits for what the pools have in hand.
    """
    claiming, effects, looking = (shared.database.pool(kind) for kind in ("queue", "jobs", "operators"))
    queue, counts, depths = shared.jobs, JobCounts(), JobDepths()
    retention = job_pool(PURGE_EXPIRED, Props(Retention, effects, queue, rules))
    handlers = (*handlers, retention)
    hints = worker("hints", Props(JobHints, claiming, queue, listens=works), backoff=backoff)
    kinds = [queue.kinds[name] for name in sorted(queue.kinds)]
    monitor = worker("monitor", Props(JobMonitor, looking, kinds, depths, rules), backoff=backoff)
    children: list[Node] = [hints, monitor]
    if works:
        worked = [each.kind for each in handlers]
        runner = Props(JobWorker, claiming, queue, handlers, counts, name=holder.name, grace_s=grace_s, effects=effects)
        sweeper = Props(JobSweeper, claiming, queue, worked, counts, is_gone=holder.is_gone)
        children = [
            *(each.pool for each in handlers),
            worker("sweeper", sweeper, backoff=backoff),
            *children,
            worker("schedules", Props(Scheduler, claiming, queue, [HOURLY]), backoff=backoff),
            worker("worker", runner, backoff=backoff, shutdown_s=grace_s + STOP_S),
        ]
    admin = JobAdmin(looking, queue)
    return Background(supervisor("jobs", *children, intensity=intensity), admin, retention, counts, depths)
