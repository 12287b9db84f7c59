"""Uploads for tests: bodies that break off or fall silent, and the uploads of a process on a folder."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from callboard.actors.editorial.refs import EditorialRefs
from callboard.actors.editorial.upload_records import CreateUpload, GetUpload, NewUpload, Upload, UploadKind
from callboard.actors.editorial.upload_removal import discarded_rule
from callboard.actors.editorial.upload_writer import Checksum, UploadWriter
from callboard.actors.errors import ErrorCode, Problem
from callboard.actors.infrastructure.disk_store import DiskStore
from callboard.actors.infrastructure.principals import Principal
from kit.domain import Domain

FIRST, SECOND = b"first half|", b"second half"
BOTH = FIRST + SECOND


class Body:
    """A request's body that the test sends: pieces, then its end, an error, or silence until `more`."""

    def __init__(self, *pieces: bytes, fault: Problem | None = None, declared: int | None = None) -> None:
        self.pieces = list(pieces)
        self.fault = fault
        self.declared = declared
        self.silent = False
        self.more = asyncio.Event()
        self.taken = asyncio.Event()

    @property
    def at_end(self) -> bool:
        return not self.pieces and self.fault is None and not self.silent

    async def read(self, timeout_s: float = 1.0) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        self.taken.set()
        if self.fault is not None:
            raise self.fault
        if self.silent:
            try:
                async with asyncio.timeout(min(timeout_s, 0.02)):
                    await self.more.wait()
            except TimeoutError:
                pass
            else:
                self.silent = False
        return b""

    def keep_working(self) -> None:
        """Nobody counts the time here."""


def silent(*pieces: bytes) -> Body:
    body = Body(*pieces)
    body.silent = True
    return body


class UploadSite:
    """A process's uploads: the domain's actors, and a writer on a folder."""

    def __init__(self, domain: Domain, folder: Path, **options: Any) -> None:
        self.domain = domain
        self.uploads = domain.built.refs(EditorialRefs).uploads.records
        self.store = DiskStore(folder)
        usual: dict[str, Any] = {
            "type_of": lambda head, _declared: "video/mp4" if head.startswith(b"film") else "text/plain",
            "allows_video": lambda _user_id: False,
            "most_at_once": 64,
        }
        self.writer = UploadWriter(self.uploads, self.store, **(usual | options))

    async def created(self, owner: Principal, size: int | None = len(BOTH), **more: Any) -> Upload:
        return await self.uploads.ask(CreateUpload(uuid4(), owner.user_id, NewUpload(size=size, **more)))

    async def sent(self, owner: Principal, data: bytes, kind: UploadKind = UploadKind.WHOLE) -> Upload:
        """A complete upload."""
        upload = await self.created(owner, len(data), kind=kind)
        return await self.writer.write(upload.upload_id, owner.user_id, 0, Body(data))

    async def write(self, upload: Upload, owner: Principal, offset: int, body: Body, **more: Any) -> Upload:
        return await self.writer.write(upload.upload_id, owner.user_id, offset, body, **more)

    async def read(self, upload: Upload, owner: Principal) -> Upload:
        return await self.uploads.ask(GetUpload(upload.upload_id, owner.user_id))

    async def seen(self, upload: Upload, owner: Principal, received: int) -> None:
        """Wait until so many bytes count."""
        while (await self.read(upload, owner)).received < received:  # noqa: ASYNC110 - what is awaited is in PostgreSQL
            await asyncio.sleep(0)

    async def bytes_of(self, upload: Upload, owner: Principal) -> bytes:
        now = await self.read(upload, owner)
        return b"".join([piece async for piece in self.store.read(now.object_id, 0, now.received)])

    def files(self) -> set[UUID]:
        return {UUID(path.name) for path in self.store.folder.rglob("*") if path.is_file()}

    async def expire_lease(self, upload: Upload) -> None:
        await self.domain.rows(
            "update uploads set leased_until = now() - interval '1 s' where upload_id = $1", upload.upload_id
        )

    async def purge(self) -> None:
        """Delete what is discarded, as if an hour had passed."""
        await self.domain.execute("update discarded_objects set discarded_at = discarded_at - interval '2 hours'")
        async with self.domain.database.acquire() as connection:
            await discarded_rule(self.store).purge(connection, 1000)


async def refused(work: Any, code: ErrorCode) -> Problem:
    with pytest.raises(Problem) as raised:
        await work
    assert raised.value.code is code, raised.value
    return raised.value


def digest(data: bytes, algorithm: str = "sha1") -> Checksum:
    return Checksum(algorithm, hashlib.new(algorithm, data, usedforsecurity=False).digest())
