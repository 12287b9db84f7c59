"""Categories: names and slugs that belong to one, changes that overwrite no other, and deletions of any size."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.domain import Domain, at_once, refused

from callboard.actors.editorial import categories
from callboard.actors.editorial.categories import (
    Categories,
    Category,
    CreateCategory,
    DeleteCategory,
    GetCategory,
    ListCategories,
    ReplaceCategory,
)
from callboard.actors.editorial.category_rules import read_key, read_slug, slugs_for
from callboard.actors.editorial.content_queries import ListContent, ReadContent
from callboard.actors.editorial.errors import (
    CATEGORY_FULL,
    CATEGORY_NAME_TAKEN,
    CATEGORY_NOT_FOUND,
    CATEGORY_SLUG_TAKEN,
    CATEGORY_STALE,
    CONTENT_CATEGORY_UNKNOWN,
)
from callboard.actors.editorial.workflow import DeleteContent
from callboard.actors.infrastructure.principals import Principal, Role

AN_ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


async def create(domain: Domain, editor: Principal, name: str, slug: str | None = None, **more: Any) -> Category:
    return await domain.categories.ask(CreateCategory(more.pop("category_id", uuid4()), name, "", slug, editor))


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Machine Design", "machine-design"),
        ("  Caf\u00e9 \u2014 \u00fcber Stra\u00dfe!  ", "cafe-uber-strasse"),
        ("C++", "c"),
        ("Cool trick \U0001f600", "cool-trick"),
        ("\u0141\u00f3d\u017a & \u00d8resund", "lodz-oresund"),
        ("\uff21\uff22\uff23 \u2460", "abc-1"),
        ("3fa85f64-5717", "3fa85f64-5717"),
        ("a" * 100, "a" * 60),
        ("word " * 20, "word-" * 11 + "word"),
        ("x" * 59 + " yz", "x" * 59),
    ],
)
async def test_a_slug_is_made_from_the_name(domain: Domain, editor: Principal, name: str, slug: str) -> None:
    assert (await create(domain, editor, name)).slug == slug


@pytest.mark.parametrize(
    "name", ["\U0001f600\U0001f389", "\u6771\u4eac", "\u041c\u043e\u0441\u043a\u0432\u0430", "!!!", AN_ID]
)
async def test_a_name_without_latin_letters_and_one_that_is_an_id_get_a_slug_too(
    domain: Domain, editor: Principal, name: str
) -> None:
    category = await create(domain, editor, name)
    assert category.slug.endswith(category.category_id.hex)
    assert await domain.categories.ask(GetCategory(category.slug)) == category


async def test_names_with_the_same_slug_get_numbers_and_then_an_id(domain: Domain, editor: Principal) -> None:
    slugs = [(await create(domain, editor, "C" + "+" * n)).slug for n in range(11)]
    assert slugs[:9] == ["c", *(f"c-{n}" for n in range(2, 10))]
    assert all(slug.startswith("c-") and len(slug) == 34 for slug in slugs[9:])
    won, lost = await at_once(*(create(domain, editor, "D" + "+" * n) for n in range(8)))
    assert (sorted(each.slug for each in won), lost) == (["d", *(f"d-{n}" for n in range(2, 9))], [])


def test_every_slug_that_is_made_is_valid_and_the_last_one_is_the_categorys_own() -> None:
    for name in ("", "-", "a", "A b", "x" * 300, "-" * 300 + "y", f"{AN_ID}", f"z {AN_ID}"):
        slugs = list(slugs_for(name, UUID(AN_ID)))
        assert [read_slug(slug) for slug in slugs] == slugs
        assert slugs[-1].endswith(UUID(AN_ID).hex)


@pytest.mark.parametrize(
    "text",
    [*("", " ", "-", "a-", "-a", "a--b", "a b", "a_b", "caf\u00e9", "news\n", "a/b", "x" * 101, "\u0661", "\u212a")],
)
def test_what_is_no_slug_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be letters"):
        read_slug(text)


def test_a_slug_is_lower_case_and_no_id_and_a_key_may_be_either() -> None:
    assert read_slug("Machine-Design") == "machine-design"
    assert read_key(AN_ID.upper()) == AN_ID
    with pytest.raises(ValueError, match="must not be an id"):
        read_slug(AN_ID)


async def test_a_name_and_a_slug_belong_to_one_category_whatever_their_case(domain: Domain, editor: Principal) -> None:
    await create(domain, editor, "\u00c9tudes", "etudes")
    other = await create(domain, editor, "News")
    with refused(CATEGORY_NAME_TAKEN) as caught:
        await create(domain, editor, "\u00e9TUDES")
    assert [fault.field for fault in caught.value.details] == ["name"]
    for first, same in (("stra\u00dfe", "STRASSE"), ("\u03a3\u0391\u03a3", "\u03c3\u03b1\u03c2"), ("1\u1e9eU", "1ssu")):
        await create(domain, editor, first)
        with refused(CATEGORY_NAME_TAKEN):
            await create(domain, editor, same)
    with refused(CATEGORY_SLUG_TAKEN) as caught:
        await create(domain, editor, "Other", "etudes")
    assert [fault.field for fault in caught.value.details] == ["slug"]
    for name, slug, code in (("\u00e9tudes", None, CATEGORY_NAME_TAKEN), ("News", "etudes", CATEGORY_SLUG_TAKEN)):
        with refused(code):
            await domain.categories.ask(ReplaceCategory(other.slug, name, "", slug, editor))
    assert (await domain.categories.ask(GetCategory("ETUDES"))).name == "\u00c9tudes"


async def test_of_simultaneous_creations_of_one_name_one_wins(domain: Domain, editor: Principal) -> None:
    won, lost = await at_once(*(create(domain, editor, name, f"s{n}") for n, name in enumerate(["a", "A"] * 4)))
    assert len(won) == 1
    assert lost == [CATEGORY_NAME_TAKEN] * 7
    assert len(await domain.events("category.created")) == 1


async def test_there_are_no_more_categories_than_the_settings_allow(domain: Domain, editor: Principal) -> None:
    """Whoever creates them at once, and in whichever process; a deletion makes room."""
    bounded = Categories(domain.database, domain.jobs, most=3)

    def add(name: str) -> Any:
        return bounded.create(CreateCategory(uuid4(), name, "", None, editor))

    won, lost = await at_once(*(add(f"Name {number}") for number in range(6)))
    assert (len(won), lost) == (3, [CATEGORY_FULL] * 3)
    repeated = CreateCategory(won[0].category_id, won[0].name, "", None, editor)
    assert await bounded.create(repeated) == won[0]
    await domain.categories.ask(DeleteCategory(won[0].slug, editor))
    assert (await add("Another")).slug == "another"


async def test_a_repeated_creation_returns_what_the_first_has_made(domain: Domain, editor: Principal) -> None:
    first = await create(domain, editor, "News", category_id=UUID(int=7))
    assert await create(domain, editor, "News", category_id=UUID(int=7)) == first
    assert len(await domain.events("category.created")) == 1


async def test_a_change_keeps_the_slug_and_one_of_an_old_version_is_refused(domain: Domain, editor: Principal) -> None:
    first = await create(domain, editor, "News")
    ask = domain.categories.ask
    second = await ask(ReplaceCategory("news", "Newest", "All of it.", None, editor, tag=first.tag))
    assert (second.slug, second.name, second.description, second.version) == ("news", "Newest", "All of it.", 2)
    assert await ask(ReplaceCategory("news", "Newest", "All of it.", None, editor)) == second
    for message in (
        ReplaceCategory("news", "Other", "", None, editor, tag=first.tag),
        DeleteCategory("news", editor, tag=first.tag),
    ):
        with refused(CATEGORY_STALE):
            await ask(message)
    third = await ask(ReplaceCategory("news", "Newest", "", "latest", editor, tag=second.tag))
    assert (third.slug, third.category_id) == ("latest", first.category_id)
    with refused(CATEGORY_NOT_FOUND):
        await ask(GetCategory("news"))
    types = [(type_, value["slug"], value["version"]) for _, type_, value in await domain.events()]
    assert types == [
        ("category.created", "news", 1),
        ("category.changed", "news", 2),
        ("category.changed", "latest", 3),
    ]


async def test_of_two_simultaneous_changes_of_one_version_one_wins(domain: Domain, editor: Principal) -> None:
    first = await create(domain, editor, "News")
    won, lost = await at_once(
        *(
            domain.categories.ask(ReplaceCategory("news", f"Name {n}", "", None, editor, tag=first.tag))
            for n in range(5)
        )
    )
    assert (len(won), lost) == (1, [CATEGORY_STALE] * 4)


@pytest.mark.parametrize("statement", ["replace_category", "delete_category"])
async def test_a_change_between_the_reading_of_a_category_and_its_writing_is_not_lost(
    domain: Domain, editor: Principal, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    changes = {
        "replace_category": ReplaceCategory("news", "Second", "", None, editor),
        "delete_category": DeleteCategory("news", editor),
    }
    await create(domain, editor, "News")
    write = getattr(categories.QUERIES, statement)

    async def late(connection: Any, **given: Any) -> Any:
        await domain.rows("update categories set name = 'First', version = version + 1")
        return await write(connection, **given)

    monkeypatch.setattr(categories.QUERIES, statement, late)
    with refused(CATEGORY_STALE):
        await domain.categories.ask(changes[statement])
    assert await domain.value("select name from categories where deleted_at is null") == "First"


async def test_a_change_and_deletions_of_one_version_at_once_are_one(domain: Domain, editor: Principal) -> None:
    first = await create(domain, editor, "News")
    deletions = [DeleteCategory("news", editor, tag=first.tag) for _ in range(4)]
    won, lost = await at_once(
        domain.categories.ask(ReplaceCategory("news", "News", "All of it.", None, editor, tag=first.tag)),
        *(domain.categories.ask(each) for each in deletions),
    )
    assert (len(won), len(lost)) == (1, 4)


async def test_a_deleted_category_frees_its_name_at_once_and_its_articles_stay_without_one(
    domain: Domain, editor: Principal
) -> None:
    author = await domain.person()
    old = await create(domain, editor, "News")
    draft = await domain.draft(author, "draft", category_id=old.category_id, tags=("x",))
    published = await domain.published(author, editor, "published", "a lantern")
    await domain.rows(
        "update content set category_id = $1 where content_id = $2", old.category_id, published.content_id
    )
    gone = await domain.draft(author, "gone", category_id=old.category_id)
    await domain.content.ask(DeleteContent(gone.content_id, author))
    await domain.categories.ask(DeleteCategory("news", editor, tag=old.tag))
    assert [value["slug"] for _, _, value in await domain.events("category.deleted")] == ["news"]
    with refused(CATEGORY_NOT_FOUND):
        await domain.categories.ask(GetCategory("news"))
    assert await domain.categories.ask(ListCategories(10)) == []
    assert {entry.category for entry in await domain.content_queries.ask(ListContent(author, 10))} == {None}
    new = await create(domain, editor, "NEWS")
    assert (new.slug, new.tag == old.tag) == ("news", False)
    await domain.work()
    assert await domain.rows("select from categories where category_id = $1", old.category_id) == []
    for before in (draft, published):
        after = await domain.content_queries.ask(ReadContent(before.content_id, author))
        assert (after.category_id, after.status, after.version) == (None, before.status, before.version + 1)
    edited = {value["content_id"] for _, _, value in await domain.events("content.edited")}
    assert edited == {str(each.content_id) for each in (draft, published, gone)}
    assert [entry.title for entry in await domain.content_queries.ask(ListContent(author, 10, tag="x"))] == ["draft"]
    with refused(CONTENT_CATEGORY_UNKNOWN):
        await domain.draft(author, "too late", category_id=old.category_id)


async def test_a_category_of_many_articles_is_removed_in_batches(domain: Domain, editor: Principal) -> None:
    category = await create(domain, editor, "News")
    await domain.rows(
        "insert into content (author_id, category_id, title, body, body_html) "
        "select $1, $2, n::text, '', '' from generate_series(1, 450) as n",
        editor.user_id,
        category.category_id,
    )
    await domain.categories.ask(DeleteCategory("news", editor))
    await domain.work()
    assert await domain.value("select count(*) from content where category_id is not null or version <> 2") == 0
    assert await domain.value("select count(*) from categories") == 0
    assert len(await domain.events("content.edited")) == 450
    assert await domain.value("select count(*) from dead_jobs") == 0


async def test_the_removal_of_a_category_waits_for_articles_that_are_being_edited(
    domain: Domain, editor: Principal
) -> None:
    category = await create(domain, editor, "News")
    await domain.draft(editor, "t", category_id=category.category_id)
    await domain.categories.ask(DeleteCategory("news", editor))
    async with domain.database.transaction() as connection:
        await connection.execute("select from content for update")
        await domain.work()
    assert await domain.value("select last_error from jobs") == "the remaining articles are being edited"
    await domain.rows("update jobs set run_at = now()")
    await domain.work()
    assert await domain.value("select count(*) from categories") == 0


async def test_pages_of_categories_hold_each_once_in_order(domain: Domain) -> None:
    await domain.rows("insert into categories (slug, name) select 's' || n, 'N' || n from generate_series(1, 12) as n")
    every = await domain.categories.ask(ListCategories(100))
    assert [each.slug for each in every] == sorted(f"s{n}" for n in range(1, 13))
    seen, after = [], ""
    while page := await domain.categories.ask(ListCategories(5, after)):
        seen += page
        after = page[-1].slug
    assert seen == every
