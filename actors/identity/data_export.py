"""Exports: all data of a user, as a zip of JSON files, made in the background and downloaded by a mailed link.

`Exports` accepts requests and serves archives; `ExportWorker` makes them, as jobs.
"""

import zipfile
from collections.abc import Callable, Sequence
from typing import IO, Any, Literal, cast
from uuid import UUID, uuid4

import anyio.to_thread
import msgspec

from callboard.actors.delivery.events import MAIL, TemplatedEmailRequested
from callboard.actors.errors import FieldError, Problem
from callboard.actors.identity.audit_actions import EXPORT_DOWNLOADED, EXPORT_REQUESTED
from callboard.actors.identity.errors import AUTH_MAIL_TOKEN_INVALID, EXPORTS_LINK_GONE, USERS_NOT_FOUND
from callboard.actors.identity.sessions import STEP_UP_S, require_step_up
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.job_kinds import EndedJob, Job, Outcome, on_job
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.quotas import count_use
from callboard.actors.infrastructure.token_signer import Signer, fingerprint
from callboard.actors.infrastructure.user_jobs import (
    HAS_FAILED,
    NOT_DONE,
    UserJobPayload,
    end_user_job,
    report_progress,
    start_user_job,
    user_job_kind,
)
from callboard.actors.infrastructure.user_jobs import QUERIES as JOBS
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.outbox import emit
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERSONAL_DATA = PersonalData(
    "links",
    {
        "mail_tokens": ("user_id", "token_hash", "email"),
        "exports": ("export_id", "user_id"),
        "export_pieces": ("piece",),
    },
    QUERIES.export_links,
    QUERIES.erase_links,
)

ARCHIVE_TTL_S = 24 * 3600  # from completion; then retention deletes it
EXPORTS_PER_HOUR = 5  # of one user, by default
MAX_ARCHIVE_BYTES = 512 << 20  # by default; the quota of content is far below
PIECE_BYTES = 1 << 20  # as schema.sql has it
PAGE = 20  # articles in memory at a time, each of 200,000 characters at most


class Export(msgspec.Struct, frozen=True):
    """A requested export; the user's job with its id has its progress. Its user gets a mail when it is ready."""

    export_id: UUID
    status: Literal["queued", "running", "ready", "failed"]
    created_at: UtcDatetime


class RequestExport(Request[Export], frozen=True):
    """Request a user's archive; a request for one in progress returns that one. Raises Problem(USERS_NOT_FOUND).

    A user has one archive: an earlier one is deleted. The session must have confirmed its password lately, else it is
    Problem(AUTH_STEP_UP_REQUIRED). Raises Problem(QUOTA_RATE) after too many in an hour, also if earlier ones are
    deleted.
    """

    user_id: UUID
    session_id: UUID | None = None


class Archive(msgspec.Struct, frozen=True):
    """A finished archive: its size in bytes, and the number of its pieces."""

    export_id: UUID
    size: int
    pieces: int


class DownloadExport(Request[Archive], frozen=True):
    """Spend the secret of a mailed link for the user's archive, once, within 24 hours. `ReadPiece` reads it.

    Raises Problem(AUTH_MAIL_TOKEN_INVALID), also for the secret of another user, which stays valid.
    """

    user_id: UUID
    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return f"DownloadExport(user_id={self.user_id})"


class ReadPiece(Request[bytes], frozen=True):
    """Read a piece of an archive after its secret was spent. Raises Problem(EXPORTS_LINK_GONE)."""

    export_id: UUID
    number: int


class MakeExport(UserJobPayload, frozen=True):
    """The job of an export, which has its id."""

    job_id: UUID = msgspec.field(name="export_id")


class TooLargeError(Exception):
    """An archive grew over its limit."""


class SupersededError(Exception):
    """Another attempt makes this archive, or nobody wants it any more."""


def _tell_of_failure(error: str) -> Callable[[Any, EndedJob[MakeExport]], Any]:
    """Return what tells the user that the archive could not be made."""

    async def fail(connection: Any, job: EndedJob[MakeExport]) -> None:
        await _end_export(connection, job.payload.job_id, None, error)

    return fail


async def _end_export(connection: Any, export_id: UUID, archive: Archive | None, error: str = "") -> None:
    """End the user's job and the export; one that the user has cancelled has ended."""
    status, letter = ("failed", "export_failed") if archive is None else ("ready", "export")
    if not await end_user_job(connection, export_id, "failed" if archive is None else "done", error):
        return
    made = {"size": archive and archive.size, "pieces": archive and archive.pieces}
    data = {} if archive is None else {"token_id": str(export_id)}
    user_id = await QUERIES.mark_export(connection, export_id=export_id, status=status, **made)
    if user_id is None:
        return
    await QUERIES.prolong_export(connection, export_id=export_id, ttl_s=ARCHIVE_TTL_S)
    await emit(connection, TemplatedEmailRequested(letter, user_id, data), event_id=uuid4(), topic=MAIL)


MAKE_EXPORT = user_job_kind(  # one slot: each holds one page of articles in memory
    "export",
    MakeExport,
    timeout_s=600.0,
    max_attempts=3,
    on_dead=_tell_of_failure(HAS_FAILED),
    on_expired=_tell_of_failure(NOT_DONE),
)


class Exports(Actor[RequestExport | DownloadExport | ReadPiece]):
    """Accepts requests and serves archives; the workers of the pool share no state."""

    def __init__(
        self,
        database: Database,
        signer: Signer,
        jobs: JobQueue,
        exports_per_hour: int = EXPORTS_PER_HOUR,
        *,
        step_up_s: float = STEP_UP_S,
    ) -> None:
        self.database = database
        self.exports_per_hour = exports_per_hour
        self.signer = signer
        self.jobs = jobs
        self.step_up_s = step_up_s

    @on(RequestExport)
    @retried
    async def request(self, message: RequestExport) -> Export:
        """Of several simultaneous requests one makes an archive."""
        async with self.database.transaction() as connection:
            if await QUERIES.lock_owner(connection, user_id=message.user_id) is None:
                raise Problem(USERS_NOT_FOUND)
            await require_step_up(connection, message.session_id, self.step_up_s)
            row = await QUERIES.export_of(connection, user_id=message.user_id)
            if row is None or row["status"] not in ("queued", "running"):
                most = self.exports_per_hour
                await count_use(connection, "exports", message.user_id, most=most)
                await QUERIES.drop_export(connection, user_id=message.user_id)
                export_id = uuid4()
                row = await QUERIES.add_export(
                    connection,
                    export_id=export_id,
                    user_id=message.user_id,
                    token_hash=fingerprint(self.signer.mail_token(export_id)),
                    ttl_s=ARCHIVE_TTL_S,
                )
                await start_user_job(connection, self.jobs, export_id, MAKE_EXPORT.name, message.user_id)
                await audit.record(connection, EXPORT_REQUESTED, of=message.user_id, export_id=export_id)
        return msgspec.convert(dict(row), Export)

    @on(DownloadExport)
    @retried
    async def download(self, message: DownloadExport) -> Archive:
        """Return the archive to its owner alone: a mailbox or a proxy's log may expose the link."""
        async with self.database.transaction() as connection:
            row = await QUERIES.spend_archive(
                connection, token_hash=fingerprint(message.token), user_id=message.user_id
            )
            if row is None:
                raise Problem(AUTH_MAIL_TOKEN_INVALID, details=(FieldError("token", "is not valid"),))
            await audit.record(connection, EXPORT_DOWNLOADED, of=message.user_id, export_id=row["export_id"])
        return Archive(row["export_id"], row["size"], row["pieces"])

    @on(ReadPiece)
    async def piece(self, message: ReadPiece) -> bytes:
        """Read one row."""
        async with self.database.acquire() as connection:
            found = await QUERIES.read_piece(connection, export_id=message.export_id, number=message.number)
        if found is None:
            raise Problem(EXPORTS_LINK_GONE)
        return bytes(found)


class _Pieces:
    """A file to write an archive to; `store` moves it to the database piece by piece."""

    def __init__(self, database: Database, export_id: UUID, max_bytes: int) -> None:
        self.size = 0
        self.count = 0
        self._database = database
        self._export_id = export_id
        self._maker = uuid4()
        self._max_bytes = max_bytes
        self._waiting = bytearray()

    def write(self, data: bytes) -> int:
        """Append bytes. Raises TooLargeError if the archive grows over its limit."""
        self.size += len(data)
        if self.size > self._max_bytes:
            raise TooLargeError
        self._waiting += data
        return len(data)

    def flush(self) -> None:
        """See `store`."""

    async def begin(self) -> bool:
        """Refuse pieces of earlier attempts from now on. Return False if nobody wants the archive any more."""
        async with self._database.acquire() as connection:
            return bool(await QUERIES.start_export(connection, export_id=self._export_id, maker=self._maker))

    async def store(self, *, whole: bool = False) -> None:
        """Store full pieces, or all bytes. Raises SupersededError if another attempt has begun."""
        while len(self._waiting) >= PIECE_BYTES or (whole and self._waiting):
            piece = bytes(self._waiting[:PIECE_BYTES])
            async with self._database.acquire() as connection:
                stored = await QUERIES.add_piece(
                    connection,
                    export_id=self._export_id,
                    maker=self._maker,
                    number=self.count,
                    piece=piece,
                )
            if not stored:
                raise SupersededError
            del self._waiting[:PIECE_BYTES]
            self.count += 1


class ExportWorker(Actor[Job[MakeExport]]):
    """Makes archives, with one piece in memory at a time."""

    def __init__(self, database: Database, parts: Sequence[PersonalData], max_bytes: int = MAX_ARCHIVE_BYTES) -> None:
        self.database = database
        self.parts = parts
        self.max_bytes = max_bytes

    @on_job
    async def make(self, job: Job[MakeExport]) -> Outcome:
        """Finish the archive, request its mail and end the job, in one transaction."""
        export_id = job.payload.job_id
        async with job.step() as step:
            row = await JOBS.begin_job(step.connection, job_id=export_id, queue_id=job.job_id)
        if row is None:  # it was cancelled
            return None
        pieces, made, error = _Pieces(self.database, export_id, self.max_bytes), None, ""
        try:
            if await pieces.begin():
                await self._archive(job, row["user_id"], pieces)
                made = Archive(export_id, pieces.size, pieces.count)
            else:
                error = "There is a newer export."
        except TooLargeError:
            error = "The archive is too large."
        except SupersededError:
            return None
        async with job.finish() as connection:
            await _end_export(connection, export_id, made, error)
        return None

    async def _archive(self, job: Job[MakeExport], user_id: UUID, pieces: _Pieces) -> None:
        """Write the zip; it is compressed in a thread. Raises SupersededError if the job was cancelled."""
        with zipfile.ZipFile(cast("IO[bytes]", pieces), "w", zipfile.ZIP_DEFLATED) as archive:
            for number, part in enumerate(self.parts, start=1):
                with archive.open(f"{part.name}.json", "w", force_zip64=True) as entry:
                    await self._write(part, user_id, entry, pieces)
                if not await report_progress(job, number, len(self.parts)):
                    raise SupersededError
        await pieces.store(whole=True)

    async def _write(self, part: PersonalData, user_id: UUID, entry: IO[bytes], pieces: _Pieces) -> None:
        """Write one list of documents, a page at a time."""
        after: str | None = None
        entry.write(b"[")
        while True:
            async with self.database.acquire() as connection:
                rows = [row async for row in part.export(connection, user_id=user_id, after=after, limit=PAGE)]
            if not rows:
                break
            page = (b"\n" if after is None else b",\n") + ",\n".join(row["document"] for row in rows).encode()
            await anyio.to_thread.run_sync(entry.write, page)
            await pieces.store()
            after = rows[-1]["cursor"]
        entry.write(b"\n]")
