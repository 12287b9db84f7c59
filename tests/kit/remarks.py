"""Comments, as tests write, change and read them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from callboard.actors.editorial.comment_moderation import ModerateComment, Moderation
from callboard.actors.editorial.comment_queries import ListComments, ListedComment, ListReplies, ReadComment
from callboard.actors.editorial.comment_rules import Comment
from callboard.actors.editorial.comments import CreateComment, DeleteComment, EditComment
from callboard.actors.editorial.workflow import Content
from callboard.actors.infrastructure.principals import Principal
from kit.domain import Domain

FIRST, FIRST_ID = datetime(1, 1, 1, tzinfo=UTC), UUID(int=0)


async def comment(
    domain: Domain, article: Content, by: Principal, body: str = "Well said", to: Comment | None = None
) -> Comment:
    parent_id = None if to is None else to.comment_id
    return await domain.comments.ask(CreateComment(uuid4(), article.content_id, parent_id, body, by))


async def edit(domain: Domain, of: Comment, by: Principal, body: str, version: int | None = None) -> Comment:
    return await domain.comments.ask(EditComment(of.comment_id, body, version, by))


async def delete(domain: Domain, of: Comment, by: Principal) -> None:
    await domain.comments.ask(DeleteComment(of.comment_id, by))


async def hide(domain: Domain, of: Comment, by: Principal, reason: str | None = None) -> Comment:
    return await domain.comment_moderation.ask(ModerateComment(of.comment_id, Moderation.HIDE, reason, by))


async def show(domain: Domain, of: Comment, by: Principal, reason: str | None = None) -> Comment:
    return await domain.comment_moderation.ask(ModerateComment(of.comment_id, Moderation.SHOW, reason, by))


async def read(domain: Domain, of: Comment, caller: Principal | None) -> Comment:
    return await domain.comment_queries.ask(ReadComment(of.comment_id, caller))


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
