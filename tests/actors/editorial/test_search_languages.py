"""Search in many languages and scripts: accents, stems, and words that nothing separates."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit.domain import Domain

from callboard.actors.editorial.content_search import SearchContent, SearchResult
from callboard.actors.editorial.search_question import MAX_QUESTION
from callboard.actors.editorial.workflow import CreateContent, Draft
from callboard.actors.editorial.workflow_rules import Action, Language
from callboard.actors.infrastructure.principals import Principal, Role

TOKYO = "東京タワーの歴史"


async def publish(domain: Domain, title: str, body: str = "", **more: Any) -> None:
    """An article of an author of its own, published by an editor."""
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    content = await domain.draft(author, title, body, **more)
    for action in (Action.SUBMIT_FOR_REVIEW, Action.APPROVE, Action.PUBLISH):
        await domain.move(content.content_id, action, editor)


async def search(domain: Domain, q: str, **more: Any) -> list[SearchResult]:
    return await domain.content_search.ask(SearchContent(q, 10, **more))


async def titles(domain: Domain, q: str) -> set[str]:
    return {hit.title for hit in await search(domain, q)}


@pytest.mark.parametrize(
    ("title", "q"),
    [
        (TOKYO, "東京"),
        (TOKYO, "タワー"),
        (TOKYO, "歴史"),
        (TOKYO, "史"),
        (TOKYO, "東"),
        (TOKYO, TOKYO),
        (TOKYO, "東京 歴史"),
        ("ﾄｳｷｮｳ ﾀﾜｰ", "タワー"),
        ("ガイド", "カ\u3099イト\u3099"),
        ("北京的天气很好", "天气"),
        ("서울의역사", "역사"),
        ("ประวัติศาสตร์ไทย", "ไทย"),
        ("iPhone修理の方法", "iphone 修理"),
        ("𠮷野家の牛丼", "𠮷野"),
        ("Café", "cafe"),
        ("Cafe", "café"),
        ("Cafe\u0301s de Paris", "cafés"),
        ("ŁÓDŹ and Ærø", "lodz aero"),
        ("Straße", "strasse"),
        ("\uff26\uff35\uff2c\uff2c width", "full"),
    ],
)
async def test_a_title_is_found_by_a_word_of_it(domain: Domain, title: str, q: str) -> None:
    await publish(domain, title)
    await publish(domain, "大阪の城 Bistro")
    assert await titles(domain, q) == {title}


@pytest.mark.parametrize("q", ["京東", "東京駅", "-東京", "cafe -東京", "名古屋", "ータ"])
async def test_what_is_not_in_a_title_does_not_find_it(domain: Domain, q: str) -> None:
    await publish(domain, TOKYO + " cafe")
    assert await titles(domain, q) == set()


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("東京 -歴史", {"東京の地図"}),
        ('東京 -"歴史"', {"東京の地図"}),
        ("歴史 or 地図", {"東京の歴史", "東京の地図"}),
        ("歴史 or lantern", {"東京の歴史", "A lantern"}),
        ('lantern or "歴史" -東京', {"A lantern"}),
        ('"東京の歴史"', {"東京の歴史"}),
        ('"a lantern', {"A lantern"}),
        ("東京lantern", set()),
    ],
)
async def test_operators_work_in_unsplit_scripts(domain: Domain, q: str, found: set[str]) -> None:
    for title in ("東京の歴史", "東京の地図", "A lantern"):
        await publish(domain, title)
    assert await titles(domain, q) == found


@pytest.mark.parametrize(
    ("language", "title", "q"),
    [
        (Language.GERMAN, "Die Laternen der Häuser", "laterne"),
        (Language.GERMAN, "Die Laternen der Häuser", "haus"),
        (Language.FRENCH, "Les chevaux et les étés", "cheval"),
        (Language.SPANISH, "Canciones antiguas", "cancion"),
        (Language.ENGLISH, "Running lanterns", "run lantern"),
        (Language.SIMPLE, "the and of", "the"),
    ],
)
async def test_an_article_is_searched_by_the_words_of_its_language(
    domain: Domain, language: Language, title: str, q: str
) -> None:
    await publish(domain, title, language=language)
    assert await titles(domain, q) == {title}
    (hit,) = await search(domain, q)
    assert hit.language is language


async def test_the_snippet_shows_the_word_in_any_script(domain: Domain) -> None:
    await publish(domain, "A guide", "序文。" * 100 + f"<b>{TOKYO}</b>について <script>x</script>")
    await publish(domain, "Coffee", "In the Café we met")
    (hit,) = await search(domain, "東京タワー")
    assert "<mark>東京タワー</mark>の歴史" in hit.snippet
    assert len(hit.snippet) < 400
    (hit,) = await search(domain, "cafe")
    assert "<mark>Café</mark>" in hit.snippet


@pytest.mark.parametrize("q", ["-lantern", "-a -b", '-"a b"', "lantern or -quay", "the", "!!", "-", '""', " "])
async def test_a_question_that_no_index_can_answer_finds_nothing(domain: Domain, q: str) -> None:
    await publish(domain, "A lantern")
    assert await titles(domain, q) == set()


@settings(settings.get_profile("actors"))
@given(
    q=st.one_of(
        st.text(st.sampled_from("-- \"&|!()<>*:'\\ao\n"), max_size=MAX_QUESTION),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=MAX_QUESTION),
        st.text(st.sampled_from('-"&|!()<> '), min_size=1, max_size=3).map(lambda part: part * MAX_QUESTION),
    )
)
@example(q="-" * MAX_QUESTION)
@example(q="- " * MAX_QUESTION)
@example(q='-"" ' * MAX_QUESTION)
@example(q="a " + "-(" * MAX_QUESTION)
async def test_no_query_is_too_much_for_the_parser_of_the_database(domain: Domain, q: str) -> None:
    await search(domain, q)


async def test_a_category_that_goes_or_comes_is_searched_at_once(domain: Domain) -> None:
    category_id = await domain.value("insert into categories (slug, name) values ('a', 'A') returning category_id")
    await publish(domain, "In it", "lantern", category_id=category_id)
    await publish(domain, "Outside", f"lantern category:{category_id}")
    assert [hit.title for hit in await search(domain, "lantern", category_id=category_id)] == ["In it"]
    assert await titles(domain, f"category:{category_id}") <= {"Outside"}
    await domain.execute("delete from categories")
    assert await search(domain, "lantern", category_id=category_id) == []
    assert await titles(domain, "lantern") == {"In it", "Outside"}


async def test_the_languages_of_the_code_are_those_of_the_database(domain: Domain, author: Principal) -> None:
    for language in Language:
        await domain.draft(author, "A title", language=language)
    configs = await domain.rows("select cfgname from pg_ts_config where cfgname like 'callboard%'")
    assert {row["cfgname"] for row in configs} == {f"callboard_{language}" for language in Language}


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


WORD = st.text(st.sampled_from("東京タワーの歴史大阪ab "), min_size=1, max_size=12)


@settings(settings.get_profile("actors"))
@given(WORD, WORD)
async def test_a_run_of_an_unsplit_script_is_found_if_all_pairs_of_it_are_there(
    domain: Domain, text: str, run: str
) -> None:
    run = "".join(each for each in run if each not in "ab ") or "東"
    found = await domain.value(
        "select search_vector('english', $1, '', null) @@ search_query('english', $2)", text, run
    )
    pairs = [run[place : place + 2] for place in range(len(run) - 1)] or [run]
    assert found is all(pair in text for pair in pairs)


async def test_the_vector_is_there_for_published_content_only(domain: Domain, author: Principal) -> None:
    editor = await domain.person(Role.EDITOR)
    content = await domain.content.ask(CreateContent(author.session_id, Draft("Lantern", "Text"), author))
    filled = "select search is not null from content"
    steps = [Action.SUBMIT_FOR_REVIEW, Action.APPROVE, Action.PUBLISH, Action.ARCHIVE]
    seen = [await domain.value(filled)]
    for action in steps:
        await domain.move(content.content_id, action, editor)
        seen.append(await domain.value(filled))
    assert seen == [False, False, False, True, False]
