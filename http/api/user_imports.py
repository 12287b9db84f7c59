"""Imports of accounts over HTTP."""

from callboard.actors.identity.errors import AUTH_STEP_UP_REQUIRED
from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.identity.user_import_job import StartUserImport
from callboard.actors.infrastructure.errors import JOBS_NOT_FOUND
from callboard.actors.infrastructure.user_jobs import UserJob
from callboard.http.api.jobs import ImportQuery, import_of, job_reply, location_of
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Route, Routes


async def import_users(request: HttpRequest[bytes, ImportQuery, IdentityRefs]) -> Reply[UserJob]:
    """Import accounts, in a job: fields email, full_name, password_hash, role, is_verified, created_at."""
    start = StartUserImport(import_of(request, "import_users"), request.identity.session_id)
    job = await request.refs.user_imports.ask(start)
    return job_reply(job, location_of(job))


ROUTES = Routes(
    IdentityRefs,
    Route(
        "POST",
        "/users/import",
        import_users,
        summary="Import accounts",
        tag="jobs",
        access=Access.ADMIN,
        status=201,
        has_etag=True,
        shows_progress=True,
        errors=(JOBS_NOT_FOUND, AUTH_STEP_UP_REQUIRED),
    ),
)
