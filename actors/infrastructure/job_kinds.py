"""Job kinds: their declaration beside a handler, the handler's argument, and its possible outcomes.

    class SendMail(msgspec.Struct, frozen=True):        # ids, not contents: 16 kB at most
        mail_id: UUID

    SEND_MAIL = JobKind("mail", SendMail, slots=5, max_attempts=3, backoff=Backoff(base_s=2.0, cap_s=8.0))

    class MailSender(Actor[Job[SendMail]]):             # an actor of the kind's pool; the pool's size is its slots
        @on_job
        async def send(self, job: Job[SendMail]) -> Outcome:
            ...
            return Later(300.0, "greylisted")           # or Done(), Retry("refused"), Permanent("no such user")

An exception is a Retry, unless the kind lists its class in `permanent`. `job_queue.py` enqueues.
"""

import functools
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import IntEnum
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.runtime import Pool, Props, Request, Route, on, pool

P = TypeVar("P", bound=msgspec.Struct)
A = TypeVar("A")

JITTER = 0.2
MAX_PAYLOAD_BYTES = 16_384
MAX_REASON = 100
MAX_ERROR = 500


class Priority(IntEnum):
    """Priority classes of jobs of one kind. A lower class starts before any job of a higher one."""

    SECURITY = 0
    NORMAL = 1
    BULK = 2


class Done(msgspec.Struct, frozen=True):
    """The job is done. A handler that returns None says the same."""


class Retry(msgspec.Struct, frozen=True):
    """The attempt has failed; the next one follows after the kind's backoff, or after `delay_s`."""

    reason: str
    delay_s: float | None = None


class Permanent(msgspec.Struct, frozen=True):
    """No further attempt can succeed: the job is dead."""

    reason: str


class Later(msgspec.Struct, frozen=True):
    """The attempt does not count; try again in `delay_s` seconds. Only the job's deadline limits the number.

    `away` says that a server which all jobs of the kind need is unavailable. Then this process starts no job of the
    kind but one probe, after 1 s and then after twice the last wait, 60 s at most.
    """

    delay_s: float
    reason: str
    away: bool = False


class Raised(msgspec.Struct, frozen=True):
    """The handler raised an exception; the worker decides by the kind."""

    error: Exception


Outcome = Done | Retry | Permanent | Later | None


class LeaseLostError(Exception):
    """Another process holds this job now, or it has been deleted: this process can have no effect on it."""


class Backoff(msgspec.Struct, frozen=True):
    """Seconds before the next attempt: base_s * 2 ** (attempts - 1), at most cap_s, plus or minus a fifth."""

    base_s: float = 5.0
    cap_s: float = 600.0

    def delay_s(self, attempts: int, rng: random.Random) -> float:
        """Return the wait after this number of attempts."""
        return min(self.cap_s, self.base_s * 2.0 ** min(attempts - 1, 40)) * (1 + JITTER * (2 * rng.random() - 1))


class EndedJob(msgspec.Struct, Generic[P], frozen=True):
    """A dead or expired job, for the hook of its kind."""

    job_id: int
    payload: P
    attempts: int
    error: str


Hook = Callable[[Any, EndedJob[P]], Awaitable[None]]  # with the connection of the transaction that ends the job


class JobKind(msgspec.Struct, Generic[P], frozen=True):
    """The settings of the jobs of one payload type. All of them but `slots` are the same in every process.

    `slots` is the default size of the kind's pool; `reserved` of them only security jobs may take. `max_running`
    limits the jobs of all processes together (0: no limit); `JobQueue.admit` refuses above `max_waiting`; `lease_s`
    is the life of a claim without renewal; `timeout_s` limits one attempt. `on_dead` and `on_expired` run in the
    transaction that ends the job. `keep_s` stores the outcome in finished_jobs. `halt` blocks an order key while its
    head is dead. With `group` above 1 the handler takes a JobGroup. `alarm_s` is the oldest due age at which /ready
    fails. `secret` names payload fields that are never shown. A process skips jobs with a newer `version`.
    `deadline_s` is the deadline of jobs whose enqueue names none. An attempt in progress ends at its job's deadline,
    unless the kind `outlives_deadline`.
    """

    name: str
    payload: type[P]
    priority: Priority = Priority.NORMAL
    slots: int = 4
    reserved: int = 0
    max_running: int = 0
    max_waiting: int = 10_000
    lease_s: float = 30.0
    timeout_s: float = 60.0
    max_attempts: int = 8
    backoff: Backoff = Backoff()
    permanent: tuple[type[Exception], ...] = ()
    on_dead: Hook[P] | None = None
    on_expired: Hook[P] | None = None
    unique_active: bool = False
    halt: bool = False
    keep_s: float = 0.0
    group: int = 1
    alarm_s: float = 600.0
    secret: frozenset[str] = frozenset()
    version: int = 1
    deadline_s: float | None = None
    outlives_deadline: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that make no job runnable."""
        counts = (self.slots, self.max_attempts, self.group, self.version, self.max_waiting)
        if min(counts) < 1 or self.max_running < 0 or self.lease_s <= 0 or self.timeout_s <= 0:
            raise ValueError(f"job kind {self.name}: slots, attempts, group, version and times are 1 or more")


class Step:
    """One part of a long job: a transaction under the job's fence, and the progress that is committed with it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.progress: str | None = None

    def report(self, done: int, total: int | None = None, cursor: Any = None) -> None:
        """Set the progress, and the position from which a later attempt starts."""
        self.progress = encode_progress(done, total, cursor)


def encode_progress(done: int, total: int | None, cursor: Any) -> str:
    """Return progress as it is stored."""
    return msgspec.json.encode({"done": done, "total": total, "cursor": cursor}).decode()


class Holder(Protocol):
    """The process's hold on a running job; `Job` and `JobGroup` delegate to it."""

    def finish(self, jobs: "tuple[Job[Any], ...]") -> AbstractAsyncContextManager[tuple[Any, frozenset[int]]]:
        """Delete the jobs that are still held, run the block, commit both."""

    def step(self, job: "Job[Any]") -> AbstractAsyncContextManager["Step"]:
        """Lock the job if it is still held, run the block, store its progress, commit all."""

    async def progress(self, job: "Job[Any]", done: int, total: int | None, cursor: Any) -> None:
        """Store progress, at most once a second."""

    async def confirm(self, job: "Job[Any]") -> None:
        """Raise LeaseLostError unless the job is still held."""


class Job(Request[Any], Generic[P], frozen=True, eq=False):
    """A job in its handler. `attempt` counts from 1; `cursor` is the last progress of an earlier attempt; `key` is the
    same in every attempt, for external systems that must recognise a repetition.
    """

    job_id: int
    lease_id: int
    payload: P
    attempt: int
    max_attempts: int
    created_at: datetime
    deadline: datetime | None
    cursor: Any
    holder: Any

    @property
    def key(self) -> str:
        """Return an idempotency key for an external effect."""
        return f"job-{self.job_id}"

    @property
    def last_attempt(self) -> bool:
        """Whether a Retry would end the job."""
        return self.attempt >= self.max_attempts

    def finish(self) -> AbstractAsyncContextManager[Any]:
        """Open the transaction of the job's effect: the effect and the job's end are committed together, or neither is.

        Yields the connection. Raises LeaseLostError if the job is no longer held; then nothing has happened.
        """
        return _Single(self)

    def step(self) -> AbstractAsyncContextManager[Step]:
        """Open the transaction of a part of the job's effect: the part and its reported progress are committed
        together, or neither is. The job goes on.

        Raises LeaseLostError if the job is no longer held; then nothing has happened.
        """
        holder: Holder = self.holder
        return holder.step(self)

    async def progress(self, done: int, total: int | None = None, cursor: Any = None) -> None:
        """Report progress, and the position from which a later attempt starts. Stored at most once a second.

        Raises LeaseLostError if the job is no longer held.
        """
        await self.holder.progress(self, done, total, cursor)

    async def confirm(self) -> None:
        """Check the lease in the database before an expensive external effect. Raises LeaseLostError."""
        await self.holder.confirm(self)


class _Single:
    """Open the holder's transaction for one job, without the set of ids."""

    def __init__(self, job: Job[Any]) -> None:
        self._inner: AbstractAsyncContextManager[tuple[Any, frozenset[int]]] = job.holder.finish((job,))

    async def __aenter__(self) -> Any:
        connection, _ = await self._inner.__aenter__()
        return connection

    async def __aexit__(self, *raised: object) -> bool | None:
        return await self._inner.__aexit__(*raised)  # type: ignore[arg-type]  # unchanged


class JobGroup(Request[Any], Generic[P], frozen=True, eq=False):
    """Several jobs of one kind whose effects share a transaction. If it fails each is handed out again alone."""

    jobs: tuple[Job[P], ...]

    def finish(self) -> AbstractAsyncContextManager[tuple[Any, frozenset[int]]]:
        """Like `Job.finish`; yields the connection and the ids of the jobs that are still held: do only those."""
        holder: Holder = self.jobs[0].holder
        return holder.finish(self.jobs)


def on_job(handler: Callable[[A, Job[P]], Awaitable[Outcome]]) -> Any:
    """Make an async method the handler of its actor's jobs. Its exceptions are the job's failure, and no crash."""
    return on(Job)(_guarded(handler))


def on_job_group(handler: Callable[[A, JobGroup[P]], Awaitable[Outcome]]) -> Any:
    """Make an async method the handler of its actor's jobs in groups."""
    return on(JobGroup)(_guarded(handler))


def _guarded(handler: Callable[[Any, Any], Awaitable[Outcome]]) -> Callable[[Any, Any], Awaitable[Any]]:
    @functools.wraps(handler)
    async def guarded(actor: Any, message: Any) -> Outcome | Raised:
        try:
            return await handler(actor, message)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the job's failure, and costs no restart
            return Raised(error)

    return guarded


class JobHandler(msgspec.Struct, Generic[P], frozen=True):
    """A kind, the pool that runs it in this process, and the breaker of the server that its jobs need."""

    kind: JobKind[P]
    pool: Pool[Any]
    breaker: CircuitBreaker

    @property
    def slots(self) -> int:
        """Return how many jobs the pool may run at once, by its current size."""
        return self.pool.slots * self.kind.group


def job_pool(kind: JobKind[P], props: Props[Any], **options: Any) -> JobHandler[P]:
    """The pool of a kind, named after it; each job goes to an idle worker."""
    options = {"size": kind.slots} | options
    jobs = pool(kind.name, props, route=Route.LEAST_BUSY, **options)
    return JobHandler(kind, jobs, CircuitBreaker(f"jobs.{kind.name}"))
