"""Uploads on a real database and a real folder: what is written, what breaks off, and concatenation."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from kit.domain import Domain
from kit.uploads import BOTH, FIRST, SECOND, Body, UploadSite, digest, refused

from callboard.actors.editorial.errors import (
    UPLOADS_CHECKSUM,
    UPLOADS_FINAL,
    UPLOADS_OFFSET,
    UPLOADS_PARTS,
    UPLOADS_SIZE,
    UPLOADS_TOO_LARGE,
)
from callboard.actors.editorial.upload_records import (
    NewUpload,
    Upload,
    UploadKind,
)
from callboard.actors.errors import REQUEST_MALFORMED, Problem
from callboard.actors.infrastructure.errors import STORE_FULL, STORE_LOST


@pytest.fixture
async def site(domain: Domain, tmp_path: Path) -> AsyncIterator[UploadSite]:
    site = UploadSite(domain, tmp_path)
    yield site
    await site.store.close()


async def test_an_upload_is_written_in_two_requests_and_its_type_is_that_of_its_bytes(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada, filename="a.txt", declared_type="image/png")
    assert (await site.write(upload, ada, 0, Body(FIRST))).received == len(FIRST)
    assert (await site.read(upload, ada)).completed_at is None
    done = await site.write(upload, ada, len(FIRST), Body(SECOND[:3], SECOND[3:]))
    assert (done.received, done.media_type, done.declared_type) == (len(BOTH), "text/plain", "image/png")
    assert done.completed_at is not None
    assert done.expires_at is None
    assert await site.bytes_of(upload, ada) == BOTH


async def test_progress_is_readable_in_redis_under_the_key_of_the_upload(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    key = f"production:{{callboard}}:uploads:{upload.upload_id}:progress"

    async def shown() -> Any:
        return msgspec.json.decode(await site.domain.cache.send("GET", key))

    assert await shown() == {"offset": 0, "length": len(BOTH), "state": "incomplete"}
    await site.write(upload, ada, 0, Body(FIRST))
    assert await shown() == {"offset": len(FIRST), "length": len(BOTH), "state": "incomplete"}
    await site.write(upload, ada, len(FIRST), Body(SECOND))
    assert await shown() == {"offset": len(BOTH), "length": len(BOTH), "state": "complete"}
    assert 0 < await site.domain.cache.send("TTL", key) <= 24 * 3600
    await site.writer.remove(upload.upload_id, ada.user_id)
    assert await site.domain.cache.send("GET", key) is None


async def test_an_upload_goes_on_though_redis_is_away(site: UploadSite) -> None:
    ada = await site.domain.person()
    site.domain.cache.mark_unavailable(OSError("gone"))
    assert (await site.sent(ada, BOTH)).completed_at is not None


async def test_an_empty_upload_is_complete_with_its_first_request(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.sent(ada, b"")
    assert upload.completed_at is not None
    assert await site.store.size(upload.object_id) == 0


async def test_bytes_are_taken_at_the_offset_and_nowhere_else(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    await site.write(upload, ada, 0, Body(FIRST))
    for offset in (0, len(FIRST) - 1, len(FIRST) + 1, len(BOTH), 1 << 50):
        await refused(site.write(upload, ada, offset, Body(SECOND)), UPLOADS_OFFSET)
    assert await site.bytes_of(upload, ada) == FIRST


async def test_more_bytes_than_were_said_are_refused_and_the_upload_can_go_on(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    await refused(site.write(upload, ada, 0, Body(BOTH, declared=len(BOTH) + 1)), UPLOADS_TOO_LARGE)
    await refused(site.write(upload, ada, 0, Body(BOTH, b"!")), UPLOADS_TOO_LARGE)
    now = await site.read(upload, ada)
    assert now.completed_at is None
    await site.write(upload, ada, now.received, Body(BOTH[now.received :]))
    assert await site.bytes_of(upload, ada) == BOTH


async def test_the_size_may_come_later_and_then_never_changes(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada, None)
    await site.write(upload, ada, 0, Body(FIRST))
    await refused(site.write(upload, ada, len(FIRST), Body(), size=len(FIRST) - 1), UPLOADS_SIZE)
    await refused(site.write(upload, ada, len(FIRST), Body(), size=(10 << 20) + 1), UPLOADS_TOO_LARGE)
    await site.write(upload, ada, len(FIRST), Body(b"s"), size=len(BOTH))
    await refused(site.write(upload, ada, len(FIRST) + 1, Body(), size=len(BOTH) + 1), UPLOADS_SIZE)
    done = await site.write(upload, ada, len(FIRST) + 1, Body(SECOND[1:]), size=len(BOTH))
    assert (done.size, done.completed_at is None) == (len(BOTH), False)


async def test_an_upload_without_a_size_is_complete_when_the_size_comes_after_its_last_byte(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada, None)
    await site.write(upload, ada, 0, Body(BOTH))
    assert (await site.write(upload, ada, len(BOTH), Body(), size=len(BOTH))).completed_at is not None


async def test_a_repeated_last_request_changes_nothing(site: UploadSite) -> None:
    """Its client has lost the response."""
    ada = await site.domain.person()
    upload = await site.sent(ada, BOTH)
    assert await site.write(upload, ada, len(BOTH), Body(declared=0)) == upload
    await refused(site.write(upload, ada, len(BOTH), Body(b"x", declared=1)), UPLOADS_TOO_LARGE)


# Broken requests -----------------------------------------------------------------------------------------------------


async def test_what_came_before_a_request_broke_off_counts(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    await refused(site.write(upload, ada, 0, Body(FIRST, fault=Problem(REQUEST_MALFORMED))), REQUEST_MALFORMED)
    assert (await site.read(upload, ada)).received == len(FIRST)
    await site.write(upload, ada, len(FIRST), Body(SECOND))
    assert await site.bytes_of(upload, ada) == BOTH


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
async def test_bytes_with_another_checksum_are_discarded(site: UploadSite, algorithm: str) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    await site.write(upload, ada, 0, Body(FIRST), checksum=digest(FIRST, algorithm))
    await refused(
        site.write(upload, ada, len(FIRST), Body(SECOND[::-1]), checksum=digest(SECOND, algorithm)), UPLOADS_CHECKSUM
    )
    now = await site.read(upload, ada)
    assert (now.received, await site.store.size(now.object_id)) == (len(FIRST), len(FIRST))
    await site.write(upload, ada, len(FIRST), Body(SECOND), checksum=digest(SECOND, algorithm))
    assert await site.bytes_of(upload, ada) == BOTH


async def test_a_request_with_a_checksum_counts_whole_or_not_at_all(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    broken = Body(FIRST, fault=Problem(REQUEST_MALFORMED))
    await refused(site.write(upload, ada, 0, broken, checksum=digest(BOTH)), REQUEST_MALFORMED)
    assert (await site.read(upload, ada)).received == 0


async def test_a_full_disk_is_said_and_leaves_the_upload_as_it_was(
    site: UploadSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    await site.write(upload, ada, 0, Body(FIRST))

    async def full(*_: object) -> int:
        raise Problem(STORE_FULL)

    with monkeypatch.context() as patch:
        patch.setattr(site.store, "append", full)
        await refused(site.write(upload, ada, len(FIRST), Body(SECOND)), STORE_FULL)
    assert (await site.read(upload, ada)).received == len(FIRST)
    await site.write(upload, ada, len(FIRST), Body(SECOND))  # at once: the lease was released
    assert await site.bytes_of(upload, ada) == BOTH


# Concatenation -------------------------------------------------------------------------------------------------------


def final(*parts: Upload) -> NewUpload:
    return NewUpload(kind=UploadKind.FINAL, parts=tuple(part.upload_id for part in parts))


async def test_a_final_upload_has_the_bytes_of_its_parts_in_order(site: UploadSite) -> None:
    ada = await site.domain.person()
    second, first = [await site.sent(ada, data, UploadKind.PARTIAL) for data in (SECOND, FIRST)]
    upload_id = uuid4()
    done = await site.writer.concatenate(upload_id, ada.user_id, final(first, second), Body())
    assert (done.size, done.received, done.media_type) == (len(BOTH), len(BOTH), "text/plain")
    assert await site.bytes_of(done, ada) == BOTH
    assert await site.writer.concatenate(upload_id, ada.user_id, final(first, second), Body()) == done
    await refused(site.write(done, ada, len(BOTH), Body()), UPLOADS_FINAL)
    lives = "select max(expires_at) <= now() + interval '1 hour' from uploads where kind = 'partial'"
    assert await site.domain.value(lives)


async def test_parts_are_ones_own_complete_and_partial(site: UploadSite) -> None:
    ada, bob = await site.domain.person(), await site.domain.person()
    good = await site.sent(ada, FIRST, UploadKind.PARTIAL)
    whole, others = await site.sent(ada, FIRST), await site.sent(bob, FIRST, UploadKind.PARTIAL)
    incomplete = await site.created(ada, kind=UploadKind.PARTIAL)
    for bad in (whole, others, incomplete):
        await refused(site.writer.concatenate(uuid4(), ada.user_id, final(good, bad), Body()), UPLOADS_PARTS)
    assert await site.domain.value("select count(*) from uploads where kind = 'final'") == 0


@pytest.mark.parametrize("stored", [FIRST[:-1], FIRST + b"!"])
async def test_a_final_upload_of_a_part_that_has_lost_or_won_bytes_is_none(site: UploadSite, stored: bytes) -> None:
    ada = await site.domain.person()
    part, other = [await site.sent(ada, each, UploadKind.PARTIAL) for each in (FIRST, SECOND)]
    site.store.path(part.object_id).write_bytes(stored)
    await refused(site.writer.concatenate(uuid4(), ada.user_id, final(part, other), Body()), STORE_LOST)
    assert await site.domain.value("select count(*) from uploads where kind = 'final'") == 0


async def test_a_final_upload_that_fails_is_none(site: UploadSite, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await site.domain.person()
    part = await site.sent(ada, FIRST, UploadKind.PARTIAL)

    async def full(*_: object) -> int:
        raise Problem(STORE_FULL)

    monkeypatch.setattr(site.store, "concatenate", full)
    await refused(site.writer.concatenate(uuid4(), ada.user_id, final(part), Body()), STORE_FULL)
    assert await site.domain.value("select count(*) from uploads where kind = 'final'") == 0
    assert site.files() == {part.object_id}
