"""Profiles: bounded, replaced as a whole, and nobody's who is gone."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.domain import PASSWORD, Domain, at_once, refused

from callboard.actors.errors import REQUEST_INVALID, Problem
from callboard.actors.identity.errors import USERS_NOT_FOUND, USERS_STALE
from callboard.actors.identity.profiles import GetProfile, Profiles, ReplaceProfile, is_web_address, is_within
from callboard.actors.identity.users import DeleteUser, RegisterUser
from callboard.runtime import Props, Ref, System, pool, supervisor

Asked = Ref[GetProfile | ReplaceProfile]


@pytest.fixture
async def profiles(domain: Domain) -> AsyncIterator[Asked]:
    made = pool("profiles", Props(Profiles, domain.database), size=16)
    async with System(supervisor("profiles only", made)):
        yield made


async def somebody(domain: Domain) -> Any:
    return (await domain.users.ask(RegisterUser("ada@example.org", PASSWORD, "Ada", terms_accepted=True))).user_id


async def test_a_profile_begins_empty_and_is_replaced_as_a_whole(domain: Domain, profiles: Asked) -> None:
    user_id = await somebody(domain)
    empty = await profiles.ask(GetProfile(user_id))
    assert (empty.avatar_url, empty.bio, empty.preferences) == (None, None, {})
    preferences = {"theme": "dark", "n": [1, 2.5, None, True, {"ä": "€"}], "big": 10**15}
    put = await profiles.ask(ReplaceProfile(user_id, "https://example.org/a.png", "Hello", preferences))
    assert await profiles.ask(GetProfile(user_id)) == put
    assert put.preferences == preferences
    emptied = await profiles.ask(ReplaceProfile(user_id, None, None, {}))
    assert (emptied.avatar_url, emptied.bio, emptied.preferences) == (None, None, {})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"avatar_url": "javascript:alert(1)"}, "avatar_url"),
        ({"avatar_url": "data:image/png;base64,AA"}, "avatar_url"),
        ({"avatar_url": "https://example.org/" + "x" * 2000}, "avatar_url"),
        ({"bio": "x" * 2001}, "bio"),
        ({"preferences": {"x": "y" * 8192}}, "preferences"),
        ({"preferences": {"a": {"b": {"c": {"d": {"e": {}}}}}}}, "preferences"),
    ],
)
async def test_what_is_too_much_or_no_web_address_is_named(
    domain: Domain, profiles: Asked, change: dict[str, Any], field: str
) -> None:
    user_id = await somebody(domain)
    with refused(REQUEST_INVALID) as caught:
        await profiles.ask(
            ReplaceProfile(**({"user_id": user_id, "avatar_url": None, "bio": None, "preferences": {}} | change))
        )
    assert [detail.field for detail in caught.value.details] == [field]


async def test_of_sixteen_who_replace_one_version_at_once_exactly_one_wins(domain: Domain, profiles: Asked) -> None:
    user_id = await somebody(domain)
    for _ in range(5):
        tag = (await profiles.ask(GetProfile(user_id))).tag
        won, lost = await at_once(*(profiles.ask(ReplaceProfile(user_id, None, str(n), {}, tag)) for n in range(16)))
        assert (len(won), lost) == (1, [USERS_STALE] * 15)


async def test_who_is_unknown_or_deleted_has_none(domain: Domain, profiles: Asked) -> None:
    user_id = await somebody(domain)
    await domain.users.ask(DeleteUser(user_id))
    for gone in (user_id, uuid4()):
        for message in (GetProfile(gone), ReplaceProfile(gone, None, None, {})):
            with refused(USERS_NOT_FOUND):
                await profiles.ask(message)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("https://example.org", True),
        ("HTTP://[::1]:80/a?b#c", True),
        ("https://", False),
        ("//example.org/a", False),
        ("ftp://example.org", False),
        ("https://ada:secret@example.org/", False),
        ("https://example.org/\n", False),
        ("https://exa mple.org/", False),
        ("https://[::1", False),
        ("https://example.org:65535/", True),
        ("https://example.org:65536/", False),
        ("https://example.org:0/", False),
        ("https://example.org:x/", False),
        ("https://example.org:-1/", False),
        ("", False),
    ],
)
def test_an_avatar_is_a_web_address_or_none(text: str, good: bool) -> None:
    assert is_web_address(text) is good


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(-1e9, 1e9)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(settings.get_profile("actors"))
@given(
    preferences=st.dictionaries(
        st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=5), JSON, max_size=3
    )
)
async def test_any_preferences_come_back_as_they_were_given_or_are_refused(
    domain: Domain, profiles: Asked, preferences: dict[str, Any]
) -> None:
    who = await domain.person()
    async with domain.database.acquire() as connection:
        await connection.execute("insert into user_profiles (user_id) values ($1)", who.user_id)
    try:
        put = await profiles.ask(ReplaceProfile(who.user_id, None, None, preferences))
    except Problem:
        assert not is_within(preferences, 5)
    else:
        assert put.preferences == preferences
