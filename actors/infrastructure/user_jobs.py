"""Users' jobs: heavy work that a user asks for, follows by its id, cancels and retries.

A user's job is a row with its progress, faults and counts, beside the job of the queue that works on it now. Its kind
is a `JobKind` whose payload is a `UserJobPayload`; `user_job_kind` declares it. Every change of its state is an event
on processing.v1.
"""

from collections.abc import Callable
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.errors import JOBS_NOT_FOUND, JOBS_NOT_RETRIED, JOBS_OVER
from callboard.actors.infrastructure.events import UserJobChanged
from callboard.actors.infrastructure.job_kinds import Backoff, EndedJob, Job, JobKind, Priority
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.quotas import count_use
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.outbox import emit
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

DEADLINE_S = 6 * 3600.0  # of processing.v1
UNFINISHED = ("waiting", "running")
HAS_FAILED = "It has failed after several attempts."
NOT_DONE = "It was not done in six hours."
IMPORTS_PER_HOUR = 60  # of one user, by default: their inputs stay until they are done, or for a week
Form = Literal["jsonl", "csv"]

PERSONAL_DATA = PersonalData(
    "jobs",
    {"user_jobs": ("job_id", "user_id", "counts", "faults", "error"), "user_job_inputs": ("content",)},
    QUERIES.export_jobs,
    QUERIES.erase_jobs,
)


class UserJobPayload(msgspec.Struct, frozen=True):
    """The payload of a user's job: all else is in its row."""

    job_id: UUID


class LineFault(msgspec.Struct, frozen=True):
    """A fault in a line of an import, by its number from 1 on."""

    line: int
    field: str
    message: str


class UserJob(msgspec.Struct, frozen=True):
    """A user's job. `total` is null until it is known; `counts` says what became of the lines of an import."""

    job_id: UUID
    kind: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    done: int
    total: int | None
    counts: dict[str, int]
    faults: list[LineFault]
    error: str
    created_at: UtcDatetime
    updated_at: UtcDatetime
    finished_at: UtcDatetime | None
    version: int

    @property
    def is_over(self) -> bool:
        """Whether nobody works on it any more."""
        return self.state not in UNFINISHED


class StartImport(Request[UserJob], frozen=True):
    """Start an import of lines; the same id again returns the job of this id.

    Raises Problem(SERVER_OVERLOADED, QUOTA_RATE).
    """

    job_id: UUID
    kind: str
    user_id: UUID
    form: Form
    content: bytes

    def __repr__(self) -> str:
        """Without the content."""
        return f"StartImport({self.job_id}, {self.kind})"


class GetUserJob(Request[UserJob], frozen=True):
    """Read one's own job, or as an admin anyone's. Raises Problem(JOBS_NOT_FOUND)."""

    job_id: UUID
    caller: Principal


class CancelUserJob(Request[UserJob], frozen=True):
    """Cancel a job that is not over: what it has done so far stays, and it does no more.

    Raises Problem(JOBS_NOT_FOUND, JOBS_OVER).
    """

    job_id: UUID
    caller: Principal


class RetryUserJob(Request[UserJob], frozen=True):
    """Go on with a job that has failed or was cancelled, where it ended. Raises Problem(JOBS_NOT_FOUND,
    JOBS_NOT_RETRIED).
    """

    job_id: UUID
    caller: Principal


class UserJobs(Actor[StartImport | GetUserJob | CancelUserJob | RetryUserJob]):
    """Starts, shows, cancels and retries users' jobs."""

    def __init__(self, database: Database, jobs: JobQueue, imports_per_hour: int = IMPORTS_PER_HOUR) -> None:
        self.database = database
        self.jobs = jobs
        self.imports_per_hour = imports_per_hour

    @on(StartImport)
    @retried
    async def start(self, message: StartImport) -> UserJob:
        """Start it in a transaction of its own."""
        async with self.database.transaction() as connection:
            return await start_import(connection, self.jobs, message, most=self.imports_per_hour)

    @on(GetUserJob)
    async def get(self, message: GetUserJob) -> UserJob:
        """Read the row."""
        async with self.database.acquire() as connection:
            return _job(await _visible(connection, message.job_id, message.caller))

    @on(CancelUserJob)
    @retried
    async def cancel(self, message: CancelUserJob) -> UserJob:
        """End the row; whoever works on it finds out before its next step."""
        async with self.database.transaction() as connection:
            await _visible(connection, message.job_id, message.caller)
            if not await end_user_job(connection, message.job_id, "cancelled"):
                raise Problem(JOBS_OVER)
            return _job(await QUERIES.job_of(connection, job_id=message.job_id))

    @on(RetryUserJob)
    @retried
    async def retry(self, message: RetryUserJob) -> UserJob:
        """Enqueue it again, once."""
        async with self.database.transaction() as connection:
            await QUERIES.lock_job(connection, job_id=message.job_id)
            row = await _visible(connection, message.job_id, message.caller)
            if not await QUERIES.reopen(connection, job_id=message.job_id):
                raise Problem(JOBS_NOT_RETRIED)
            return _job(await _enqueue(connection, self.jobs, row["kind"], message.job_id))


async def start_import(connection: Any, jobs: JobQueue, message: StartImport, *, most: int | None = None) -> UserJob:
    """Add the job with its input, in the caller's transaction; `most` limits a user's imports in an hour. Raises the
    errors of StartImport.

    The input stands beside the job: a job of the queue has ids, not contents.
    """
    await jobs.admit(connection, jobs.kinds[message.kind])
    job_id = message.job_id
    if await start_user_job(connection, jobs, job_id, message.kind, message.user_id):
        if most is not None:
            await count_use(connection, "imports", message.user_id, most=most)
        await QUERIES.add_input(connection, job_id=job_id, form=message.form, content=message.content)
    row = await QUERIES.job_of(connection, job_id=job_id)
    if row is None or row["user_id"] != message.user_id:
        raise Problem(JOBS_NOT_FOUND)
    return _job(row)


async def start_user_job(connection: Any, jobs: JobQueue, job_id: UUID, kind: str, user_id: UUID) -> bool:
    """Add a user's job, in the caller's transaction; False if there is one with this id."""
    if not await QUERIES.add_job(connection, job_id=job_id, kind=kind, user_id=user_id):
        return False
    await _enqueue(connection, jobs, kind, job_id)
    return True


async def _enqueue(connection: Any, jobs: JobQueue, kind: str, job_id: UUID) -> Any:
    """Enqueue the job that works on a row, and return the row."""
    queue_id = await jobs.enqueue(connection, jobs.kinds[kind].payload(job_id))
    await QUERIES.set_queue_id(connection, job_id=job_id, queue_id=queue_id)
    row = await QUERIES.job_of(connection, job_id=job_id)
    await tell(connection, row)
    return row


async def _visible(connection: Any, job_id: UUID, caller: Principal) -> Any:
    row = await QUERIES.job_of(connection, job_id=job_id)
    if row is None or (row["user_id"] != caller.user_id and not caller.role.includes(Role.ADMIN)):
        raise Problem(JOBS_NOT_FOUND)
    return row


def _job(row: Any) -> UserJob:
    facts = {name: row[name] for name in UserJob.__struct_fields__}
    facts |= {"counts": msgspec.json.decode(row["counts"]), "faults": msgspec.json.decode(row["faults"])}
    return msgspec.convert(facts, UserJob)


async def tell(connection: Any, row: Any) -> None:
    """Emit the event of a row's state."""
    event = UserJobChanged(row["job_id"], row["kind"], row["user_id"], row["state"])
    await emit(connection, event, event_id=uuid4())


async def end_user_job(
    connection: Any, job_id: UUID, state: Literal["done", "failed", "cancelled"], error: str = ""
) -> bool:
    """End a job that is not over, in the caller's transaction; False if it is."""
    row = await QUERIES.end_job(connection, job_id=job_id, state=state, error=error)
    if row is not None:
        await tell(connection, row)
    return row is not None


async def report_progress(job: Job[Any], done: int, total: int) -> bool:
    """Store the progress of a user's job without counts; False if it was cancelled, or another attempt works on it."""
    job_id = job.payload.job_id
    async with job.step() as step:
        if not await QUERIES.hold_running(step.connection, job_id=job_id, queue_id=job.job_id):
            return False
        await QUERIES.advance(step.connection, job_id=job_id, done=done, total=total, counts="{}", faults="[]")
        return True


def user_job_kind(name: str, payload: type[UserJobPayload], **options: Any) -> JobKind[Any]:
    """Declare the kind of a user's jobs: a dead or expired one has failed."""
    usual: dict[str, Any] = {
        "priority": Priority.BULK,
        "slots": 1,
        "timeout_s": 3600.0,
        "max_attempts": 5,
        "deadline_s": DEADLINE_S,
        "on_dead": _failed(HAS_FAILED),
        "on_expired": _failed(NOT_DONE),
        "backoff": Backoff(2.0, 60.0),
    }
    return JobKind(name, payload, **(usual | options))


def _failed(error: str) -> Callable[[Any, EndedJob[Any]], Any]:
    async def fail(connection: Any, ended: EndedJob[Any]) -> None:
        await end_user_job(connection, ended.payload.job_id, "failed", error)

    return fail
