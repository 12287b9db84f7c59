"""Threads of comments: lists, numbers of replies and counts that agree after any changes."""

from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.domain import Domain, at_once, refused
from kit.remarks import comment, delete, edit, hide, read, replies, show, thread, top, visible

from callboard.actors.editorial.comment_queries import ListedComment
from callboard.actors.editorial.comment_rules import Comment, CommentBounds, CommentStatus
from callboard.actors.editorial.comments import CreateComment
from callboard.actors.editorial.content_queries import LAST_ID, LATEST
from callboard.actors.editorial.errors import (
    COMMENT_NOT_FOUND,
    COMMENT_PARENT_UNKNOWN,
    COMMENT_TOO_DEEP,
)
from callboard.actors.editorial.workflow import Content
from callboard.actors.infrastructure.principals import Principal, Role


class Model:
    """A thread as it should be: the parent and the state of each comment."""

    def __init__(self) -> None:
        self.parents: dict[UUID, UUID | None] = {}
        self.states: dict[UUID, str] = {}

    def replies(self, key: UUID | None) -> list[UUID]:
        """The direct replies that are listed, in order."""
        return [each for each, parent in self.parents.items() if parent == key and self.is_listed(each)]

    def is_listed(self, key: UUID) -> bool:
        return self.states[key] == "visible" or bool(self.replies(key))

    def thread(self, key: UUID | None = None) -> list[tuple[UUID, str, int]]:
        """All that strangers see, depth first: the state, and the number of replies."""
        found: list[tuple[UUID, str, int]] = []
        for each in self.replies(key):
            found += [(each, self.states[each], len(self.replies(each))), *self.thread(each)]
        return found


@pytest.mark.parametrize("seed", range(3))
async def test_after_any_changes_the_list_the_numbers_of_replies_and_the_count_agree(
    domain: Domain, article: Content, reader: Principal, editor: Principal, seed: int
) -> None:
    """Whoever changes what: the list has what is visible and what has replies, and the count is of what is visible."""
    random, model, comments = Random(seed), Model(), dict[UUID, Comment]()  # noqa: S311 - a test's
    for step in range(40):
        able = {state: [key for key in comments if model.states[key] == state] for state in ("visible", "hidden")}
        kind = random.choice(["add", "reply", "reply", "delete", "hide", "show"])
        wanted = able["hidden" if kind == "show" else "visible"]
        chosen = comments[random.choice(wanted)] if wanted and kind != "add" else None
        if kind in ("add", "reply") or chosen is None:
            parent = chosen if chosen is not None and chosen.depth < CommentBounds().max_depth else None
            made = await comment(domain, article, reader, str(step), parent)
            comments[made.comment_id] = made
            model.parents[made.comment_id], model.states[made.comment_id] = made.parent_id, "visible"
        else:
            change, state = {"delete": (delete, "deleted"), "hide": (hide, "hidden"), "show": (show, "visible")}[kind]
            await change(domain, chosen, editor)
            model.states[chosen.comment_id] = state
    listed = await thread(domain, article, None)
    assert [(each.comment_id, each.status, each.replies) for each in listed] == model.thread()
    assert await visible(domain, article) == sum(each.status == CommentStatus.VISIBLE for each in listed)
    assert await domain.value("select comment_rows from user_usage where user_id = $1", reader.user_id) == len(comments)
    await domain.execute("update content set status = 'archived'; delete from content")
    assert await domain.value("select count(*) from comments") == await domain.value(
        "select count(*) from comment_counts"
    )
    assert await domain.value("select comment_rows from user_usage where user_id = $1", reader.user_id) == 0


async def test_a_deleted_comment_with_replies_stays_without_text_and_author_and_goes_with_its_last_reply(
    domain: Domain, article: Content, reader: Principal, author: Principal
) -> None:
    first = await comment(domain, article, reader, "secret")
    reply = await comment(domain, article, author, "reply", to=first)
    below = await comment(domain, article, reader, "below", to=reply)
    await delete(domain, first, reader)
    for caller in (None, reader, author, await domain.person(Role.ADMIN)):
        tombstone, *others = await thread(domain, article, caller)
        assert (tombstone.comment_id, tombstone.status, tombstone.replies) == (first.comment_id, "deleted", 1)
        assert (tombstone.author_id, tombstone.author_name, tombstone.body, tombstone.body_html) == (None,) * 4
        assert [each.body for each in others] == ["reply", "below"]
        with refused(COMMENT_NOT_FOUND):
            await read(domain, first, caller)
    assert (await edit(domain, reply, author, "still mine")).body == "still mine"
    assert (await comment(domain, article, reader, "more", to=reply)).depth == 2
    await delete(domain, reply, author)
    assert [each.status for each in await thread(domain, article, None)] == ["deleted", "deleted", "visible", "visible"]
    for each in (await thread(domain, article, None))[2:]:
        await delete(domain, each, reader)
    assert below.depth == 2
    assert await thread(domain, article, None) == []
    with refused(COMMENT_NOT_FOUND):
        await replies(domain, first, None)


async def test_only_a_visible_comment_of_the_same_article_can_be_answered(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    elsewhere = await comment(domain, await domain.published(author, editor), reader)
    gone, hidden = await comment(domain, article, reader), await comment(domain, article, reader)
    for each in (gone, hidden):
        await comment(domain, article, author, to=each)
    await delete(domain, gone, reader)
    await hide(domain, hidden, editor)
    for parent_id in (elsewhere.comment_id, gone.comment_id, hidden.comment_id, uuid4()):
        for caller in (reader, editor):
            with refused(COMMENT_PARENT_UNKNOWN) as caught:
                await domain.comments.ask(CreateComment(uuid4(), article.content_id, parent_id, "to nobody", caller))
            assert [each.field for each in caught.value.details] == ["parent_id"]
    assert await visible(domain, article) == 2


async def test_a_thread_has_a_greatest_depth_and_its_deepest_comment_is_found_by_its_id(
    domain: Domain, article: Content, reader: Principal
) -> None:
    last = await comment(domain, article, reader)
    for depth in range(1, CommentBounds().max_depth + 1):
        last = await comment(domain, article, reader, to=last)
        assert last.depth == depth
    with refused(COMMENT_TOO_DEEP):
        await comment(domain, article, reader, to=last)
    assert await read(domain, last, None) == last


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 3])
async def test_pages_hold_every_comment_once_in_order_though_many_have_one_time(
    domain: Domain, article: Content, reader: Principal, newest_first: bool, limit: int
) -> None:
    made = [await comment(domain, article, reader) for _ in range(10)]
    await domain.execute("update comments set created_at = date_trunc('day', created_at)")
    await comment(domain, article, reader, to=made[0])
    position: dict[str, Any] = {"after": LATEST, "after_id": LAST_ID} if newest_first else {}
    every = await top(domain, article, None, newest_first=newest_first, **position)
    seen: list[ListedComment] = []
    while page := await top(domain, article, None, newest_first=newest_first, limit=limit, **position):
        seen += page
        position = {"after": page[-1].created_at, "after_id": page[-1].comment_id}
    assert seen == every
    assert [each.comment_id for each in seen] == sorted((each.comment_id for each in made), reverse=newest_first)


async def test_replies_that_come_at_once_are_all_counted(
    domain: Domain, article: Content, reader: Principal, author: Principal
) -> None:
    first = await comment(domain, article, reader)
    won, lost = await at_once(*(comment(domain, article, each, to=first) for each in [author, reader] * 8))
    assert (len(won), lost) == (16, [])
    assert [each.replies for each in await top(domain, article, None)] == [16]
    assert await visible(domain, article) == 17
    _, lost = await at_once(*(delete(domain, each, reader) for each in won if each.author_id == reader.user_id))
    assert lost == []
    assert [each.replies for each in await top(domain, article, None)] == [8]
    assert await visible(domain, article) == 9
