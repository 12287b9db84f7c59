"""Comments: who may write, edit, delete and see them, their bounds, and their markup."""

from html.parser import HTMLParser
from uuid import uuid4

import pytest
from kit.domain import Domain, at_once, refused
from kit.remarks import comment, delete, edit, hide, read, replies, show, thread, top, visible

from callboard.actors.editorial.comment_moderation import ModerateComment, Moderation
from callboard.actors.editorial.comment_rules import CommentBounds
from callboard.actors.editorial.comments import MAX_BODY, Comments, CreateComment, DeleteComment, EditComment
from callboard.actors.editorial.errors import (
    COMMENT_CONTENT_UNPUBLISHED,
    COMMENT_EDIT_CLOSED,
    COMMENT_FORBIDDEN,
    COMMENT_NOT_FOUND,
    COMMENT_QUOTA,
    COMMENT_STALE,
    CONTENT_NOT_FOUND,
)
from callboard.actors.editorial.html_sanitizer import HtmlBounds, HtmlSanitizer, sanitize
from callboard.actors.editorial.workflow import Content
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.infrastructure.errors import QUOTA_RATE
from callboard.actors.infrastructure.principals import Principal
from callboard.runtime import Props, System, worker

LATER = "update comments set created_at = created_at - interval '16 minutes'"


# Writing, editing, deleting ------------------------------------------------------------------------------------------


async def test_a_repeated_request_finds_its_comment_and_tells_of_it_once(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    key = uuid4()
    message = CreateComment(key, article.content_id, None, "once", reader)
    won, lost = await at_once(*(domain.comments.ask(message) for _ in range(6)))
    assert lost == []
    assert {each.comment_id for each in won} == {key}
    assert len(await domain.events("comment.created")) == 1
    other = await domain.published(author, editor)
    for stolen in (
        CreateComment(key, article.content_id, None, "stolen", author),
        CreateComment(key, other.content_id, None, "elsewhere", reader),
    ):
        with refused(COMMENT_NOT_FOUND):
            await domain.comments.ask(stolen)
    assert await domain.value("select used from user_rates where name = 'comments'") == 1


async def test_its_author_edits_it_for_fifteen_minutes_and_deletes_it_at_any_time(
    domain: Domain, article: Content, reader: Principal, author: Principal
) -> None:
    made = await comment(domain, article, reader, "before")
    assert made.edited_at is None
    changed = await edit(domain, made, reader, "after")
    assert (changed.body, changed.version, changed.status) == ("after", 2, "visible")
    assert changed.edited_at is not None
    assert await edit(domain, made, reader, "after") == changed
    assert len(await domain.events("comment.edited")) == 1
    for stranger in (author, await domain.person()):
        with refused(COMMENT_FORBIDDEN):
            await edit(domain, made, stranger, "not mine")
        with refused(COMMENT_FORBIDDEN):
            await delete(domain, made, stranger)
    await domain.execute(LATER)
    with refused(COMMENT_EDIT_CLOSED):
        await edit(domain, made, reader, "too late")
    await delete(domain, made, reader)
    with refused(COMMENT_NOT_FOUND):
        await edit(domain, made, reader, "gone")
    with refused(COMMENT_NOT_FOUND):
        await delete(domain, made, reader)
    assert await domain.rows("select * from comment_moderations") == []


async def test_an_editor_edits_and_deletes_at_any_time_and_the_history_says_so(
    domain: Domain, article: Content, reader: Principal, editor: Principal
) -> None:
    made = await comment(domain, article, reader, "rude")
    await domain.execute(LATER)
    assert (await edit(domain, made, editor, "polite")).author_id == reader.user_id
    await delete(domain, made, editor)
    history = await domain.rows("select action, actor_id from comment_moderations order by moderation_id")
    assert [(row["action"], row["actor_id"]) for row in history] == [
        ("edit", editor.user_id),
        ("delete", editor.user_id),
    ]


async def test_of_changes_of_one_version_one_wins_and_one_event_is_written(
    domain: Domain, article: Content, reader: Principal, editor: Principal
) -> None:
    made = await comment(domain, article, reader)
    await edit(domain, made, reader, "second", 1)
    with refused(COMMENT_STALE):
        await edit(domain, made, reader, "from the first", 1)
    with refused(COMMENT_STALE):
        await domain.comments.ask(DeleteComment(made.comment_id, reader, 1))
    with refused(COMMENT_STALE):
        await domain.comment_moderation.ask(ModerateComment(made.comment_id, Moderation.HIDE, "x", editor, 1))
    asks = [domain.comments.ask(EditComment(made.comment_id, f"edit {n}", 2, reader)) for n in range(5)]
    hides = [
        domain.comment_moderation.ask(ModerateComment(made.comment_id, Moderation.HIDE, "x", editor, 2)) for _ in asks
    ]
    won, _ = await at_once(*asks, *hides)
    assert len(won) == 1
    assert len(await domain.events("comment.edited", "comment.hidden")) == 2
    assert await domain.value("select version from comments") == 3


async def test_a_change_and_its_event_come_from_one_transaction(
    domain: Domain, article: Content, reader: Principal, editor: Principal
) -> None:
    made = await comment(domain, article, reader)
    reply = await comment(domain, article, editor, to=made)
    await edit(domain, made, reader, "again")
    await hide(domain, made, editor)
    await show(domain, made, editor)
    await delete(domain, made, editor)
    events = await domain.events()
    told = [(kind, value["version"], value["actor_id"]) for _, kind, value in events if kind.startswith("comment.")]
    hers, theirs = str(reader.user_id), str(editor.user_id)
    assert told == [
        ("comment.created", 1, hers),
        ("comment.created", 1, theirs),
        ("comment.edited", 2, hers),
        ("comment.hidden", 3, theirs),
        ("comment.shown", 4, theirs),
        ("comment.deleted", 5, theirs),
    ]
    values = [value for topic, kind, value in events if kind.startswith("comment.") and topic == "content.v1"]
    assert {value["content_id"] for value in values} == {str(article.content_id)}
    assert [value["parent_id"] for value in values[:2]] == [None, str(made.comment_id)]
    assert [value["comment_id"] for value in values[:2]] == [str(made.comment_id), str(reply.comment_id)]
    assert not any("again" in str(value) for value in values)


# Who sees what -------------------------------------------------------------------------------------------------------


async def test_nobody_comments_on_what_is_not_published_and_its_comments_are_gone_the_moment_it_is_not(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    """A remark on a draft would be public after the publication."""
    draft = await domain.draft(author)
    for caller in (author, editor):
        with refused(COMMENT_CONTENT_UNPUBLISHED):
            await comment(domain, draft, caller)
    with refused(CONTENT_NOT_FOUND):
        await comment(domain, draft, reader)
    made = await comment(domain, article, reader)
    reply = await comment(domain, article, author, to=made)
    await domain.move(article.content_id, Action.ARCHIVE, editor)
    for caller in (None, reader):
        with refused(CONTENT_NOT_FOUND):
            await top(domain, article, caller)
        for each in (read, replies):
            with refused(COMMENT_NOT_FOUND):
                await each(domain, made, caller)
    for change in (edit(domain, made, reader, "x"), delete(domain, made, reader)):
        with refused(COMMENT_NOT_FOUND):
            await change
    for caller in (author, editor):
        assert [each.comment_id for each in await thread(domain, article, caller)] == [
            made.comment_id,
            reply.comment_id,
        ]
        with refused(COMMENT_CONTENT_UNPUBLISHED):
            await comment(domain, article, caller, to=made)
    await domain.execute("update content set deleted_at = now()")
    for caller in (author, editor):
        with refused(CONTENT_NOT_FOUND):
            await top(domain, article, caller)
        with refused(COMMENT_NOT_FOUND):
            await read(domain, made, caller)


async def test_a_hidden_comment_is_for_its_author_and_editors_and_its_author_can_only_delete_it(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    alone, answered = (
        await comment(domain, article, reader, "alone"),
        await comment(domain, article, reader, "answered"),
    )
    await comment(domain, article, author, "an answer", to=answered)
    for each in (alone, answered):
        await hide(domain, each, editor)
    for caller in (None, author):
        tombstone, answer = await thread(domain, article, caller)
        assert (tombstone.status, tombstone.body, tombstone.author_id) == ("hidden", None, None)
        assert answer.body == "an answer"
        with refused(COMMENT_NOT_FOUND):
            await read(domain, alone, caller)
    for caller in (reader, editor):
        assert [each.body for each in await thread(domain, article, caller)] == ["alone", "answered", "an answer"]
        assert (await read(domain, alone, caller)).status == "hidden"
    with refused(COMMENT_EDIT_CLOSED):
        await edit(domain, alone, reader, "nicer")
    await delete(domain, alone, reader)
    assert (await show(domain, answered, editor)).body == "answered"


async def test_a_deleted_user_s_comments_stay_under_another_name(
    domain: Domain, article: Content, reader: Principal
) -> None:
    await comment(domain, article, reader, "I was here")
    await domain.rows("update users set deleted_at = now() where user_id = $1", reader.user_id)
    (shown,) = await top(domain, article, None)
    assert (shown.body, shown.author_name) == ("I was here", "Deleted user")


# Bounds --------------------------------------------------------------------------------------------------------------


async def test_quotas_bound_a_user_s_comments_and_a_refused_one_leaves_nothing(
    domain: Domain, article: Content, reader: Principal, author: Principal
) -> None:
    bounds = CommentBounds(rows=3, per_hour=5)
    node = worker("bounded", Props(Comments, domain.database, HtmlSanitizer(), bounds))
    async with System(node):
        for code in (None, None, None, COMMENT_QUOTA, COMMENT_QUOTA):
            message = CreateComment(uuid4(), article.content_id, None, "more", reader)
            if code is None:
                last = await node.ask(message)
            else:
                with refused(code):
                    await node.ask(message)
        await delete(domain, last, reader)
        await domain.execute("update comments set deleted_at = '2020-01-01' where deleted_at is not null")
        await domain.clean_up()
        await node.ask(CreateComment(uuid4(), article.content_id, None, "room again", reader))
        await domain.execute("update user_rates set used = 5")
        with refused(QUOTA_RATE) as caught:
            await node.ask(CreateComment(uuid4(), article.content_id, None, "too often", reader))
        assert caught.value.retry_after_s is not None
        await node.ask(CreateComment(uuid4(), article.content_id, None, "of another", author))
    assert await visible(domain, article) == 4
    assert len(await domain.events("comment.created")) == 5


HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    '<a href="javascript:alert(1)">x</a>',
    '<a href="&#106;avascript:alert(1)">x</a>',
    "<svg/onload=alert(1)>",
    '<a name="n"\nhref="javascript:alert(1)">x</a>',
    "<p style=background:url(javascript:alert(1))>x",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
]


class Shown(HTMLParser):
    """The tags and attributes that a browser would see."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {tag, *(name for name, _ in attrs)}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "cite")]


@pytest.mark.parametrize("body", HOSTILE)
async def test_markup_is_kept_as_sent_and_shown_without_what_a_browser_would_run(
    domain: Domain, article: Content, reader: Principal, body: str
) -> None:
    made = await comment(domain, article, reader, body)
    assert made.body == body
    shown = Shown(made.body_html or "")
    assert shown.names <= {"a", "b", "img", "p", "table", "src", "title", "rel", "href"}
    assert not any(":" in link for link in shown.links)
    edited = await edit(domain, made, reader, f"<b>{body}")
    assert Shown(edited.body_html or "").names == shown.names | {"b"}


@pytest.mark.parametrize(
    "piece",
    [
        "<a></a>",
        "<a>",
        "<b></b>",
        "&",
        "\u00a0",
        "\U0001f600",
        "<hr>",
        "<li>",
        "<area>",
        '<p title="&">',
        '"',
        "<dt><a>",
    ],
)
def test_no_comment_grows_beyond_what_the_database_takes(piece: str) -> None:
    bounds = HtmlBounds(max_depth=500, max_elements=50_000, max_attributes=100_000)
    shown = sanitize((piece * MAX_BODY)[:MAX_BODY], bounds)
    assert len(shown.encode()) <= 100_000
