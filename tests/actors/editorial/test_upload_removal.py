"""Bounds of uploads, their owners, and what is removed when."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from kit.domain import Domain
from kit.uploads import BOTH, FIRST, SECOND, Body, UploadSite, refused

from callboard.actors.editorial import uploads
from callboard.actors.editorial.errors import (
    UPLOADS_NOT_FOUND,
    UPLOADS_PARTS,
    UPLOADS_QUOTA,
    UPLOADS_TOO_LARGE,
    UPLOADS_TYPE,
    UPLOADS_VIDEO,
)
from callboard.actors.editorial.upload_records import (
    CreateUpload,
    ListUploads,
    NewUpload,
    TakeLease,
    Upload,
    UploadBounds,
    UploadKind,
)
from callboard.actors.editorial.upload_removal import EXPIRED
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.errors import QUOTA_RATE, STORE_FULL


@pytest.fixture
async def site(domain: Domain, tmp_path: Path) -> AsyncIterator[UploadSite]:
    site = UploadSite(domain, tmp_path)
    yield site
    await site.store.close()


async def test_sizes_rows_and_bytes_of_a_user_are_bounded_whatever_is_open_counts_whole(domain: Domain) -> None:
    actor = uploads.Uploads(
        domain.database, domain.cache, UploadBounds(max_bytes=60, user_rows=3, user_bytes=100, per_hour=6)
    )
    ada = await domain.person()

    async def create(size: int | None) -> Upload:
        return await actor.create(CreateUpload(uuid4(), ada.user_id, NewUpload(size=size)))

    await refused(create(61), UPLOADS_TOO_LARGE)
    opened = await create(None)  # counts as 60 bytes
    await refused(create(41), UPLOADS_QUOTA)
    await create(40)
    await actor.take_lease(TakeLease(opened.upload_id, ada.user_id, 0, size=10))
    await create(50)
    await refused(create(0), UPLOADS_QUOTA)
    usage = await domain.rows("select upload_rows, upload_bytes from user_usage where user_id = $1", ada.user_id)
    assert usage == [{"upload_rows": 3, "upload_bytes": 100}]
    await domain.execute("delete from uploads")
    usage = await domain.rows("select upload_rows, upload_bytes from user_usage where user_id = $1", ada.user_id)
    assert usage == [{"upload_rows": 0, "upload_bytes": 0}]
    for _ in range(3):
        await create(0)
    await refused(create(0), QUOTA_RATE)  # refused ones count nothing, removed ones do


async def test_simultaneous_creations_do_not_exceed_a_quota_together(site: UploadSite) -> None:
    ada = await site.domain.person()
    await site.domain.rows(
        "insert into user_usage (user_id, upload_bytes) values ($1, $2)", ada.user_id, (1 << 30) - (10 << 20)
    )
    outcomes = await asyncio.gather(*(site.created(ada, 10 << 20) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(each, Upload) for each in outcomes) == 1


async def test_an_upload_is_nobody_elses(site: UploadSite) -> None:
    ada, bob = await site.domain.person(), await site.domain.person()
    upload = await site.created(ada)
    await refused(site.read(upload, bob), UPLOADS_NOT_FOUND)
    await refused(site.write(upload, bob, 0, Body(BOTH)), UPLOADS_NOT_FOUND)
    await refused(site.writer.remove(upload.upload_id, bob.user_id), UPLOADS_NOT_FOUND)
    again = CreateUpload(upload.upload_id, bob.user_id, NewUpload(size=1))
    await refused(site.uploads.ask(again), UPLOADS_NOT_FOUND)
    assert await site.uploads.ask(ListUploads(bob.user_id, 10)) == []
    assert [each.upload_id for each in await site.uploads.ask(ListUploads(ada.user_id, 10))] == [upload.upload_id]


async def test_a_film_is_removed_as_soon_as_its_bytes_say_what_it_is(domain: Domain, tmp_path: Path) -> None:
    site = UploadSite(domain, tmp_path)
    ada = await domain.person()
    await refused(site.sent(ada, b"film of cats"), UPLOADS_VIDEO)
    assert await domain.value("select count(*) from uploads") == 0
    assert site.files() == set()
    open_site = UploadSite(domain, tmp_path, allows_video=lambda user_id: user_id == ada.user_id)
    assert (await open_site.sent(ada, b"film of cats")).media_type == "video/mp4"
    await site.store.close()
    await open_site.store.close()


# Removal -------------------------------------------------------------------------------------------------------------


async def test_a_file_of_a_type_that_is_not_accepted_is_removed_whatever_it_was_called(
    domain: Domain, tmp_path: Path
) -> None:
    ada = await domain.person()
    site = UploadSite(domain, tmp_path / "uploads", types=("image/*", "video/mp4"), allows_video=lambda _user_id: True)
    problem = await refused(site.sent(ada, b"text"), UPLOADS_TYPE)
    assert problem.allowed == ("image/*", "video/mp4")
    assert (site.files(), await domain.value("select count(*) from uploads")) == (set(), 0)
    assert (await site.sent(ada, b"film of cats")).media_type == "video/mp4"
    parts = [await site.sent(ada, part, UploadKind.PARTIAL) for part in (b"te", b"xt")]  # a part has no type yet
    whole = NewUpload(UploadKind.FINAL, parts=tuple(part.upload_id for part in parts))
    await refused(site.writer.concatenate(uuid4(), ada.user_id, whole, Body()), UPLOADS_TYPE)
    assert await domain.value("select count(*) from uploads where kind = 'final'") == 0
    await site.store.close()


async def test_a_removed_upload_takes_its_bytes_with_it(site: UploadSite) -> None:
    ada = await site.domain.person()
    complete, incomplete = await site.sent(ada, BOTH), await site.created(ada)
    await site.write(incomplete, ada, 0, Body(FIRST))
    for upload in (complete, incomplete):
        await site.writer.remove(upload.upload_id, ada.user_id)
        await refused(site.read(upload, ada), UPLOADS_NOT_FOUND)
    assert site.files() == set()
    assert await site.domain.value("select count(*) from discarded_objects") == 0


async def test_incomplete_uploads_are_gone_after_a_day_and_complete_ones_stay(site: UploadSite) -> None:
    ada = await site.domain.person()
    complete, incomplete = await site.sent(ada, BOTH), await site.created(ada)
    part = await site.sent(ada, FIRST, UploadKind.PARTIAL)
    await site.write(incomplete, ada, 0, Body(FIRST))
    await site.domain.execute("update uploads set expires_at = expires_at - interval '24 hours 1 second'")
    for upload in (incomplete, part):
        await refused(site.read(upload, ada), UPLOADS_NOT_FOUND)
    await refused(site.write(incomplete, ada, len(FIRST), Body(SECOND)), UPLOADS_NOT_FOUND)
    (rule,) = [rule for rule in site.domain.rules if rule.name == "uploads"]
    async with site.domain.database.acquire() as connection:
        assert await rule.purge(connection, 1000) == 2
    await site.purge()
    assert site.files() == {complete.object_id}
    assert await site.bytes_of(complete, ada) == BOTH


async def test_an_expired_upload_is_in_no_list_and_no_final_one_and_goes_when_its_writer_has_ended(
    site: UploadSite,
) -> None:
    ada = await site.domain.person()
    part = await site.sent(ada, FIRST, UploadKind.PARTIAL)
    upload = await site.created(ada)
    await site.uploads.ask(TakeLease(upload.upload_id, ada.user_id, 0))
    await site.domain.execute("update uploads set expires_at = now() - interval '1 s'")
    assert await site.uploads.ask(ListUploads(ada.user_id, 10)) == []
    final = NewUpload(UploadKind.FINAL, parts=(part.upload_id,))
    await refused(site.writer.concatenate(uuid4(), ada.user_id, final, Body()), UPLOADS_PARTS)

    async def purged() -> int:
        async with site.domain.database.acquire() as connection:
            return await EXPIRED.purge(connection, 10)

    assert await purged() == 1  # the part: somebody still writes to the other one
    await site.expire_lease(upload)
    assert await purged() == 1


async def test_an_erased_user_leaves_no_file(site: UploadSite) -> None:
    ada, bob = await site.domain.person(), await site.domain.person()
    for owner in (ada, bob):
        await site.sent(owner, BOTH)
    async with site.domain.database.acquire() as connection:
        exported = [
            row async for row in uploads.PERSONAL_DATA.export(connection, user_id=ada.user_id, after=None, limit=9)
        ]
        assert len(exported) == 1
        erase = uploads.PERSONAL_DATA.erase
        assert erase is not None
        assert await erase(connection, user_id=ada.user_id, limit=9) == 1
    await site.purge()
    (left,) = await site.uploads.ask(ListUploads(bob.user_id, 10))
    assert site.files() == {left.object_id}


async def test_objects_that_cannot_be_deleted_now_are_deleted_later(
    site: UploadSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await site.domain.person()
    upload = await site.sent(ada, BOTH)

    async def away(_name: UUID) -> None:
        raise Problem(STORE_FULL)

    with monkeypatch.context() as patch:
        patch.setattr(site.store, "delete", away)
        await site.writer.remove(upload.upload_id, ada.user_id)
        with pytest.raises(Problem):
            await site.purge()
    assert site.files() == {upload.object_id}
    await site.purge()
    assert site.files() == set()
    assert await site.domain.value("select count(*) from discarded_objects") == 0
