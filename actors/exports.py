"""Exports: all that is kept of a user, as a zip of JSON files, made in the background and fetched by a mailed link.

`Exports` takes requests and gives archives out; `ExportWorker` makes them, as jobs.
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import aiosql
import anyio.to_thread
import msgspec

from callboard.actors import audit_log as audit
from callboard.actors.audit_log import AuditAction
from callboard.actors.database import Database
from callboard.actors.errors import AUTH_MAIL_TOKEN_INVALID, USERS_NOT_FOUND, Detail, Problem
from callboard.actors.job_kinds import Done, EndedJob, Job, JobKind, Outcome, Priority, on_job
from callboard.actors.job_queue import JobQueue
from callboard.actors.personal_data import PersonalData
from callboard.actors.quotas import DEFAULT_QUOTAS, Quotas, count_use
from callboard.actors.sessions import STEP_UP_S, demand_proof
from callboard.actors.tokens import Signer, fingerprint
from callboard.runtime import Actor, Request, on
from callboard.streams.events import LetterRequested, Moment
from callboard.streams.outbox import emit
from callboard.streams.topics import MAIL

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("exports.sql"), "asyncpg")

PERSONAL_DATA = PersonalData(
    "links",
    {"mail_tokens": ("user_id", "token_hash", "email"), "exports": ("export_id", "user_id", "archive")},
    QUERIES.export_links,
    QUERIES.erase_links,
)

KEPT_S = 24 * 3600  # from when it is ready; retention throws it away after that
MAX_ARCHIVE_BYTES = 16 << 20
PAGE = 20  # articles in memory at a time, each of 200 000 characters at most


class Export(msgspec.Struct, frozen=True):
    """A request for an archive, and how far it is. When it is ready, its user is mailed."""

    export_id: UUID
    status: Literal["queued", "running", "ready", "failed"]
    created_at: Moment


class RequestExport(Request[Export], frozen=True):
    """Have a user's archive made; while one is being made the reply is that one. Raises Problem(USERS_NOT_FOUND).

    An archive that was made before is thrown away: a user has one. The session that asks must have given its password
    lately, or it is Problem(AUTH_STEP_UP_REQUIRED). Raises Problem(QUOTA_RATE) after too many in an hour, though the
    earlier ones are gone.
    """

    user_id: UUID
    session_id: UUID | None = None


class DownloadExport(Request[bytes], frozen=True):
    """Spend the secret of a mailed link for the user's archive, once, within 24 hours.

    Raises Problem(AUTH_MAIL_TOKEN_INVALID), also for the secret of another user, which stays good.
    """

    user_id: UUID
    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return f"DownloadExport(user_id={self.user_id})"


class MakeExport(msgspec.Struct, frozen=True):
    """The job of an export."""

    export_id: UUID
    user_id: UUID


class TooLargeError(Exception):
    """An archive grew over its bound."""


async def _give_up(connection: Any, job: EndedJob[MakeExport]) -> None:
    """Tell the user that there will be no archive."""
    await _settle(connection, job.payload, None)


async def _settle(connection: Any, export: MakeExport, archive: bytes | None) -> None:
    status, letter = ("failed", "export_failed") if archive is None else ("ready", "export")
    data = {} if archive is None else {"token_id": str(export.export_id)}
    if await QUERIES.mark_export(connection, export_id=export.export_id, status=status, archive=archive) is None:
        return
    await QUERIES.prolong_export(connection, export_id=export.export_id, ttl_s=KEPT_S)
    await emit(connection, LetterRequested(letter, export.user_id, data), event_id=uuid4(), topic=MAIL)


MAKE_EXPORT = JobKind(
    "export",
    MakeExport,
    priority=Priority.BULK,
    slots=1,  # an archive may have 16 MB in memory
    timeout_s=600.0,
    max_attempts=3,
    on_dead=_give_up,
)


class Exports(Actor[RequestExport | DownloadExport]):
    """Takes requests and gives archives out; the workers of the pool share nothing."""

    def __init__(
        self,
        database: Database,
        signer: Signer,
        jobs: JobQueue,
        quotas: Quotas = DEFAULT_QUOTAS,
        *,
        step_up_s: float = STEP_UP_S,
    ) -> None:
        self.database = database
        self.quotas = quotas
        self.signer = signer
        self.jobs = jobs
        self.step_up_s = step_up_s

    @on(RequestExport)
    async def request(self, message: RequestExport) -> Export:
        """Of any number at once one is made."""
        async with self.database.transaction() as connection:
            if await QUERIES.lock_owner(connection, user_id=message.user_id) is None:
                raise Problem(USERS_NOT_FOUND)
            await demand_proof(connection, message.session_id, self.step_up_s)
            row = await QUERIES.export_of(connection, user_id=message.user_id)
            if row is None or row["status"] not in ("queued", "running"):
                most = self.quotas.exports_per_hour
                await count_use(connection, "exports", message.user_id, most=most)
                await QUERIES.drop_export(connection, user_id=message.user_id)
                export_id = uuid4()
                row = await QUERIES.add_export(
                    connection,
                    export_id=export_id,
                    user_id=message.user_id,
                    token_hash=fingerprint(self.signer.mail_token(export_id)),
                    ttl_s=KEPT_S,
                )
                await self.jobs.enqueue(connection, MakeExport(export_id, message.user_id))
                await audit.record(connection, AuditAction.EXPORT_REQUESTED, of=message.user_id, export_id=export_id)
        return msgspec.convert(dict(row), Export)

    @on(DownloadExport)
    async def download(self, message: DownloadExport) -> bytes:
        """Whoever has the link and is not its owner has nothing: mailboxes and proxies' logs are read by others."""
        async with self.database.transaction() as connection:
            row = await QUERIES.spend_archive(
                connection, token_hash=fingerprint(message.token), user_id=message.user_id
            )
            if row is None:
                raise Problem(AUTH_MAIL_TOKEN_INVALID, details=(Detail("token", "is not valid"),))
            await audit.record(
                connection, AuditAction.EXPORT_DOWNLOADED, of=message.user_id, export_id=row["export_id"]
            )
        return bytes(row["archive"])


class ExportWorker(Actor[Job[MakeExport]]):
    """Makes archives."""

    def __init__(self, database: Database, parts: Sequence[PersonalData]) -> None:
        self.database = database
        self.parts = parts

    @on_job
    async def make(self, job: Job[MakeExport]) -> Outcome:
        """Archive, mail and the job's end are one transaction."""
        export = job.payload
        async with self.database.acquire() as connection:
            wanted = await QUERIES.start_export(connection, export_id=export.export_id)
        if wanted is None:  # its user is gone, or has asked anew
            return Done()
        archive = await self._archive(export.user_id)
        async with job.finish() as connection:
            await _settle(connection, export, archive)
        return None

    async def _archive(self, user_id: UUID) -> bytes | None:
        """The zip, compressed off the loop; None when it grows over its bound."""
        whole = io.BytesIO()
        try:
            with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
                for part in self.parts:
                    with archive.open(f"{part.name}.json", "w", force_zip64=True) as entry:
                        await self._write(part, user_id, entry, whole)
        except TooLargeError:
            return None
        return whole.getvalue()

    async def _write(self, part: PersonalData, user_id: UUID, entry: Any, whole: io.BytesIO) -> None:
        """One list of documents, a page at a time."""
        after: str | None = None
        entry.write(b"[")
        while True:
            async with self.database.acquire() as connection:
                rows = [row async for row in part.export(connection, user_id=user_id, after=after, limit=PAGE)]
            if not rows:
                break
            page = (b"\n" if after is None else b",\n") + ",\n".join(row["document"] for row in rows).encode()
            await anyio.to_thread.run_sync(entry.write, page)
            if whole.tell() > MAX_ARCHIVE_BYTES:
                raise TooLargeError
            after = rows[-1]["cursor"]
        entry.write(b"\n]")
