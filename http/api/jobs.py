"""Users' jobs over HTTP: imports that take long, their progress, their cancellation and their retry."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.infrastructure.errors import JOBS_NOT_FOUND, JOBS_NOT_RETRIED, JOBS_OVER, QUOTA_RATE
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.infrastructure.user_jobs import (
    CancelUserJob,
    GetUserJob,
    RetryUserJob,
    StartImport,
    UserJob,
)
from callboard.http.server.request import HttpRequest, Query, Reply
from callboard.http.server.routing import Access, Route, Routes

RETRY_AFTER = {"Retry-After": "2"}


class ImportQuery(Query, frozen=True, kw_only=True):
    """The form of the body: an object a line, or CSV whose first line names the columns."""

    format: Annotated[Literal["jsonl", "csv"], Meta(description="JSON lines or CSV")] = "jsonl"


def job_reply(job: UserJob, location: str | None = None) -> Reply[UserJob]:
    """Reply a job; of one that is not over, with the time after which to ask again."""
    return Reply(job, etag=str(job.version), location=location, headers=None if job.is_over else RETRY_AFTER)


def import_of(request: HttpRequest[bytes, ImportQuery, Any], kind: str) -> StartImport:
    """Return the import that a request asks for. Raises Problem(REQUEST_INVALID) for an empty body."""
    if not request.body.strip():
        raise Problem(REQUEST_INVALID, details=(FieldError("body", "must have lines"),))
    return StartImport(request.new_id, kind, request.identity.user_id, request.query.format, request.body)


def location_of(job: UserJob) -> str:
    """Return the path of a job."""
    return f"/api/v1/jobs/{job.job_id}"


async def import_content(request: HttpRequest[bytes, ImportQuery, Infrastructure]) -> Reply[UserJob]:
    """Import articles as drafts of yours, in a job: fields title, body, category_id, language."""
    job = await request.refs.user_jobs.ask(import_of(request, "import_content"))
    return job_reply(job, location_of(job))


async def read(request: HttpRequest[None, None, Infrastructure]) -> Reply[UserJob]:
    """Read a job and its progress."""
    return job_reply(await request.refs.user_jobs.ask(GetUserJob(request.uuid("job_id"), request.identity)))


async def current(request: HttpRequest[Any, Any, Infrastructure]) -> str:
    """Return the ETag of a job before a change."""
    job = await request.refs.user_jobs.ask(GetUserJob(request.uuid("job_id"), request.identity))
    return str(job.version)


async def cancel(request: HttpRequest[None, None, Infrastructure]) -> Reply[UserJob]:
    """Cancel a job. What it has done so far stays; a batch that has begun may be finished."""
    return job_reply(await request.refs.user_jobs.ask(CancelUserJob(request.uuid("job_id"), request.identity)))


async def retry(request: HttpRequest[None, None, Infrastructure]) -> Reply[UserJob]:
    """Go on with a job that has failed or was cancelled, where it ended."""
    return job_reply(await request.refs.user_jobs.ask(RetryUserJob(request.uuid("job_id"), request.identity)))


def _change(action: str, handler: Any, summary: str, *errors: Any) -> Route[Infrastructure]:
    return Route(
        "POST",
        f"/jobs/{{job_id}}/{action}",
        handler,
        summary=summary,
        tag="jobs",
        access=Access.USER,
        has_etag=True,
        shows_progress=True,
        errors=(JOBS_NOT_FOUND, *errors),
        current=current,
    )


ROUTES = Routes(
    Infrastructure,
    Route(
        "POST",
        "/content/import",
        import_content,
        summary="Import articles",
        tag="jobs",
        access=Access.EDITOR,
        status=201,
        has_etag=True,
        shows_progress=True,
        errors=(JOBS_NOT_FOUND, QUOTA_RATE),
    ),
    Route(
        "GET",
        "/jobs/{job_id}",
        read,
        summary="Read a job",
        tag="jobs",
        access=Access.USER,
        has_etag=True,
        shows_progress=True,
        errors=(JOBS_NOT_FOUND,),
    ),
    _change("cancel", cancel, "Cancel a job", JOBS_OVER),
    _change("retry", retry, "Retry a job", JOBS_NOT_RETRIED),
)
