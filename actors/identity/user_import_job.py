"""Imports of accounts that an admin asks for over HTTP, as a job: see user_import.py for the accounts themselves."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from callboard.actors.identity.sessions import STEP_UP_S, require_step_up
from callboard.actors.identity.user_import import ImportedUser, candidate_faults, import_users_within
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.job_kinds import Job, Outcome, on_job
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.line_import import Applied, Line, LineImport, Owner, import_lines
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.user_jobs import (
    LineFault,
    StartImport,
    UserJob,
    UserJobPayload,
    start_import,
    user_job_kind,
)
from callboard.runtime import Actor, Request, on


class ImportUsers(UserJobPayload, frozen=True):
    """The job of an import."""


IMPORT_USERS = user_job_kind("import_users", ImportUsers)


class StartUserImport(Request[UserJob], frozen=True):
    """Start an import of accounts. The session must have confirmed its password lately.

    Raises Problem(AUTH_STEP_UP_REQUIRED, SERVER_OVERLOADED).
    """

    start: StartImport
    session_id: UUID


class UserImports(Actor[StartUserImport]):
    """Starts imports."""

    def __init__(self, database: Database, jobs: JobQueue, step_up_s: float = STEP_UP_S) -> None:
        self.database = database
        self.jobs = jobs
        self.step_up_s = step_up_s

    @on(StartUserImport)
    @retried
    async def start(self, message: StartUserImport) -> UserJob:
        """Imported accounts may be admins: a stolen access token must not suffice."""
        async with self.database.transaction() as connection:
            await require_step_up(connection, message.session_id, self.step_up_s)
            return await start_import(connection, self.jobs, message.start)


class UserImporter(Actor[Job[ImportUsers]]):
    """Imports accounts: each batch in the transaction of its step, so nobody is created twice or by a cancelled job."""

    @on_job
    async def work(self, job: Job[ImportUsers]) -> Outcome:
        """Import."""
        return await import_lines(job, LineImport(ImportedUser, Role.ADMIN, within=create_accounts))


async def create_accounts(connection: Any, owner: Owner, lines: Sequence[Line[ImportedUser]]) -> Applied:
    """Create the accounts of a batch; an address that has one is left unchanged."""
    applied = Applied()
    candidates: list[ImportedUser] = []
    for line in lines:
        faults = [] if line.value is None else candidate_faults(line.value)
        if faults:
            applied.refuse(LineFault(line.number, faults[0].field, faults[0].message))
        elif line.value is not None:
            candidates.append(line.value)
    if candidates:
        made = await import_users_within(connection, candidates, None, by=owner.user_id)
        applied.counts.update(made=len(made), there_already=len(candidates) - len(made))
    return applied
