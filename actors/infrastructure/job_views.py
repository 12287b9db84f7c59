"""The operators' views of the queue (a job, a kind, a schedule) and the filters for dead letters."""

from datetime import datetime
from typing import Any

import msgspec


class JobView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job as operators see it. `state` is waiting, blocked or running, or its outcome."""

    job_id: int
    kind: str
    state: str
    attempts: int
    created_at: datetime
    priority: str | None = None
    max_attempts: int | None = None
    run_at: datetime | None = None
    deadline: datetime | None = None
    lost: int = 0
    postponed: int = 0
    worker: str | None = None
    lease_until: datetime | None = None
    unique_key: str | None = None
    order_key: str | None = None
    cancel_requested_at: datetime | None = None
    progress: dict[str, Any] | None = None
    reason: str | None = None
    error: str | None = None
    payload: dict[str, Any] | None = None
    traceparent: str | None = None
    ended_at: datetime | None = None
    replayed_as: int | None = None
    discarded_at: datetime | None = None
    replays: int = 0


class KindView(msgspec.Struct, frozen=True):
    """A kind and its numbers of jobs; counts end at 10,001. A limit of 0 is none."""

    kind: str
    known: bool
    paused: bool
    max_running: int
    waiting: int
    blocked: int
    running: int
    dead: int
    oldest_s: float


class ScheduleView(msgspec.Struct, frozen=True):
    """A schedule and its next due time."""

    name: str
    kind: str
    cron: str
    zone: str
    enabled: bool
    missed: str
    last_due: datetime
    next_due: datetime | None


class DeadFilter(msgspec.Struct, frozen=True):
    """Selects dead letters; replayed and discarded ones are left out unless `all`."""

    kind: str | None = None
    reason: str | None = None
    since: datetime | None = None
    all: bool = False
