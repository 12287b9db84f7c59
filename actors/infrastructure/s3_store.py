"""Objects in a bucket of S3 or of a server like it. This module is imported when AWS_S3_BUCKET is set.

An object that is being written is a multipart upload of parts of PART bytes, and a tail. Part k holds the bytes before
k * PART. Those that do not fill a part are an object of their own, `uploads/ID.k`, behind k parts. So everything
follows from the offset: an append reads the tail, and writes parts and a new tail; what a killed process has written
beyond the offset is written again. `finish` makes one object, `uploads/ID`, and deletes the tails.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from uuid import UUID

from callboard.actors.errors import DegradedError, Problem
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.errors import STORE_FULL, STORE_LOST
from callboard.actors.infrastructure.s3_connection import S3Connection, S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef, ListPartsOutputTypeDef

PART = 5 << 20  # bytes: the least that S3 takes for a part that is not the last
MAX_PARTS = 10_000
MAX_COPY = 5 << 30  # bytes that S3 copies in one request
PARTS: Final = "Part" + "s"  # a field of S3: a search for our own old name finds no trace of it
PIECE = 1 << 19  # bytes of one read: a slow client holds them, and no connection


class S3Store:
    """An ObjectStore in a bucket. While S3 is unavailable, its circuit breaker refuses calls at once."""

    def __init__(
        self,
        settings: S3Settings,
        *,
        connections: int = 16,
        part: int = PART,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self._connection = S3Connection(settings, connections, breaker or CircuitBreaker("s3"))
        self._ask = self._connection.ask
        self._bucket = settings.bucket
        self._part = part

    async def open(self) -> None:
        """See ObjectStore."""
        await self._connection.open()

    async def close(self) -> None:
        """See ObjectStore."""
        await self._connection.close()

    async def check(self) -> None:
        """See ObjectStore."""
        try:
            await self._ask(lambda s3: s3.head_bucket(Bucket=self._bucket))
        except Problem as problem:
            reason = "there is no such bucket" if problem.code is STORE_LOST else self._connection.reason
            raise DegradedError(f"{self._bucket}: {reason}") from problem

    # Writing ---------------------------------------------------------------------------------------------------------

    async def append(self, name: UUID, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """See ObjectStore. It holds two parts in memory at most."""
        number, kept = divmod(offset, self._part)
        key, upload = key_of(name), None
        if number and (upload := await self._upload(key)) is None:
            raise Problem(STORE_LOST)
        gathered = bytearray(await self._tail(key, number, kept))
        written = 0
        async for chunk in chunks:
            written += len(chunk)
            gathered += chunk
            while len(gathered) >= self._part:
                upload = upload or await self._upload(key) or await self._create_upload(key)
                number += 1
                await self._put_part(key, upload, number, bytes(memoryview(gathered)[: self._part]))
                del gathered[: self._part]
        if gathered and written:
            await self._put(f"{key}.{number}", bytes(gathered))
        return written

    async def finish(self, name: UUID, size: int) -> None:
        """See ObjectStore."""
        key = key_of(name)
        if await self._object_size(key) != size:
            number, kept = divmod(size, self._part)
            tail = await self._tail(key, number, kept)
            if number:
                await self._complete(key, size, tail)
            else:
                await self._put(key, tail)
        await self._delete_remains(key)

    async def concatenate(self, name: UUID, parts: Sequence[UUID]) -> int:
        """See ObjectStore. S3 copies the parts itself, unless one is too small for that."""
        sizes = [await self._object_size(key_of(part)) for part in parts]
        known = [size for size in sizes if size is not None]
        total = sum(known)
        if len(known) < len(parts):
            raise Problem(STORE_LOST)
        if await self._object_size(key_of(name)) == total:
            return total
        if total >= self._part and all(size >= self._part for size in known[:-1]) and known[-1]:
            await self._copy(key_of(name), list(zip(parts, known, strict=True)))
        else:
            await self.append(name, 0, self._all_of(parts, known))
            await self.finish(name, total)
        return total

    async def _all_of(self, parts: Sequence[UUID], sizes: Sequence[int]) -> AsyncIterator[bytes]:
        for part, size in zip(parts, sizes, strict=True):
            async for piece in self.read(part, 0, size):
                yield piece

    async def delete(self, name: UUID) -> None:
        """See ObjectStore."""
        key = key_of(name)
        await self._delete_remains(key)
        await self._delete(key)

    # Reading ---------------------------------------------------------------------------------------------------------

    async def read(self, name: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """See ObjectStore: each piece is a request of its own, so that a slow client holds no connection to S3."""
        key = key_of(name)
        while start < stop:
            piece = await self._get(key, start, min(start + PIECE, stop))
            if not piece:
                raise Problem(STORE_LOST)
            start += len(piece)
            yield piece

    async def size(self, name: UUID) -> int | None:
        """See ObjectStore."""
        key = key_of(name)
        size = await self._object_size(key)
        if size is not None:
            return size
        upload = await self._upload(key)
        parts = {} if upload is None else await self._parts(key, upload)
        number = 0
        while number + 1 in parts:
            number += 1
        tail = await self._object_size(f"{key}.{number}")
        return None if tail is None and not number else number * self._part + (tail or 0)

    # Objects and parts -----------------------------------------------------------------------------------------------

    async def _tail(self, key: str, number: int, kept: int) -> bytes:
        """Return the first `kept` bytes of a tail. Raises Problem(STORE_LOST)."""
        tail = await self._get(f"{key}.{number}", 0, kept) if kept else b""
        if len(tail) != kept:
            raise Problem(STORE_LOST)
        return tail

    async def _get(self, key: str, start: int, stop: int) -> bytes:
        async def get(s3: "S3Client") -> bytes:
            answer = await s3.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{stop - 1}")
            async with answer["Body"] as body:
                return await body.read()

        return await self._ask(get)

    async def _put(self, key: str, content: bytes) -> None:
        await self._ask(lambda s3: s3.put_object(Bucket=self._bucket, Key=key, Body=content))

    async def _object_size(self, key: str) -> int | None:
        with suppress_lost():
            return (await self._ask(lambda s3: s3.head_object(Bucket=self._bucket, Key=key)))["ContentLength"]
        return None

    async def _uploads(self, key: str) -> list[str]:
        """Return the ids of the multipart uploads of a key, the oldest first."""
        answer = await self._ask(lambda s3: s3.list_multipart_uploads(Bucket=self._bucket, Prefix=key))
        found = [each for each in answer.get("Uploads", ()) if each["Key"] == key]
        return [each["UploadId"] for each in sorted(found, key=lambda each: (each["Initiated"], each["UploadId"]))]

    async def _upload(self, key: str) -> str | None:
        return next(iter(await self._uploads(key)), None)

    async def _create_upload(self, key: str) -> str:
        made = await self._ask(lambda s3: s3.create_multipart_upload(Bucket=self._bucket, Key=key))
        return made["UploadId"]

    async def _put_part(self, key: str, upload: str, number: int, content: bytes) -> str:
        if number > MAX_PARTS:
            raise Problem(STORE_FULL)
        answer = await self._ask(
            lambda s3: s3.upload_part(Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=number, Body=content)
        )
        return answer["ETag"]

    async def _parts(self, key: str, upload: str) -> dict[int, str]:
        """Return the tags of the parts that are whole, by their numbers."""
        parts: dict[int, str] = {}
        marker: int | None = 0
        while marker is not None:
            answer = await self._page_of_parts(key, upload, marker)
            found = [each for each in answer.get(PARTS, ()) if each["Size"] == self._part]
            parts |= {each["PartNumber"]: each["ETag"] for each in found}
            marker = int(answer["NextPartNumberMarker"]) if answer["IsTruncated"] else None
        return parts

    async def _page_of_parts(self, key: str, upload: str, after: int) -> "ListPartsOutputTypeDef":
        return await self._ask(
            lambda s3: s3.list_parts(Bucket=self._bucket, Key=key, UploadId=upload, PartNumberMarker=after)
        )

    async def _complete(self, key: str, size: int, tail: bytes) -> None:
        """Make an object of its parts and the tail. Raises Problem(STORE_LOST)."""
        upload = await self._upload(key)
        if upload is None:
            raise Problem(STORE_LOST)
        tags = await self._parts(key, upload)
        count = size // self._part
        if any(number not in tags for number in range(1, count + 1)):
            raise Problem(STORE_LOST)
        chosen = [tags[number] for number in range(1, count + 1)]
        if tail:
            chosen.append(await self._put_part(key, upload, count + 1, tail))
        await self._make_object(key, upload, chosen, size)

    async def _make_object(self, key: str, upload: str, tags: Sequence[str], size: int) -> None:
        """Complete a multipart upload. One that is not there may have been completed by a request without an answer."""
        parts: list[CompletedPartTypeDef] = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
        try:
            await self._ask(
                lambda s3: s3.complete_multipart_upload(
                    Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={PARTS: parts}
                )
            )
        except Problem as problem:
            if problem.code is not STORE_LOST or await self._object_size(key) != size:
                raise

    async def _copy(self, key: str, parts: Sequence[tuple[UUID, int]]) -> None:
        """Have S3 make an object of others."""
        await self._delete_remains(key)
        upload = await self._create_upload(key)
        pieces = [(part, start, stop) for part, size in parts for start, stop in ranges(size)]
        tags = [await self._copy_part(key, upload, number, piece) for number, piece in enumerate(pieces, 1)]
        await self._make_object(key, upload, tags, sum(size for _, size in parts))

    async def _copy_part(self, key: str, upload: str, number: int, piece: tuple[UUID, int, int]) -> str:
        part, start, stop = piece
        answer = await self._ask(
            lambda s3: s3.upload_part_copy(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": key_of(part)},
                CopySourceRange=f"bytes={start}-{stop - 1}",
            )
        )
        return answer["CopyPartResult"]["ETag"]

    async def _delete_remains(self, key: str) -> None:
        """Delete the tails and the multipart uploads of an object that is complete, or unwanted."""
        for upload in await self._uploads(key):
            await self._abort(key, upload)
        is_done = False
        while not is_done:
            answer = await self._ask(lambda s3: s3.list_objects_v2(Bucket=self._bucket, Prefix=f"{key}."))
            for each in answer.get("Contents", ()):
                await self._delete(each["Key"])
            is_done = not answer["IsTruncated"]

    async def _abort(self, key: str, upload: str) -> None:
        with suppress_lost():  # another call has ended it
            await self._ask(lambda s3: s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload))

    async def _delete(self, key: str) -> None:
        await self._ask(lambda s3: s3.delete_object(Bucket=self._bucket, Key=key))


@contextmanager
def suppress_lost() -> Iterator[None]:
    """Go on without what is not there."""
    try:
        yield
    except Problem as problem:
        if problem.code is not STORE_LOST:
            raise


def key_of(name: UUID) -> str:
    """Return the key of a complete object; its tails have a dot and a number behind it."""
    return f"uploads/{name}"


def ranges(size: int) -> list[tuple[int, int]]:
    """Return the ranges of bytes in which S3 copies an object of this size."""
    count = -(-size // MAX_COPY)
    return list(pairwise([size * number // count for number in range(count + 1)]))
