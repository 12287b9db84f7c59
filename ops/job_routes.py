"""The operator plane's routes of the job queue: inspect, cancel, retry, replay, discard, pause, limit, schedules."""

from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec
from msgspec import Meta

from callboard.actors.errors import REQUEST_CURSOR_INVALID, REQUEST_INVALID, ErrorCode, FieldError, Problem
from callboard.actors.infrastructure.errors import (
    JOBS_KIND_UNKNOWN,
    JOBS_NOT_DEAD,
    JOBS_NOT_FOUND,
    JOBS_NOT_WAITING,
    JOBS_SCHEDULE_UNKNOWN,
)
from callboard.actors.infrastructure.job_admin import MAX_ID, JobAdmin
from callboard.actors.infrastructure.job_kinds import Priority
from callboard.actors.infrastructure.job_views import DeadFilter, JobView, KindView, ScheduleView
from callboard.http.server.pagination import BY_NUMBER, BY_TIME_AND_NUMBER
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, Reply
from callboard.http.server.routing import Route
from callboard.ops.operator_routes import operator_route
from callboard.streams.event_types import UtcDatetime

MIN_RATE, MAX_RATE = 0.001, 1_000.0  # a second
MAX_LIMIT = 100_000
MAX_REPLAYED = 10_000
T = TypeVar("T")


class JobServices(Protocol):
    """The dependencies of these routes."""

    @property
    def jobs(self) -> JobAdmin:
        """The queue, as operators see it."""


class JobQuery(Page, frozen=True, kw_only=True):
    """Filters of unfinished jobs."""

    cursor: Annotated[str, BY_NUMBER.meta] | None = None
    kind: str | None = None
    state: Literal["waiting", "blocked", "running"] | None = None


class DeadQuery(Page, frozen=True, kw_only=True):
    """Filters of dead letters; `all` includes those that were replayed or discarded."""

    cursor: Annotated[str, BY_TIME_AND_NUMBER.meta] | None = None
    kind: str | None = None
    reason: str | None = None
    since: UtcDatetime | None = None
    all: bool = False


class JobChange(Body, frozen=True):
    """An action or a priority, one of them. A replay is of a dead job, and makes a new one; a retry begins at once."""

    action: Literal["cancel", "retry", "replay", "discard"] | None = None
    priority: Literal["security", "normal", "bulk"] | None = None


class JobChanged(msgspec.Struct, frozen=True):
    """The result: `cancelled`, `requested` (of a running job), `retried`, `replayed`, `discarded` or `changed`."""

    result: str
    job_id: int


class ReplayMany(Body, frozen=True):
    """Which dead letters to replay, and how many a second."""

    kind: str
    reason: str | None = None
    since: UtcDatetime | None = None
    per_second: Annotated[float, Meta(ge=MIN_RATE, le=MAX_RATE)] = 10.0
    most: Annotated[int, Meta(ge=1, le=MAX_REPLAYED)] = 1000


class Replayed(msgspec.Struct, frozen=True):
    """How many were replayed."""

    replayed: int


class KindChange(Body, frozen=True):
    """`max_running` 0 is no limit, null the kind's own; omitted fields stay as they are."""

    paused: bool | msgspec.UnsetType = msgspec.UNSET
    max_running: Annotated[int, Meta(ge=0, le=MAX_LIMIT)] | msgspec.UnsetType | None = msgspec.UNSET


class ScheduleChange(Body, frozen=True):
    """Enable or disable a schedule, or run it now."""

    enabled: bool | None = None
    run: bool = False


async def list_jobs(request: HttpRequest[None, JobQuery, JobServices]) -> PageReply[JobView]:
    """List unfinished jobs, ordered by id."""
    query = request.query
    (after,) = BY_NUMBER.decode(query.cursor) if query.cursor else (0,)
    found = await request.refs.jobs.jobs(kind=query.kind, state=query.state, after=after, limit=query.limit + 1)
    return BY_NUMBER.page(found, query.limit, lambda last: (last.job_id,))


async def list_dead(request: HttpRequest[None, DeadQuery, JobServices]) -> PageReply[JobView]:
    """List dead letters, newest first."""
    query = request.query
    before = BY_TIME_AND_NUMBER.decode(query.cursor) if query.cursor else None
    which = DeadFilter(query.kind, query.reason, query.since, query.all)
    found = await request.refs.jobs.dead(which, before=before, limit=query.limit + 1)
    return BY_TIME_AND_NUMBER.page(found, query.limit, lambda last: (last.ended_at, last.job_id))


async def show_job(request: HttpRequest[None, None, JobServices]) -> Reply[JobView]:
    """Find a job in the queue, among the dead letters or among the stored outcomes."""
    return Reply(await request.refs.jobs.job(_job_id(request)))


async def change_job(request: HttpRequest[JobChange, None, JobServices]) -> Reply[JobChanged]:
    """Cancel a job, start it now, replay or discard a dead one, or change its priority."""
    jobs, job_id, change = request.refs.jobs, _job_id(request), request.body
    if (change.priority is None) == (change.action is None):
        raise Problem(REQUEST_INVALID, details=(FieldError("action", "give either an action or a priority"),))
    if change.priority is not None:
        await jobs.set_priority(job_id, Priority[change.priority.upper()])
        return Reply(JobChanged("changed", job_id))
    match change.action:
        case "cancel":
            return Reply(JobChanged(await jobs.cancel(job_id), job_id))
        case "replay":
            return Reply(JobChanged("replayed", await jobs.replay(job_id)))
        case "discard":
            await jobs.discard(job_id)
            return Reply(JobChanged("discarded", job_id))
        case _:
            await jobs.retry_now(job_id)
            return Reply(JobChanged("retried", job_id))


async def replay_many(request: HttpRequest[ReplayMany, None, JobServices]) -> Reply[Replayed]:
    """Replay the dead letters of a kind."""
    body = request.body
    which = DeadFilter(body.kind, body.reason, body.since)
    count = await request.refs.jobs.replay_all(which, per_second=body.per_second, most=body.most)
    return Reply(Replayed(count))


async def list_kinds(request: HttpRequest[None, None, JobServices]) -> Reply[list[KindView]]:
    """List the kinds, their numbers of jobs, and operators' limits."""
    return Reply(await request.refs.jobs.kinds())


async def change_kind(request: HttpRequest[KindChange, None, JobServices]) -> Reply[list[KindView]]:
    """Pause or resume a kind, or set its limit for all processes."""
    jobs, kind, change = request.refs.jobs, request.text("kind"), request.body
    if change.paused is not msgspec.UNSET:
        await jobs.set_paused(kind, paused=change.paused)
    if change.max_running is not msgspec.UNSET:
        await jobs.set_limit(kind, change.max_running)
    return Reply(_known([each for each in await jobs.kinds() if each.kind == kind], JOBS_KIND_UNKNOWN))


async def list_schedules(request: HttpRequest[None, None, JobServices]) -> Reply[list[ScheduleView]]:
    """List the schedules, with their next due times."""
    return Reply(await request.refs.jobs.schedules())


async def change_schedule(request: HttpRequest[ScheduleChange, None, JobServices]) -> Reply[list[ScheduleView]]:
    """Enable or disable a schedule, or enqueue its job now."""
    jobs, name, change = request.refs.jobs, request.text("name"), request.body
    if change.enabled is not None:
        await jobs.enable_schedule(name, enabled=change.enabled)
    if change.run:
        await jobs.run_schedule(name)
    return Reply(_known([each for each in await jobs.schedules() if each.name == name], JOBS_SCHEDULE_UNKNOWN))


def _known(found: list[T], unknown: ErrorCode) -> list[T]:
    """Return what a name has found. Raises Problem for a name that finds nothing, also if nothing was to change."""
    if not found:
        raise Problem(unknown)
    return found


def _job_id(request: HttpRequest[Any, Any, Any]) -> int:
    text = request.text("job")
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_ID)) and int(text) <= MAX_ID):
        raise Problem(JOBS_NOT_FOUND)
    return int(text)


ROUTES: tuple[Route[Any], ...] = (
    operator_route("GET", "/jobs", list_jobs, "List unfinished jobs", REQUEST_CURSOR_INVALID),
    operator_route("GET", "/jobs/{job}", show_job, "A job", JOBS_NOT_FOUND),
    operator_route("PATCH", "/jobs/{job}", change_job, "Change a job", JOBS_NOT_FOUND, JOBS_NOT_WAITING, JOBS_NOT_DEAD),
    operator_route("GET", "/dead-jobs", list_dead, "List dead letters of jobs", REQUEST_CURSOR_INVALID),
    operator_route("POST", "/dead-jobs/replay", replay_many, "Replay dead letters"),
    operator_route("GET", "/job-kinds", list_kinds, "List job kinds"),
    operator_route("PATCH", "/job-kinds/{kind}", change_kind, "Pause a kind, or set its limit", JOBS_KIND_UNKNOWN),
    operator_route("GET", "/schedules", list_schedules, "Schedules"),
    operator_route(
        "PATCH", "/schedules/{name}", change_schedule, "Change a schedule, or run it", JOBS_SCHEDULE_UNKNOWN
    ),
)
