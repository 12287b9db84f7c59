"""The search as people use it: words begun or mistyped, marked hits, filters, facets, and queries of every kind."""

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.domain import Domain, refused

from callboard.actors.editorial import content_search
from callboard.actors.editorial.content_queries import CategoryLabel
from callboard.actors.editorial.content_search import CountFacets, FacetValue, SearchContent, SearchResult
from callboard.actors.editorial.errors import SEARCH_FACETS_OFF
from callboard.actors.editorial.workflow_rules import Action, Language
from callboard.actors.infrastructure.feature_flags import FlagName
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.refs import Infrastructure

TAG = "ada's \\ 'own' & 東京:*"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
async def _no_words_of_other_tests(domain: Domain) -> None:
    await domain.execute("delete from search_words")


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


async def insert(domain: Domain, author: Principal, *titles: str, body: str = "", **more: Any) -> None:
    """Published articles, each a day older than the one before, by the triggers alone."""
    for place, title in enumerate(titles):
        await domain.rows(
            "insert into content "
            "(author_id, title, body, published_at, language, category_id, tags, body_html, status) "
            "values ($1, $2, $3, $4, $5, $6, $7, '', 'published')",
            author.user_id,
            title,
            body,
            more.get("at", datetime.now(UTC)) - timedelta(days=place),
            more.get("language", Language.ENGLISH).value,
            more.get("category_id"),
            more.get("tags", []),
        )


async def search(domain: Domain, q: str, **more: Any) -> list[SearchResult]:
    return await domain.content_search.ask(SearchContent(q, **({"limit": 100} | more)))


async def titles(domain: Domain, q: str, **more: Any) -> list[str]:
    return [hit.title for hit in await search(domain, q, **more)]


def switch(domain: Domain, *, on: bool, user_id: UUID | None = None) -> None:
    """Set the flag as the keeper of flags does: for all users, or for one."""
    flags, name = domain.built.refs(Infrastructure).flags, FlagName.ADVANCED_SEARCH.value
    flags.replace({name: on and user_id is None}, {(name, user_id): on} if user_id else {})


# Words begun ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(2, 10))
async def test_a_word_is_found_by_each_of_its_beginnings(domain: Domain, author: Principal, length: int) -> None:
    """Its stem is `migrat`: no search by the stem's beginning finds `migratio`."""
    await insert(domain, author, "Migration", "Lantern")
    assert await titles(domain, "migration"[:length]) == ["Migration"]


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("old lant", ["The old lantern"]),
        ("lant old", []),  # only the last word is unfinished
        ('"old lant"', []),
        ("old -lant", ["The old harbour", "The old lantern"]),
        ("harbour or lant", ["The old harbour", "The old lantern"]),
        ("CAF", ["Cafés by the sea"]),
        ("l", []),
    ],
)
async def test_only_the_last_word_is_completed_and_no_phrase_or_exclusion(
    domain: Domain, author: Principal, q: str, found: list[str]
) -> None:
    await insert(domain, author, "The old lantern", "The old harbour", "Cafés by the sea")
    assert sorted(await titles(domain, q)) == found


async def test_whole_words_rank_above_words_begun(domain: Domain, author: Principal) -> None:
    await insert(domain, author, "Articles", "Art and artists", "Artisans", "Art")
    found = await search(domain, "art")
    assert {hit.title for hit in found[:2]} == {"Art and artists", "Art"}
    assert {hit.title for hit in found[2:]} == {"Articles", "Artisans"}
    assert [hit.rank > 2 for hit in found] == [True, True, False, False]


async def test_newer_words_begun_do_not_hide_an_older_whole_word(
    domain: Domain, author: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, bound in (("RECENT", 10), ("ENOUGH", 5), ("CANDIDATES", 20)):
        monkeypatch.setattr(content_search, name, bound)
    await insert(domain, author, *(f"Artist {number}" for number in range(30)), "Art")
    assert (await titles(domain, "art"))[0] == "Art"


# Typing errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", ["lantren", "lanten", "lanternn", "kantern", "Lantèrm", "lantren harbuor"])
async def test_a_mistyped_word_is_found_while_the_flag_is_on(domain: Domain, author: Principal, q: str) -> None:
    await insert(domain, author, "The lantern of the harbour", "A quay")
    switch(domain, on=False)
    assert await titles(domain, q) == []
    switch(domain, on=True)
    assert await titles(domain, q) == ["The lantern of the harbour"]
    (hit,) = await search(domain, q)
    assert "<mark>lantern</mark>" in hit.title_html
    assert hit.rank < 1


@pytest.mark.parametrize("q", ['"lantren"', "quay -lantren", "caz", "lantrnns"])
async def test_no_phrase_exclusion_or_short_word_is_corrected(domain: Domain, author: Principal, q: str) -> None:
    switch(domain, on=True)
    await insert(domain, author, "The lantern of the quay", "A cab")
    assert await titles(domain, q) in ([], ["The lantern of the quay"])
    assert (await titles(domain, q) == []) is (not q.startswith("quay"))


async def test_the_flag_of_one_user_is_theirs_alone(domain: Domain, author: Principal) -> None:
    switch(domain, on=True, user_id=author.user_id)
    await insert(domain, author, "Lantern")
    assert await titles(domain, "lantren", user_id=author.user_id) == ["Lantern"]
    assert await titles(domain, "lantren", user_id=uuid4()) == []
    assert await titles(domain, "lantren") == []


async def test_a_word_of_a_withdrawn_article_is_forgotten_and_a_used_one_kept(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    gone = await domain.published(author, editor, "Lovelace and the harbour")
    await insert(domain, author, "Harbours")
    await domain.move(gone.content_id, Action.ARCHIVE, editor)
    known = "select word from search_words order by word"
    assert "lovelace" in {row["word"] for row in await domain.rows(known)}
    await domain.clean_up()
    assert "lovelace" in {row["word"] for row in await domain.rows(known)}, "it is not due yet"
    await domain.execute("update search_words set checked_at = now() - interval '8 days'")
    await domain.clean_up()
    assert [row["word"] for row in await domain.rows(known)] == ["harbour", "harbours"]
    assert await domain.value("select min(checked_at) > now() - interval '1 hour' from search_words")


# Marked hits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", ["div", "class", "strong", "href", "example"])
async def test_the_names_and_attributes_of_markup_are_not_searched(domain: Domain, author: Principal, q: str) -> None:
    body = "<div class='lantern'>A <strong>quay</strong> <a href='https://example.org/'>here</a></div>"
    await insert(domain, author, "Title", body=body)
    assert await titles(domain, q) == []
    assert await titles(domain, "quay here") == ["Title"]


async def test_a_hit_is_marked_in_title_and_text_and_never_in_a_tag(domain: Domain, author: Principal) -> None:
    body = "<a href='/lantern' title=lantern>The Lanterns</a> &lt;b&gt; R&amp;D & more"
    await insert(domain, author, "R&D <b> lantern", body=body)
    (hit,) = await search(domain, "lantern d")
    assert hit.title == "R&D <b> lantern"
    assert hit.title_html == "R&amp;<mark>D</mark> &lt;b&gt; <mark>lantern</mark>"
    assert hit.snippet == "The <mark>Lanterns</mark> &lt;b&gt; R&amp;<mark>D</mark> &amp; more"


async def test_a_word_begun_and_every_run_are_marked_too(domain: Domain, author: Principal) -> None:
    await insert(domain, author, "iPhone修理の方法", body="ﾄｳｷｮｳ ﾀﾜｰ と修理、iPhone修理")
    (hit,) = await search(domain, "修理 ipho")
    assert hit.title_html == "<mark>iPhone</mark><mark>修理</mark>の方法"
    assert hit.snippet == "トウキョウ タワー と<mark>修理</mark>、<mark>iPhone</mark><mark>修理</mark>"


@pytest.mark.parametrize(
    ("title", "q"),
    [
        ("\u201cLantern\u201d", "lantern"),
        ("quay\u2014lantern\u2014harbour", "lantern"),
        ("\u00ab\u00a0Lantern\u00a0\u00bb", "lantern"),
        ("Lantern\u2019s end", "lantern"),
        ("Lantern\u2026 and more", "lantern"),
        ("\U0001f3eelantern", "lantern"),
        ("lantern\U0001f3ee", "\U0001f3ee"),
        ("I \u2764\ufe0f lanterns", "\u2764"),
        ("\u300clantern\u300d\u3001harbour", "harbour"),
        ("old lantern", "\u201cold lantern\u201d"),
    ],
)
async def test_no_sign_hides_a_word_beside_it(domain: Domain, author: Principal, title: str, q: str) -> None:
    await insert(domain, author, title, "Old and a lantern\u2014not together" if q[0] == "\u201c" else "A quay")
    assert await titles(domain, q) == [title]
    assert "<mark>" in (await search(domain, q))[0].title_html


async def test_a_snippet_is_made_from_a_bounded_beginning(domain: Domain, author: Principal) -> None:
    await insert(domain, author, "Far", body="<p>" + "word " * 2_000 + "lantern</p>")
    await insert(domain, author, "Near", body="word " * 500 + "lantern " + "word " * 20_000)
    found = {hit.title: hit.snippet for hit in await search(domain, "lantern")}
    assert found["Far"].startswith("word")
    assert "<mark>" not in found["Far"]
    assert "<mark>lantern</mark>" in found["Near"]
    assert max(map(len, found.values())) < 300


# Filters and facets --------------------------------------------------------------------------------------------------


async def test_filters_narrow_a_search_alone_and_together(domain: Domain, author: Principal, editor: Principal) -> None:
    category_id = await domain.value("insert into categories (slug, name) values ('a', 'A') returning category_id")
    await insert(domain, author, "Lantern 1", "Lantern 2", at=LONG_AGO, category_id=category_id)
    await insert(domain, author, "Lantern 3", tags=[TAG, "other"])
    await insert(domain, editor, "Lantern 4", at=LONG_AGO, tags=[TAG])
    by = {
        "author_id": (author.user_id, {"Lantern 1", "Lantern 2", "Lantern 3"}),
        "category_id": (category_id, {"Lantern 1", "Lantern 2"}),
        "since": (LONG_AGO, {"Lantern 1", "Lantern 3", "Lantern 4"}),
        "until": (LONG_AGO, {"Lantern 2"}),
        "category_slug": ("a", {"Lantern 1", "Lantern 2"}),
        "tag": (TAG, {"Lantern 3", "Lantern 4"}),
    }
    assert await titles(domain, "lantern", category_slug="b") == []
    for count in range(4):
        for chosen in itertools.combinations(by, count):
            filters = {name: by[name][0] for name in chosen}
            expected = {f"Lantern {number}" for number in range(1, 5)}.intersection(*(by[name][1] for name in chosen))
            for q in ("lantern", "lante"):
                assert set(await titles(domain, q, **filters)) == expected, (q, chosen)


async def test_an_author_of_few_articles_is_found_among_many_of_others(
    domain: Domain, author: Principal, editor: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, bound in (("RECENT", 5), ("ENOUGH", 5), ("CANDIDATES", 5)):
        monkeypatch.setattr(content_search, name, bound)
    await insert(domain, editor, *(f"Lantern {number}" for number in range(30)))
    await insert(domain, author, "Lantern of old", at=LONG_AGO)
    assert await titles(domain, "lantern", author_id=author.user_id) == ["Lantern of old"]
    assert await titles(domain, "lantern", until=LONG_AGO + timedelta(days=1)) == ["Lantern of old"]


async def test_facets_count_the_matches_by_each_filter(domain: Domain, author: Principal, editor: Principal) -> None:
    switch(domain, on=True)
    category_id = await domain.value("insert into categories (slug, name) values ('a', 'A') returning category_id")
    await insert(domain, author, "Lantern 1", "Lantern 2", category_id=category_id)
    await insert(domain, editor, "Die Laterne lantern", language=Language.GERMAN, tags=["old", "light"])
    await insert(domain, editor, "A quay")
    facets = await domain.content_search.ask(CountFacets("lantern"))
    assert facets.counted == 3
    assert facets.categories == [FacetValue("a", "A", 2)]
    assert [(value.value, value.count) for value in facets.authors] == [
        (str(author.user_id), 2),
        (str(editor.user_id), 1),
    ]
    assert [(value.value, value.count) for value in facets.languages] == [("english", 2), ("german", 1)]
    assert [(value.value, value.count) for value in facets.tags] == [("light", 1), ("old", 1)]
    narrowed = await domain.content_search.ask(CountFacets("lantern", author_id=editor.user_id))
    assert (narrowed.counted, narrowed.categories) == (1, [])


async def test_a_tag_that_goes_or_comes_is_searched_at_once(domain: Domain, author: Principal) -> None:
    await insert(domain, author, "Lantern", tags=["old"])
    assert await titles(domain, "lantern", tag="old") == ["Lantern"]
    await domain.execute("update content set tags = '{new}'")
    assert await titles(domain, "lantern", tag="old") == []
    assert await titles(domain, "lantern", tag="new") == ["Lantern"]
    assert await titles(domain, "lantern", tag="ne") == []


async def test_a_result_carries_what_a_page_shows(domain: Domain, author: Principal) -> None:
    category_id = await domain.value("insert into categories (slug, name) values ('a', 'A') returning category_id")
    await insert(domain, author, "Lantern", category_id=category_id, tags=["old"])
    (hit,) = await search(domain, "lantern")
    assert (hit.author_name, hit.category, hit.tags, hit.comment_count) == (
        "Some One",
        CategoryLabel("a", "A"),
        ("old",),
        0,
    )


async def test_facets_are_refused_while_the_flag_is_off(domain: Domain) -> None:
    switch(domain, on=False)
    with refused(SEARCH_FACETS_OFF):
        await domain.content_search.ask(CountFacets("lantern"))


# Ranking and pages ---------------------------------------------------------------------------------------------------


async def test_a_run_in_the_title_ranks_above_one_in_the_text(domain: Domain, author: Principal) -> None:
    await insert(domain, author, "大阪の城", body="東京タワー")
    await insert(domain, author, "東京タワー", body="大阪の城", at=LONG_AGO)
    assert await titles(domain, "東京") == ["東京タワー", "大阪の城"]


async def test_pages_hold_every_hit_once_in_order_though_ranks_are_equal(domain: Domain, author: Principal) -> None:
    switch(domain, on=True)
    names = ("Lantern", "Lanterns in rows", "Lanternlight", "Lantren", "東京")
    await insert(domain, author, *(title for title in names for _ in range(7)))
    for q in ("lantern", "lanter", "lantrens", "東京", "lantern or 東京"):
        every = [(hit.rank, hit.content_id) for hit in await search(domain, q)]
        assert len(every) >= 7
        assert every == sorted(every, reverse=True)
        seen: list[tuple[float, UUID]] = []
        position: dict[str, Any] = {}
        while page := await search(domain, q, limit=3, **position):
            seen += [(hit.rank, hit.content_id) for hit in page]
            position = {"rank": page[-1].rank, "before_id": page[-1].content_id}
        assert seen == every


QUERIES = [
    "x or and or y", "or", "or or", "x or", '"', '"a', 'a "b', '"" or ""', "-", "- -a", 'star or "', "':*", "a:*",
    "!a & |b", "(a", "<->", "\\", "'", "it's", "\u2033", "\u02bc", "\u00b4 \u0149", "\U0001f3ee", "\u2764\ufe0f x",
    "\u200d", "a\u0301" * 60, "w" * 200, "\ufdfa" * 200, "\u3314" * 200, "東" * 200, "%_", "a" * 199 + "-",
    "the of and", "1e999", "\u0130\u0131", "\ue000mark\ue001", "callboard-piece", "author:x", "category:*",
    "\u0e01\u0e33", "\ufdf2" * 200, "\u00bd" * 200, "\x0e-a", "\U0001f4a1" * 200,
]  # fmt: skip


@pytest.mark.parametrize("q", QUERIES, ids=range(len(QUERIES)))
async def test_no_query_is_an_error_with_every_part_of_the_search_on(domain: Domain, author: Principal, q: str) -> None:
    switch(domain, on=True)
    await insert(domain, author, f"It's a star {q[:20]}"[:200], body=f"<p>{q}</p>", language=Language.TURKISH)
    for hit in await search(domain, q):
        assert hit.rank >= 0
        for html in (hit.title_html, hit.snippet):
            assert "<" not in re.sub("<mark>[^<]+</mark>", "", html)
    await domain.content_search.ask(CountFacets(q))


async def test_what_is_not_published_is_in_no_search_and_no_facet(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    switch(domain, on=True)
    draft = await domain.draft(author, "Lantern")
    for action in (Action.SUBMIT_FOR_REVIEW, Action.APPROVE):
        await domain.move(draft.content_id, action, editor)
        for q in ("lantern", "lant", "lantren"):
            assert await titles(domain, q) == []
    await domain.move(draft.content_id, Action.PUBLISH, editor)
    assert await titles(domain, "lantren") == ["Lantern"]
    await domain.move(draft.content_id, Action.ARCHIVE, editor)
    for q in ("lantern", "lant", "lantren"):
        assert await titles(domain, q) == []
        assert (await domain.content_search.ask(CountFacets(q))).counted == 0
