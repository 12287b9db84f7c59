"""The store in a bucket: what stands in S3 at each moment, and what happens while S3 is away."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from botocore.exceptions import ClientError
from kit.domain import refused
from kit.kept_spans import Kept, keeping_spans
from kit.s3 import PART, SECRET_KEY, S3Server

from callboard.actors.errors import SERVER_UNAVAILABLE, DegradedError, Problem
from callboard.actors.infrastructure import s3_connection
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.department import InfrastructureSettings, store_of
from callboard.actors.infrastructure.errors import STORE_FULL, STORE_LOST
from callboard.actors.infrastructure.s3_connection import S3Settings, fault_of
from callboard.actors.infrastructure.s3_store import MAX_COPY, MAX_PARTS, S3Store, key_of, ranges
from callboard.ops.embedded.data_directory import free_ports
from callboard.runtime import Context, SpanKind, use_context

SECRET = "x" * 32


async def chunks(*given: bytes) -> AsyncIterator[bytes]:
    for each in given:
        yield each


async def whole(store: S3Store, name: UUID, size: int) -> bytes:
    return b"".join([piece async for piece in store.read(name, 0, size)])


@asynccontextmanager
async def opened(store: S3Store) -> AsyncIterator[S3Store]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_another_process_goes_on_where_one_has_ended(s3: S3Server) -> None:
    settings, name = s3.settings(), uuid4()
    pieces = [b"a" * (PART - 1), b"b" * 3, b"c" * (2 * PART), b"d" * (PART - 2)]
    offset = 0
    for piece in pieces:
        async with opened(S3Store(settings, part=PART)) as store:
            assert await store.size(name) == (offset or None)
            offset += await store.append(name, offset, chunks(piece))
    async with opened(S3Store(settings, part=PART)) as store:
        await store.finish(name, offset)
        assert await whole(store, name, offset) == b"".join(pieces)


async def test_a_complete_object_stands_alone_and_a_deleted_one_leaves_nothing(s3: S3Server) -> None:
    settings = s3.settings()
    async with opened(S3Store(settings, part=PART)) as store:
        name, other = uuid4(), uuid4()
        for each in (name, other):
            await store.append(each, 0, chunks(b"a" * (2 * PART + 1)))
            await store.append(each, 2 * PART + 1, chunks(b"b" * PART))
        keys = s3.keys(settings.bucket)
        assert sorted(keys) == sorted(
            f"{before}{key_of(each)}{after}"
            for each in (name, other)
            for before, after in (("", ".2"), ("", ".3"), ("part of ", ""))
        )
        await store.finish(name, 3 * PART + 1)
        await store.delete(other)
        assert s3.keys(settings.bucket) == [key_of(name)]
        small = uuid4()
        await store.append(small, 0, chunks(b"a" * PART))  # a part
        await store.append(small, 0, chunks(b"a"))  # it did not count
        await store.finish(small, 1)
        assert sorted(s3.keys(settings.bucket)) == sorted([key_of(name), key_of(small)])


async def test_parts_that_never_counted_are_in_no_object(bucket: S3Store) -> None:
    name = uuid4()
    await bucket.append(name, 0, chunks(b"x" * (4 * PART + 5)))
    size = 0
    for piece in (b"a" * (PART + 7), b"b" * 9, b"c" * (PART - 17), b"d"):
        size += await bucket.append(name, size, chunks(piece))
    await bucket.finish(name, size)
    assert await whole(bucket, name, size) == b"a" * (PART + 7) + b"b" * 9 + b"c" * (PART - 17) + b"d"


async def test_an_answer_that_was_lost_does_not_lose_the_object(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(s3.store()) as store:
        name = uuid4()
        await store.append(name, 0, chunks(b"a" * (PART + 1)))
        client = store._connection._client
        assert client is not None
        complete = client.complete_multipart_upload

        async def twice(**arguments: object) -> object:
            await complete(**arguments)
            return await complete(**arguments)  # as botocore does after a time-out

        monkeypatch.setattr(client, "complete_multipart_upload", twice)
        await store.finish(name, PART + 1)
        assert await whole(store, name, PART + 1) == b"a" * (PART + 1)


async def test_more_parts_than_s3_takes_are_refused(bucket: S3Store) -> None:
    with refused(STORE_FULL):
        await bucket._put_part(key_of(uuid4()), "upload", MAX_PARTS + 1, b"a")


@pytest.mark.parametrize("size", [1, MAX_COPY, MAX_COPY + 1, 49_999 << 20])
def test_ranges_of_a_copy_are_neither_too_large_nor_too_small(size: int) -> None:
    found = ranges(size)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == size
    assert all(stop - start <= MAX_COPY for start, stop in found)
    assert all(stop - start >= 5 << 20 for start, stop in found[:-1])


async def test_while_s3_is_away_calls_are_refused_at_once_and_one_probes_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, connected = 0.0, 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = S3Settings("bucket", "us-east-1", f"http://127.0.0.1:{port}", "key", SECRET_KEY)
    async with server, opened(S3Store(settings)) as store:
        monkeypatch.setattr(store._connection.breaker, "clock", lambda: now)
        with refused(SERVER_UNAVAILABLE):
            await store.append(uuid4(), 0, chunks(b"a"))
        first = connected
        assert 1 <= first <= 4
        for _ in range(20):
            with refused(SERVER_UNAVAILABLE):
                await store.append(uuid4(), 0, chunks(b"a"))
            with refused(SERVER_UNAVAILABLE):
                await store.size(uuid4())
        with pytest.raises(DegradedError, match="bucket: "):
            await store.check()
        assert connected == first
        now = 1.3
        for _ in range(5):
            with refused(SERVER_UNAVAILABLE):
                await store.size(uuid4())
        assert first < connected <= 2 * first
    logged = [record.getMessage() for record in caplog.records if "the bucket" in record.getMessage()]
    assert 0 < len(logged) == len(set(logged))
    assert SECRET_KEY not in caplog.text
    assert str(port) not in "".join(logged)


async def test_behind_calls_that_hang_the_others_wait_once_and_then_none_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail without the breaker: each turn of the calls at once waited anew."""
    connected = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        await reader.read()
        writer.close()

    monkeypatch.setattr(s3_connection, "READ_S", 0.05)
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    settings = S3Settings(
        "bucket", "us-east-1", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "key", SECRET_KEY
    )
    async with server, opened(S3Store(settings)) as store:
        monkeypatch.setattr(store._connection.breaker, "clock", lambda: 0.0)
        found = await asyncio.gather(*(store.size(uuid4()) for _ in range(100)), return_exceptions=True)
    assert {type(each) for each in found} == {Problem}
    assert {each.code for each in found if isinstance(each, Problem)} == {SERVER_UNAVAILABLE}
    assert connected <= 2 * store._connection._most


async def test_a_bucket_that_is_not_there_is_named(s3: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(S3Store(s3.settings("no-such-bucket"))) as store:
        with pytest.raises(DegradedError, match="no-such-bucket: there is no such bucket"):
            await store.check()
        with refused(SERVER_UNAVAILABLE):
            await store.append(uuid4(), 0, chunks(b"a"))
    assert "the bucket no-such-bucket is unavailable: NoSuchBucket" in caplog.text


async def test_what_is_missing_opens_no_breaker(bucket: S3Store) -> None:
    for _ in range(5):
        with refused(STORE_LOST):
            await whole(bucket, uuid4(), 1)
    name = uuid4()
    assert await bucket.append(name, 0, chunks(b"a")) == 1


@pytest.mark.parametrize(
    ("code", "status", "is_fault"),
    [
        ("InvalidRequest", 400, False),
        ("EntityTooLarge", 400, False),
        ("PreconditionFailed", 412, False),
        ("NoSuchKey", 404, False),
        ("QuotaExceeded", 507, False),
        ("RequestTimeout", 400, True),
        ("AccessDenied", 403, True),
        ("NoSuchBucket", 404, True),
        ("TooManyRequests", 429, True),
        ("SlowDown", 503, True),
        ("InternalError", 500, True),
    ],
)
def test_a_wrong_request_is_no_fault_of_the_bucket(code: str, status: int, is_fault: bool) -> None:
    parsed: Any = {"Error": {"Code": code, "Message": "so"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert fault_of(ClientError(parsed, "PutObject")) == (f"{code}: so" if is_fault else "")


async def test_a_reader_that_waits_holds_no_call(bucket: S3Store) -> None:
    name = uuid4()
    await bucket.append(name, 0, chunks(b"a" * 10))
    await bucket.finish(name, 10)
    readers = [bucket.read(name, 0, 10) for _ in range(40)]
    for reader in readers:
        assert await anext(reader) == b"a" * 10
    assert bucket._connection.breaker.running == 0
    assert await bucket.size(name) == 10


def test_a_bucket_is_chosen_by_its_setting_and_its_library_imported_then() -> None:
    program = f"""
import sys
from callboard.actors.infrastructure.department import InfrastructureSettings, store_of
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
store_of(InfrastructureSettings(jwt_secret_key={SECRET!r}), CircuitBreaker("s3"))
assert not any(name.startswith(("aiobotocore", "botocore")) for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)  # noqa: S603 - a program of ours


def test_a_half_of_a_key_and_a_missing_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="must be set together"):
        InfrastructureSettings(jwt_secret_key=SECRET, aws_s3_bucket="uploads", aws_access_key_id="key")
    monkeypatch.setattr("callboard.actors.infrastructure.department.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"callboard\[s3\]"):
        InfrastructureSettings(jwt_secret_key=SECRET, aws_s3_bucket="uploads")


def test_no_repr_shows_the_secret() -> None:
    key = {"aws_access_key_id": "key", "aws_secret_access_key": SECRET_KEY}
    settings = InfrastructureSettings(jwt_secret_key=SECRET, aws_s3_bucket="uploads", **key)
    store = store_of(settings, CircuitBreaker("s3"))
    assert isinstance(store, S3Store)
    for each in (settings, store, store._connection, store._connection.settings):
        assert SECRET_KEY not in repr(each)


# Traces --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept() -> Iterator[Kept]:
    with keeping_spans() as recorder:
        yield recorder


async def test_each_call_of_s3_is_a_span_below_its_cause_without_names_or_keys(s3: S3Server, kept: Kept) -> None:
    name, trace, caller = uuid4(), "1" * 32, "2" * 16
    store = s3.store()
    async with opened(store):
        with use_context(Context(f"00-{trace}-{caller}-01")):
            await store.append(name, 0, chunks(b"a" * (PART + 1)))
            await store.finish(name, PART + 1)
            assert await whole(store, name, PART + 1) == b"a" * (PART + 1)
        seen = {span.name for span in kept.spans}
        assert {"EXT s3 CreateMultipartUpload", "EXT s3 UploadPart", "EXT s3 CompleteMultipartUpload"} <= seen
        assert "EXT s3 GetObject" in seen
        for span in kept.spans:
            assert (span.traceparent[3:35], span.parent_id, span.kind) == (trace, caller, SpanKind.CLIENT)
            assert span.ended_ns >= span.started_ns
            assert str(name) not in repr(span.attributes)
        kept.spans.clear()
        assert await store.size(uuid4()) is None
        assert kept.spans == [], "outside of a trace there is none"


async def test_a_call_that_fails_is_a_span_with_the_type_of_its_error(kept: Kept) -> None:
    nowhere = S3Settings("bucket", "us-east-1", f"http://127.0.0.1:{free_ports(1)[0]}", "id", SECRET_KEY)
    async with opened(S3Store(nowhere)) as store:
        with use_context(Context(f"00-{'1' * 32}-{'2' * 16}-01")), refused(SERVER_UNAVAILABLE):
            await store.size(uuid4())
    assert {(span.name[:6], span.error) for span in kept.spans} == {("EXT s3", "EndpointConnectionError")}
    assert SECRET_KEY not in repr([span.attributes for span in kept.spans])
