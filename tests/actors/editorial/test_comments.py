"""Comments: threads that keep their shape, counts that are never wrong, and who may write, edit and delete."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.domain import Domain, refused

from callboard.actors.editorial.comment_moderation import ModerateComment, Moderation
from callboard.actors.editorial.comment_queries import ListComments, ListedComment, ListReplies
from callboard.actors.editorial.comment_rules import Comment
from callboard.actors.editorial.comments import CreateComment, DeleteComment
from callboard.actors.editorial.errors import CONTENT_NOT_FOUND
from callboard.actors.editorial.workflow import Content
from callboard.actors.infrastructure.principals import Principal, Role

FIRST, FIRST_ID = datetime(1, 1, 1, tzinfo=UTC), UUID(int=0)


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


@pytest.fixture
async def article(domain: Domain, author: Principal, editor: Principal) -> Content:
    return await domain.published(author, editor)


async def comment(
    domain: Domain, article: Content, by: Principal, body: str = "Well said", to: Comment | None = None
) -> Comment:
    parent_id = None if to is None else to.comment_id
    return await domain.comments.ask(CreateComment(uuid4(), article.content_id, parent_id, body, by))


async def top(domain: Domain, article: Content, caller: Principal | None, **more: Any) -> list[ListedComment]:
    page = {"limit": 100, "after": FIRST, "after_id": FIRST_ID, "newest_first": False} | more
    return await domain.comment_queries.ask(ListComments(article.content_id, caller, **page))


async def replies(domain: Domain, to: Comment, caller: Principal | None) -> list[ListedComment]:
    return await domain.comment_queries.ask(ListReplies(to.comment_id, caller, 100, FIRST, FIRST_ID))


async def thread(domain: Domain, article: Content, caller: Principal | None) -> list[ListedComment]:
    """All that is listed, depth first."""
    found: list[ListedComment] = []
    waiting = (await top(domain, article, caller))[::-1]
    while waiting:
        found.append(waiting.pop())
        waiting += (await replies(domain, found[-1], caller))[::-1]
    return found


async def visible(domain: Domain, article: Content) -> int:
    query = "select coalesce(max(visible), 0) from comment_counts where content_id = $1"
    return int(await domain.value(query, article.content_id))


# Counts --------------------------------------------------------------------------------------------------------------


async def test_a_count_is_that_of_the_visible_comments_after_each_change(
    domain: Domain, article: Content, author: Principal, editor: Principal
) -> None:
    first = await comment(domain, article, author)
    reply = await comment(domain, article, editor, to=first)
    assert await visible(domain, article) == 2
    await domain.comments.ask(DeleteComment(first.comment_id, author))
    assert await visible(domain, article) == 1
    await domain.comment_moderation.ask(ModerateComment(reply.comment_id, Moderation.HIDE, "spam", editor))
    assert await visible(domain, article) == 0
    assert await thread(domain, article, None) == []
    await domain.comment_moderation.ask(ModerateComment(reply.comment_id, Moderation.SHOW, None, editor))
    assert await visible(domain, article) == 1
    with refused(CONTENT_NOT_FOUND):
        await top(domain, await domain.draft(author), None)
    await domain.execute("update content set status = 'archived'; delete from content")
    assert await domain.value("select count(*) from comments") == await domain.value(
        "select count(*) from comment_counts"
    )
