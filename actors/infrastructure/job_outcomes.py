"""The outcomes of jobs: each write is fenced by the lease, and shares its transaction with order keys and hooks."""

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import MAX_ERROR, MAX_REASON, EndedJob, Hook, JobKind
from callboard.streams.queries import queries_beside

if TYPE_CHECKING:
    from callboard.actors.infrastructure.job_runs import RunningJob

QUERIES = queries_beside(__file__)

ONE_DELETED = "DELETE 1"
TRIES = 5  # a retry and a new twin may meet at each attempt
MAX_SEEN = 1_000  # reasons that are remembered as logged

log = logging.getLogger(__name__)


class Failure(msgspec.Struct, frozen=True):
    """The cause of a failure: `reason` is its class, the same for all jobs; `error` is the text."""

    reason: str
    error: str


class Ending(msgspec.Struct, frozen=True):
    """The end of an attempt that is not done: `dead`, or after `delay_s` again: `retry`, `later`, `released`."""

    outcome: str
    why: Failure
    delay_s: float = 0.0


def failure(cause: BaseException | str) -> Failure:
    """Describe a cause. An error's reason is its class, and the SQLSTATE if it has one; never its text."""
    if isinstance(cause, str):
        bare = re.sub(r"(?<!\S)\S*@\S*", "…", cause)
        return Failure(re.sub(r"\d+", "#", bare)[:MAX_REASON], _storable(cause))
    state = getattr(cause, "sqlstate", None)
    name = type(cause).__name__
    return Failure(f"{name} {state}" if state else name[:MAX_REASON], _storable(f"{name}: {cause}"))


def _storable(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:MAX_ERROR]


class Reasons:
    """Logs each new (kind, reason) once in a process."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def tell(self, kind: str, reason: str) -> None:
        """Log a dead letter, unless one with its reason is logged already."""
        if (kind, reason) in self._seen:
            return
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen.add((kind, reason))
        log.warning("a %s job is dead: %s (further ones for the same reason are only counted)", kind, reason)


def completion(run: "RunningJob") -> str:
    """Return the statement that deletes a held job, to be sent with a BEGIN; None if more has to be done."""
    if run.order_key is not None or run.kind.keep_s:
        return ""
    return f"delete from jobs where job_id = {int(run.job.job_id)} and lease_id = {int(run.job.lease_id)}"  # noqa: S608


async def complete(
    connection: Any, runs: "Sequence[RunningJob]"
) -> tuple[frozenset[int], Callable[[], Awaitable[None]]]:
    """Delete the jobs that are still held: yield their ids, and at the end free the next jobs of their order keys."""
    job_ids = [run.job.job_id for run in runs]
    lease_ids = [run.job.lease_id for run in runs]
    if all(run.order_key is None and not run.kind.keep_s for run in runs):
        rows = QUERIES.complete_many(connection, job_ids=job_ids, lease_ids=lease_ids)
        return frozenset([row["job_id"] async for row in rows]), nothing
    keep_s = [run.kind.keep_s for run in runs]
    rows = QUERIES.complete_kept(connection, job_ids=job_ids, lease_ids=lease_ids, keep_s=keep_s)
    gone = [(row["job_id"], row["kind"], row["order_key"]) async for row in rows]

    async def free() -> None:
        for kind, key in sorted({(kind, key) for _, kind, key in gone if key is not None}):
            await free_key(connection, kind, key)

    return frozenset(job_id for job_id, _, _ in gone), free


async def nothing() -> None:
    """Free nothing: no order key waits."""


async def free_key(connection: Any, kind: str, order_key: str | None) -> bool:
    """Free the next job of an order key, unless another process enqueues for that key at this moment."""
    if order_key is None or not await QUERIES.lock_key(connection, kind=kind, order_key=order_key):
        return False
    return await QUERIES.free_next(connection, kind=kind, order_key=order_key) is not None


class JobOutcomes:
    """Writes outcomes. Each method returns the outcome to count, `stale` if the job was not ours."""

    def __init__(self, database: Database, reasons: Reasons) -> None:
        self.database = database
        self.reasons = reasons

    async def end_attempt(self, kind: JobKind[Any], job_id: int, lease_id: int, ending: Ending) -> str:
        """Move a job to the dead letters, or put it back: only `retry` counts its attempt. Raises Problem."""
        if ending.outcome == "dead":
            return await self.dead_letter(kind, job_id, lease_id, ending.why)
        given_back = 0 if ending.outcome == "retry" else 1
        for _ in range(TRIES):
            try:
                async with self.database.transaction() as connection:
                    if await QUERIES.put_back(
                        connection,
                        job_id=job_id,
                        lease_id=lease_id,
                        delay_s=ending.delay_s,
                        given_back=given_back,
                        error=ending.why.error,
                        survived=True,
                    ):
                        return ending.outcome
                    return await self._end_cancelled(connection, kind, job_id, lease_id)
            except asyncpg.UniqueViolationError:  # a twin waits
                async with self.database.transaction() as connection:
                    if await supersede(connection, kind, job_id, lease_id, given_back):
                        return "superseded"
        return "stale"  # the sweeper handles it when the lease has expired

    async def _end_cancelled(self, connection: Any, kind: JobKind[Any], job_id: int, lease_id: int) -> str:
        held = await QUERIES.held(connection, job_id=job_id, lease_id=lease_id)
        if held is None or not held["cancelled"]:
            return "stale"
        return await end(connection, kind, job_id, lease_id, "cancelled")

    async def cancel(self, kind: JobKind[Any], job_id: int, lease_id: int) -> str:
        """End a job whose cancellation was requested."""
        async with self.database.transaction() as connection:
            return await self._end_cancelled(connection, kind, job_id, lease_id)

    async def expire(self, kind: JobKind[Any], job_id: int, lease_id: int, ended: EndedJob[Any]) -> str:
        """End a job that was past its deadline at the claim, and run its kind's hook."""
        async with self.database.transaction() as connection:
            outcome = await end(connection, kind, job_id, lease_id, "expired")
            if outcome != "stale":
                await run_hook(connection, kind, kind.on_expired, ended)
        return outcome

    async def dead_letter(self, kind: JobKind[Any], job_id: int, lease_id: int, why: Failure) -> str:
        """Make a job a dead letter, and run its kind's hook."""
        async with self.database.transaction() as connection:
            outcome = await dead_letter(connection, kind, job_id, lease_id, why)
        if outcome == "dead":
            self.reasons.tell(kind.name, why.reason)
        return outcome


async def supersede(connection: Any, kind: JobKind[Any], job_id: int, lease_id: int, given_back: int) -> bool:
    """Give a job's attempts to its waiting twin, and end it; False if there is no such twin, or no such job."""
    row = await QUERIES.supersede(
        connection, job_id=job_id, lease_id=lease_id, given_back=given_back, keep_s=kind.keep_s
    )
    if row is None:
        return False
    await free_key(connection, kind.name, row["order_key"])
    return True


async def end(connection: Any, kind: JobKind[Any], job_id: int, lease_id: int, outcome: str) -> str:
    """End a job, cancelled or expired, and free its key."""
    row = await QUERIES.end_job(connection, job_id=job_id, lease_id=lease_id, outcome=outcome, keep_s=kind.keep_s)
    if row is None:
        return "stale"
    await free_key(connection, row["kind"], row["order_key"])
    return outcome


async def dead_letter(connection: Any, kind: JobKind[Any], job_id: int, lease_id: int, why: Failure) -> str:
    """Move a job to the dead letters, run its kind's hook and free its key, unless its kind halts the key."""
    row = await QUERIES.dead_letter(
        connection,
        job_id=job_id,
        lease_id=lease_id,
        reason=why.reason,
        error=why.error,
        halts=kind.halt,
        keep_s=kind.keep_s,
    )
    if row is None:
        return "stale"
    if kind.on_dead is not None:
        try:
            payload = msgspec.json.decode(row["payload"], type=kind.payload)
        except msgspec.MsgspecError:  # the reason of its death
            payload = None
        if payload is not None:
            await run_hook(connection, kind, kind.on_dead, EndedJob(job_id, payload, row["attempts"], why.error))
    await free_key(connection, row["kind"], row["order_key"])
    return "dead"


async def run_hook(connection: Any, kind: JobKind[Any], hook: Hook[Any] | None, ended: EndedJob[Any]) -> None:
    """Run a kind's hook. If it raises, it is rolled back and logged: the job must end."""
    if hook is None:
        return
    try:
        async with connection.transaction():
            await hook(connection, ended)
    except Exception:
        # If the connection itself failed, the next statement raises, and all of this is done again.
        log.exception("the end hook of a %s job raised an error", kind.name)
