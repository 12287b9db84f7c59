"""The text of an article: kept as sent, made safe beside it, and refused where it would cost too much."""

from typing import Any

import pytest
from kit.domain import Domain, refused

from callboard.actors.editorial.content_search import SearchContent
from callboard.actors.editorial.workflow import Content, Draft, EditContent
from callboard.actors.errors import REQUEST_INVALID
from callboard.actors.infrastructure.principals import Principal, Role


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


async def edit(domain: Domain, content: Content, caller: Principal, **fields: Any) -> Content:
    draft = Draft(**({"title": "Changed", "body": "Changed"} | fields))
    return await domain.content.ask(EditContent(content.content_id, draft, content.version, caller))


HOSTILE = [
    ("<script>alert(1)</script>after", "after"),
    ('<img src=x onerror="alert(1)">', '<img src="x">'),
    ('<a href="javascript:alert(1)">x</a>', '<a rel="noopener noreferrer">x</a>'),
    ("<p style='position:fixed'>x</p>", "<p>x</p>"),
    ("<iframe src=//evil.example></iframe>x", "x"),
    ("<b>bold</b> & <i>slanted</i>", "<b>bold</b> &amp; <i>slanted</i>"),
    ("1 < 2", "1 &lt; 2"),
    ("<svg><style><!--</style><script>alert(1)</script>", ""),
]


@pytest.mark.parametrize(("body", "safe"), HOSTILE)
async def test_markup_is_kept_as_sent_and_made_safe_beside_it(
    domain: Domain, author: Principal, body: str, safe: str
) -> None:
    content = await domain.draft(author, "<script>alert(1)</script>", body)
    assert (content.title, content.body, content.body_html) == ("<script>alert(1)</script>", body, safe)
    content = await edit(domain, content, author, body=body + body)
    assert content.body == body + body
    assert "alert" not in content.body_html.replace('alert(1)"', "")


TOO_MUCH = {
    "nested blocks": "<div>" * 40_000,
    "open formatting": "<p>" + "".join(f"<b a{n}>" for n in range(2_000)) + "<p>x" * 2_000,
    "elements": "<br>" * 50_000,
    "attributes": "<b " + " ".join(f"a{n}" for n in range(30_000)) + ">",
}


@pytest.mark.parametrize("body", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_markup_without_bound_is_a_fault_of_the_body(domain: Domain, author: Principal, body: str) -> None:
    content = await domain.draft(author)
    for attempt in (domain.draft(author, "A title", body), edit(domain, content, author, body=body)):
        with refused(REQUEST_INVALID) as caught:
            await attempt
        assert [detail.field for detail in caught.value.details] == ["body"]
    assert [kind for _, kind, _ in await domain.events()] == ["content.created"]


async def test_markup_within_the_bounds_makes_no_more_html_than_it_is_itself(domain: Domain, author: Principal) -> None:
    body = "<p>" + "".join(f"<b a{n}>" for n in range(90)) + "<p>x" * 4_000
    content = await domain.draft(author, "A title", body)
    assert len(content.body_html) < 3 * len(body)


def wordy() -> str:
    """As many words as a body can hold, all different, of letters of four bytes: PostgreSQL makes three of each."""
    letters = [chr(code) for start, end in ((0x20000, 0x2A6DF), (0x2A700, 0x2EBE0)) for code in range(start, end)]
    pairs = zip(letters, reversed(letters), strict=True)
    return " ".join(f"{first}-{second}" for first, second in pairs)[:200_000]


async def test_of_a_text_of_too_many_words_to_be_searched_the_beginning_is_found(
    domain: Domain, author: Principal
) -> None:
    editor = await domain.person(Role.EDITOR)
    content = await domain.published(author, editor, "A title", ("lantern " + wordy())[:200_000])
    assert [hit.content_id for hit in await domain.content_search.ask(SearchContent("lantern", 10))] == [
        content.content_id
    ]


SLOW_TO_SPLIT = ["a_", "~/", "a-", "a.", "x.y@z.com/", "http://", "1.", "&#1", "<a ", "東京タワー", "🏮"]


@pytest.mark.parametrize("unit", SLOW_TO_SPLIT)
async def test_no_text_costs_the_database_more_than_its_length(domain: Domain, author: Principal, unit: str) -> None:
    """Underscores alone cost PostgreSQL's parser the square of their number: 200,000 characters never ended."""
    editor = await domain.person(Role.EDITOR)
    content = await domain.published(author, editor, "Lantern", (unit * 200_000)[:199_000])
    assert [hit.content_id for hit in await domain.content_search.ask(SearchContent("lantern", 10))] == [
        content.content_id
    ]


async def test_a_text_of_the_largest_size_is_taken(domain: Domain, author: Principal) -> None:
    body = ("word " * 40_000)[:200_000]
    assert (await domain.draft(author, "x" * 200, body)).body == body
    assert (await domain.draft(author, "one word", "x" * 200_000)).body_html == "x" * 200_000
