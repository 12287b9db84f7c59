"""Four eyes: whatever is published has been approved by somebody who neither wrote it nor changed it last."""

from typing import Any

import pytest
from kit.domain import Domain, refused

from callboard.actors.editorial.errors import CONTENT_OWN_REVIEW, CONTENT_STALE
from callboard.actors.editorial.workflow import Content, Draft, EditContent
from callboard.actors.editorial.workflow_rules import Action, Language, Status
from callboard.actors.infrastructure.principals import Principal, Role


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


async def edit(domain: Domain, content: Content, caller: Principal, **fields: Any) -> Content:
    draft = Draft(**({"title": content.title, "body": content.body} | fields))
    return await domain.content.ask(EditContent(content.content_id, draft, content.version, caller))


async def submitted(domain: Domain, content: Content, caller: Principal) -> Content:
    return await domain.move(content.content_id, Action.SUBMIT_FOR_REVIEW, caller)


@pytest.mark.parametrize("role", [Role.EDITOR, Role.ADMIN])
async def test_an_editor_who_rewrites_anothers_draft_does_not_approve_it(
    domain: Domain, author: Principal, editor: Principal, role: Role
) -> None:
    rewriter = await domain.person(role)
    content = await edit(domain, await domain.draft(author), rewriter, body="Mine now")
    assert content.last_edited_by == rewriter.user_id
    await submitted(domain, content, rewriter)
    with refused(CONTENT_OWN_REVIEW):
        await domain.move(content.content_id, Action.APPROVE, rewriter)
    assert (await domain.move(content.content_id, Action.APPROVE, editor)).status is Status.APPROVED
    assert (await domain.move(content.content_id, Action.PUBLISH, rewriter)).status is Status.PUBLISHED


async def test_text_that_its_author_changed_again_may_be_approved_by_the_editor_before(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    content = await edit(domain, await domain.draft(author), editor, title="A better title")
    content = await edit(domain, content, author, body="And a better body")
    await submitted(domain, content, author)
    assert (await domain.move(content.content_id, Action.APPROVE, editor)).status is Status.APPROVED


async def test_saving_without_a_change_does_not_pass_the_text_on_to_another(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    content = await edit(domain, await domain.draft(author), editor, body="By the editor")
    assert await edit(domain, content, author) == content
    await submitted(domain, content, author)
    with refused(CONTENT_OWN_REVIEW):
        await domain.move(content.content_id, Action.APPROVE, editor)


@pytest.mark.parametrize("action", [None, Action.APPROVE])
async def test_an_edit_that_changes_nothing_leaves_state_version_and_events(
    domain: Domain, author: Principal, editor: Principal, action: Action | None
) -> None:
    content = await submitted(domain, await domain.draft(author), author)
    if action is not None:
        content = await domain.move(content.content_id, action, editor)
    before = await domain.events()
    for caller in (author, editor):
        assert await edit(domain, content, caller) == content
    assert await domain.events() == before
    with refused(CONTENT_STALE):
        await domain.content.ask(
            EditContent(content.content_id, Draft(content.title, content.body), content.version - 1, author)
        )


async def test_an_edit_of_anything_sends_approved_content_back(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    category_id = await domain.value("insert into categories (slug, name) values ('a', 'A') returning category_id")
    changes: list[dict[str, Any]] = [
        {"title": "Other"},
        {"body": "Other"},
        {"category_id": category_id},
        {"language": Language.GERMAN},
    ]
    for change in changes:
        content = await domain.draft(author)
        await submitted(domain, content, author)
        content = await domain.move(content.content_id, Action.APPROVE, editor)
        edited = await edit(domain, content, author, **change)
        assert (edited.status, edited.version) == (Status.DRAFT, content.version + 1)
