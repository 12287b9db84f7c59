"""Attachments and avatars: who may see a file, when it may change, and with what it goes."""

from pathlib import Path
from uuid import UUID, uuid4

import pytest
from kit.domain import Domain, at_once, refused
from kit.uploads import UploadSite

from callboard.actors.editorial.attachments import (
    AttachUpload,
    DetachUpload,
    FindAvatar,
    FindFile,
    ListAttachments,
    RemoveAvatar,
    SetAvatar,
)
from callboard.actors.editorial.errors import (
    ATTACHMENTS_FULL,
    ATTACHMENTS_NOT_DRAFT,
    AVATARS_NOT_FOUND,
    AVATARS_NOT_IMAGE,
    CONTENT_FORBIDDEN,
    CONTENT_NOT_FOUND,
    CONTENT_OWN_REVIEW,
    UPLOADS_NOT_FOUND,
)
from callboard.actors.editorial.media_types import media_type_of
from callboard.actors.editorial.refs import EditorialRefs
from callboard.actors.editorial.upload_records import RemoveUpload, TakeLease, UploadKind
from callboard.actors.editorial.workflow import Content, CreateContent, DeleteContent, Draft, TransitionContent
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.infrastructure.principals import Principal, Role

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 20


class Desk:
    """People, an article and an upload."""

    def __init__(self, domain: Domain, folder: Path) -> None:
        self.domain = domain
        self.site = UploadSite(domain, folder, type_of=media_type_of)
        self.files = domain.built.refs(EditorialRefs).attachments

    async def draft(self, author: Principal) -> Content:
        return await self.domain.content.ask(CreateContent(uuid4(), Draft("t", "b"), author))

    async def move(self, content: Content, *actions: Action, by: Principal) -> None:
        for action in actions:
            await self.domain.content.ask(TransitionContent(content.content_id, action, None, by))

    async def upload(self, owner: Principal, data: bytes = PNG, kind: UploadKind = UploadKind.WHOLE) -> UUID:
        return (await self.site.sent(owner, data, kind)).upload_id

    async def attach(self, content: Content, upload_id: UUID, by: Principal) -> list[UUID]:
        asked = AttachUpload(content.content_id, upload_id, by)
        return [each.upload_id for each in await self.files.ask(asked)]

    async def sees(self, upload_id: UUID, *callers: Principal | None) -> list[bool]:
        found = []
        for caller in callers:
            won, lost = await at_once(self.files.ask(FindFile(upload_id, caller)))
            assert lost in ([], [UPLOADS_NOT_FOUND])
            found.append(bool(won))
        return found


@pytest.fixture
def desk(domain: Domain, tmp_path: Path) -> Desk:
    return Desk(domain, tmp_path / "uploads")


async def test_a_file_is_its_owners_until_its_content_is_published_and_again_when_it_is_archived(
    domain: Domain, desk: Desk
) -> None:
    author, member = await domain.person(), await domain.person()
    editor, second = await domain.person(Role.EDITOR), await domain.person(Role.EDITOR)
    content, upload_id = await desk.draft(author), await desk.upload(author)
    everybody = (author, member, editor, None)
    assert await desk.sees(upload_id, *everybody) == [True, False, False, False]
    await desk.attach(content, upload_id, author)
    assert await desk.sees(upload_id, *everybody) == [True, False, True, False]
    await desk.move(content, Action.SUBMIT_FOR_REVIEW, by=author)
    await desk.move(content, Action.APPROVE, by=second)
    assert await desk.sees(upload_id, *everybody) == [True, False, True, False]
    await desk.move(content, Action.PUBLISH, by=editor)
    assert await desk.sees(upload_id, *everybody) == [True, True, True, True]
    await desk.move(content, Action.ARCHIVE, by=author)
    assert await desk.sees(upload_id, *everybody) == [True, False, True, False]
    await domain.content.ask(DeleteContent(content.content_id, author))
    assert await desk.sees(upload_id, *everybody) == [True, False, False, False]


async def test_a_file_is_not_removed_from_under_an_article_that_is_no_draft(domain: Domain, desk: Desk) -> None:
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    content, upload_id = await desk.draft(author), await desk.upload(author)
    await desk.attach(content, upload_id, author)
    for action, by in ((Action.SUBMIT_FOR_REVIEW, author), (Action.APPROVE, editor), (Action.PUBLISH, editor)):
        await desk.move(content, action, by=by)
        with refused(ATTACHMENTS_NOT_DRAFT):
            await desk.site.writer.remove(upload_id, author.user_id)
    await desk.move(content, Action.ARCHIVE, Action.RESTORE, by=editor)
    await desk.site.writer.remove(upload_id, author.user_id)
    assert await desk.files.ask(ListAttachments(content.content_id, author)) == []


async def test_nobody_downloads_what_is_not_complete_or_only_a_part(domain: Domain, desk: Desk) -> None:
    author = await domain.person()
    incomplete = (await desk.site.created(author)).upload_id
    part = await desk.upload(author, kind=UploadKind.PARTIAL)
    content = await desk.draft(author)
    for upload_id in (incomplete, part, uuid4()):
        assert await desk.sees(upload_id, author) == [False]
        with refused(UPLOADS_NOT_FOUND):
            await desk.attach(content, upload_id, author)


async def test_attachments_change_only_in_drafts_and_who_changes_them_does_not_approve(
    domain: Domain, desk: Desk
) -> None:
    author, editor, second = await domain.person(), await domain.person(Role.EDITOR), await domain.person(Role.EDITOR)
    content = await desk.draft(author)
    first, other = await desk.upload(author), await desk.upload(editor)
    assert await desk.attach(content, first, author) == [first]
    assert await desk.attach(content, first, author) == [first]
    assert await desk.attach(content, other, editor) == [first, other]
    await desk.move(content, Action.SUBMIT_FOR_REVIEW, by=author)
    with refused(CONTENT_OWN_REVIEW):
        await desk.move(content, Action.APPROVE, by=editor)
    for move in (None, Action.APPROVE, Action.PUBLISH, Action.ARCHIVE):
        if move is not None:
            await desk.move(content, move, by=second)
        with refused(ATTACHMENTS_NOT_DRAFT):
            await desk.attach(content, first, author)
        with refused(ATTACHMENTS_NOT_DRAFT):
            await desk.files.ask(DetachUpload(content.content_id, first, author))
    await desk.move(content, Action.RESTORE, by=author)
    await desk.files.ask(DetachUpload(content.content_id, first, author))
    assert [each.upload_id for each in await desk.files.ask(ListAttachments(content.content_id, author))] == [other]
    assert await desk.sees(first, author) == [True]


async def test_who_removes_an_attached_file_has_changed_the_draft_and_does_not_approve_it(
    domain: Domain, desk: Desk
) -> None:
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    content = await desk.draft(author)
    own, other = await desk.upload(author), await desk.upload(editor)
    await desk.attach(content, other, editor)
    await desk.attach(content, own, author)
    late = await desk.site.uploads.ask(TakeLease(own, author.user_id, None))
    await desk.site.writer.remove(other, editor.user_id)
    await desk.move(content, Action.SUBMIT_FOR_REVIEW, by=author)
    with refused(CONTENT_OWN_REVIEW):
        await desk.move(content, Action.APPROVE, by=editor)
    with refused(ATTACHMENTS_NOT_DRAFT):  # its removal began while the article was a draft
        await desk.site.uploads.ask(RemoveUpload(late))
    assert [each.upload_id for each in await desk.files.ask(ListAttachments(content.content_id, author))] == [own]


async def test_nobody_attaches_anothers_file_or_to_anothers_content(domain: Domain, desk: Desk) -> None:
    author, member, editor = await domain.person(), await domain.person(), await domain.person(Role.EDITOR)
    content, mine, theirs = await desk.draft(author), await desk.upload(author), await desk.upload(member)
    with refused(UPLOADS_NOT_FOUND):
        await desk.attach(content, theirs, author)
    with refused(UPLOADS_NOT_FOUND):
        await desk.attach(content, mine, editor)
    with refused(CONTENT_NOT_FOUND):
        await desk.attach(content, theirs, member)
    with refused(CONTENT_NOT_FOUND):
        await desk.files.ask(ListAttachments(content.content_id, member))
    with refused(CONTENT_NOT_FOUND):
        await desk.files.ask(ListAttachments(content.content_id, None))
    await desk.move(content, Action.SUBMIT_FOR_REVIEW, by=author)
    await desk.move(content, Action.APPROVE, Action.PUBLISH, by=editor)
    with refused(CONTENT_FORBIDDEN):
        await desk.attach(content, theirs, member)
    assert await desk.files.ask(ListAttachments(content.content_id, None)) == []


async def test_of_many_at_once_as_many_are_attached_as_there_is_room_for(domain: Domain, desk: Desk) -> None:
    author = await domain.person()
    content = await desk.draft(author)
    uploads = [await desk.upload(author) for _ in range(23)]
    won, lost = await at_once(*(desk.attach(content, each, author) for each in uploads))
    assert (len(won), lost) == (20, [ATTACHMENTS_FULL] * 3)
    assert len(await desk.files.ask(ListAttachments(content.content_id, author))) == 20


async def test_a_file_goes_with_its_last_content_and_an_upload_that_is_removed_leaves_its_content(
    domain: Domain, desk: Desk
) -> None:
    author = await domain.person()
    one, two = await desk.draft(author), await desk.draft(author)
    shared, alone, face, removed = [await desk.upload(author) for _ in range(4)]
    for upload_id in (shared, alone, face, removed):
        await desk.attach(one, upload_id, author)
    await desk.attach(two, shared, author)
    await desk.files.ask(SetAvatar(author.user_id, face))
    await desk.site.writer.remove(removed, author.user_id)
    assert len(await desk.files.ask(ListAttachments(one.content_id, author))) == 3
    await domain.rows("delete from content where content_id = $1", one.content_id)
    left = {row["upload_id"] for row in await domain.rows("select upload_id from uploads")}
    assert left == {shared, face}
    assert len(await domain.rows("select from discarded_objects")) >= 1
    await domain.rows("delete from content where content_id = $1", two.content_id)
    assert [row["upload_id"] for row in await domain.rows("select upload_id from uploads")] == [face]


async def test_an_attached_file_is_not_cleaned_up(domain: Domain, desk: Desk) -> None:
    author = await domain.person()
    content, upload_id = await desk.draft(author), await desk.upload(author)
    await desk.attach(content, upload_id, author)
    await domain.execute(
        "update uploads set created_at = now() - interval '9 days', completed_at = now() - interval '9 days'"
    )
    await domain.clean_up()
    await desk.site.purge()
    file = await desk.files.ask(FindFile(upload_id, author))
    assert b"".join([piece async for piece in desk.site.store.read(file.object_id, 0, file.size)]) == PNG


async def test_an_avatar_is_an_image_of_ones_own_and_seen_by_everybody(domain: Domain, desk: Desk) -> None:
    user, other = await domain.person(), await domain.person()
    face, text = await desk.upload(user), await desk.upload(user, b"<svg onload='alert(1)'/>")
    large = await desk.upload(user, PNG + b"\x00" * (2 << 20))
    for bad in (text, large):
        with refused(AVATARS_NOT_IMAGE):
            await desk.files.ask(SetAvatar(user.user_id, bad))
    with refused(UPLOADS_NOT_FOUND):
        await desk.files.ask(SetAvatar(other.user_id, face))
    with refused(AVATARS_NOT_FOUND):
        await desk.files.ask(FindAvatar(user.user_id))
    await desk.files.ask(SetAvatar(user.user_id, face))
    assert (await desk.files.ask(FindAvatar(user.user_id))).media_type == "image/png"
    assert await desk.sees(face, other, None) == [True, True]
    await desk.files.ask(RemoveAvatar(user.user_id))
    with refused(AVATARS_NOT_FOUND):
        await desk.files.ask(RemoveAvatar(user.user_id))
    assert await desk.sees(face, user, other, None) == [True, False, False]
