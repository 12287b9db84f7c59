"""The workers of the jobs, schedules and retention rules of all departments; they are built after the departments."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from callboard.actors.infrastructure.hints import Hints
from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import JobHandler, job_pool
from callboard.actors.infrastructure.job_monitor import JobDepths, JobMonitor
from callboard.actors.infrastructure.job_sweeper import JobSweeper
from callboard.actors.infrastructure.job_worker import JobWorker
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.infrastructure.retention import PURGE_EXPIRED, Retention, RetentionRule
from callboard.actors.infrastructure.schedules import Schedule, Scheduler
from callboard.runtime import Backoff, Intensity, Node, Props, supervisor, worker

STOP_S = 2.5  # beyond the grace time: to cancel the remaining jobs, and to write their outcomes


class Holder(Struct, frozen=True):
    """The name of this process in leases, and the test whether another process is dead."""

    name: str
    is_gone: Callable[[str], bool]


class Background(Struct, frozen=True):
    """The branch, its services for operators, and its figures for the metrics."""

    node: Node
    admin: JobAdmin
    handlers: Sequence[JobHandler[Any]]
    counts: JobCounts
    depths: JobDepths


def background(
    shared: Infrastructure,
    handlers: Sequence[JobHandler[Any]],
    rules: Sequence[RetentionRule],
    schedules: Sequence[Schedule],
    holder: Holder,
    *,
    is_worker: bool,
    grace_s: float,
    backoff: Backoff,
    intensity: Intensity,
) -> Background:
    """Construct the actors; a process that `is_worker` runs the jobs, any other only counts and announces them.

    The job worker stops first, and waits for the jobs in the pools.
    """
    claiming, effects, looking = (shared.database.pool(kind) for kind in ("queue", "jobs", "operators"))
    queue, counts, depths = shared.jobs, JobCounts(), JobDepths()
    retention = job_pool(PURGE_EXPIRED, Props(Retention, effects, queue, rules))
    handlers = (*handlers, retention)
    hints = worker("hints", Props(Hints, claiming, queue, listens=is_worker), backoff=backoff)
    kinds = [queue.kinds[name] for name in sorted(queue.kinds)]
    monitor = worker("monitor", Props(JobMonitor, looking, kinds, depths, rules), backoff=backoff)
    children: list[Node] = [hints, monitor]
    if is_worker:
        worked = [each.kind for each in handlers]
        runner = Props(JobWorker, claiming, queue, handlers, counts, name=holder.name, grace_s=grace_s, effects=effects)
        sweeper = Props(JobSweeper, claiming, queue, worked, counts, is_gone=holder.is_gone)
        children = [
            *(each.pool for each in handlers),
            worker("sweeper", sweeper, backoff=backoff),
            *children,
            worker("schedules", Props(Scheduler, claiming, queue, schedules), backoff=backoff),
            worker("worker", runner, backoff=backoff, shutdown_s=grace_s + STOP_S),
        ]
    admin = JobAdmin(looking, queue)
    return Background(supervisor("jobs", *children, intensity=intensity), admin, handlers, counts, depths)
