"""Two requests for one upload: leases, crashes, frozen processes, and who may write at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from kit.domain import Domain
from kit.uploads import BOTH, FIRST, SECOND, Body, UploadSite, refused, silent

from callboard.actors.editorial.errors import (
    UPLOADS_LOCKED,
    UPLOADS_OFFSET,
    UPLOADS_TOO_LARGE,
)
from callboard.actors.editorial.upload_records import (
    CompleteUpload,
    Lease,
    ReleaseLease,
    RemoveUpload,
    ReplaceObject,
    SaveProgress,
    TakeLease,
    Upload,
)
from callboard.actors.errors import SERVER_OVERLOADED, SERVER_UNAVAILABLE, Problem


@pytest.fixture
async def site(domain: Domain, tmp_path: Path) -> AsyncIterator[UploadSite]:
    site = UploadSite(domain, tmp_path)
    yield site
    await site.store.close()


@pytest.fixture
async def neighbour(other: Domain, site: UploadSite) -> AsyncIterator[UploadSite]:
    """Another process on the same servers and the same folder."""
    neighbour = UploadSite(other, site.store.folder)
    yield neighbour
    await neighbour.store.close()


async def test_a_request_that_goes_on_ends_one_that_hangs_in_another_process(
    site: UploadSite, neighbour: UploadSite
) -> None:
    """A client that has lost its network comes back, and its first connection is still open."""
    ada = await site.domain.person()
    upload = await site.created(ada)
    hanging = silent(FIRST)
    first = asyncio.create_task(site.write(upload, ada, 0, hanging))
    await hanging.taken.wait()
    await neighbour.seen(upload, ada, len(FIRST))
    done = await neighbour.write(upload, ada, len(FIRST), Body(SECOND))
    assert done.completed_at is not None
    await refused(first, UPLOADS_LOCKED)
    assert await site.bytes_of(upload, ada) == BOTH
    assert done.object_id == upload.object_id  # released in order: nothing was copied


async def test_while_a_lease_is_held_and_not_released_others_are_locked_out(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    await site.uploads.ask(TakeLease(upload.upload_id, ada.user_id, 0))
    await refused(site.write(upload, ada, 0, Body(FIRST)), UPLOADS_LOCKED)
    await refused(site.writer.remove(upload.upload_id, ada.user_id), UPLOADS_LOCKED)


async def test_of_many_at_once_one_writes_and_the_bytes_are_those_of_one(
    site: UploadSite, neighbour: UploadSite
) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    sites: Sequence[UploadSite] = (site, neighbour) * 4
    bodies = [bytes([65 + number]) * len(BOTH) for number in range(8)]
    outcomes = await asyncio.gather(
        *(each.write(upload, ada, 0, Body(data)) for each, data in zip(sites, bodies, strict=True)),
        return_exceptions=True,
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, Upload)]
    codes = {outcome.code for outcome in outcomes if isinstance(outcome, Problem)}
    assert len(won) == 1
    assert codes <= {UPLOADS_OFFSET, UPLOADS_LOCKED, UPLOADS_TOO_LARGE}
    assert await site.bytes_of(upload, ada) in bodies


async def test_after_a_crash_the_next_request_goes_on_in_a_copy(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    await site.write(upload, ada, 0, Body(FIRST))
    await site.uploads.ask(TakeLease(upload.upload_id, ada.user_id, len(FIRST)))  # and its process is killed
    await site.expire_lease(upload)
    done = await site.write(upload, ada, len(FIRST), Body(SECOND))
    assert done.object_id != upload.object_id
    assert await site.bytes_of(upload, ada) == BOTH
    await site.purge()
    assert site.files() == {done.object_id}


async def test_a_process_that_was_frozen_harms_nothing_when_it_goes_on(site: UploadSite, neighbour: UploadSite) -> None:
    """Whatever it still appends, cuts or saves: the upload is in another object by then."""
    ada = await site.domain.person()
    upload = await site.created(ada)
    await site.write(upload, ada, 0, Body(FIRST))
    lease = await site.uploads.ask(TakeLease(upload.upload_id, ada.user_id, len(FIRST)))
    assert isinstance(lease, Lease)
    await site.expire_lease(upload)  # it is frozen here
    await neighbour.write(upload, ada, len(FIRST), Body(SECOND[:4]))

    async def late() -> AsyncIterator[bytes]:
        yield b"from the past"

    await site.store.append(lease.upload.object_id, len(FIRST), late())
    await refused(site.uploads.ask(SaveProgress(lease, len(FIRST) + 13)), UPLOADS_LOCKED)
    await neighbour.write(upload, ada, len(FIRST) + 4, Body(SECOND[4:]))
    assert await site.bytes_of(upload, ada) == BOTH


async def test_an_old_lease_changes_nothing_while_another_is_held(site: UploadSite, neighbour: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    await site.write(upload, ada, 0, Body(FIRST))
    take = TakeLease(upload.upload_id, ada.user_id, len(FIRST))
    old = await site.uploads.ask(take)
    assert isinstance(old, Lease)
    await site.expire_lease(upload)
    new = await neighbour.uploads.ask(take)
    assert isinstance(new, Lease)
    row = "select * from uploads where upload_id = $1"
    before = await site.domain.rows(row, upload.upload_id)
    changes = SaveProgress(old, 1), CompleteUpload(old, "a/b"), ReplaceObject(old, uuid4(), 0), RemoveUpload(old)
    for change in changes:
        await refused(site.uploads.ask(change), UPLOADS_LOCKED)
    await site.uploads.ask(ReleaseLease(old))
    assert await site.domain.rows(row, upload.upload_id) == before
    await neighbour.uploads.ask(ReleaseLease(new))
    for change in (SaveProgress(new, 1), CompleteUpload(new, "a/b"), ReplaceObject(new, uuid4(), 0)):
        await refused(neighbour.uploads.ask(change), UPLOADS_LOCKED)


async def test_an_upload_whose_bytes_are_lost_begins_again(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    await site.write(upload, ada, 0, Body(FIRST))
    await site.uploads.ask(TakeLease(upload.upload_id, ada.user_id, len(FIRST)))
    await site.expire_lease(upload)
    await site.store.delete(upload.object_id)
    await refused(site.write(upload, ada, len(FIRST), Body(SECOND)), UPLOADS_OFFSET)
    await site.write(upload, ada, 0, Body(BOTH))
    assert await site.bytes_of(upload, ada) == BOTH


@pytest.mark.parametrize(("most", "is_same"), [(1, False), (8, True)], ids=["a process", "a user"])
async def test_so_many_write_at_once_and_the_next_is_refused(
    domain: Domain, tmp_path: Path, most: int, *, is_same: bool
) -> None:
    site = UploadSite(domain, tmp_path, most_at_once=most)
    ada, bob = await domain.person(), await domain.person()
    owner = ada if is_same else bob
    upload, another = await site.created(ada), await site.created(owner)
    hanging = silent(FIRST)
    first = asyncio.create_task(site.write(upload, ada, 0, hanging))
    await hanging.taken.wait()
    await refused(site.write(another, owner, 0, Body(BOTH)), SERVER_OVERLOADED)
    if is_same:
        await site.sent(bob, BOTH)
    hanging.more.set()
    await first
    assert (await site.write(another, owner, 0, Body(BOTH))).completed_at is not None
    await site.store.close()


async def test_a_database_that_goes_away_meanwhile_is_said_and_what_counted_counts(site: UploadSite) -> None:
    ada = await site.domain.person()
    upload = await site.created(ada)
    hanging = silent(FIRST)
    first = asyncio.create_task(site.write(upload, ada, 0, hanging))
    await hanging.taken.wait()
    await site.seen(upload, ada, len(FIRST))
    site.domain.database.unavailable.set()
    try:
        await refused(first, SERVER_UNAVAILABLE)
    finally:
        site.domain.database.unavailable.clear()
    await site.expire_lease(upload)
    await site.write(upload, ada, len(FIRST), Body(SECOND))
    assert await site.bytes_of(upload, ada) == BOTH
