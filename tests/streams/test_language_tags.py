"""The languages of a header Accept-Language, whatever stands in it."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.streams.language_tags import MAX_LANGUAGES, Language, preferred_languages


@pytest.mark.parametrize(
    ("header", "languages"),
    [
        (None, ()),
        ("", ()),
        ("*", ()),
        ("de", ("de",)),
        ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", ("fr-CH", "fr", "en", "de")),
        ("en;q=0.1,de;q=0.9", ("de", "en")),
        ("es, de;q=0.8", ("es", "de")),
        ("de;q=0, en;q=0.000, fr", ("fr",)),
        ("de ; q = 0.5 , fr", ("fr", "de")),
        ("de;Q=1.000", ("de",)),
        ("de;q=1.5, fr;q=x, it;level=1, en", ("en",)),
        ("i-klingon, x-private, a, 12, de_DE, en", ("en",)),
        ("en, de, fr, it, es, nl", ("en", "de", "fr", "it", "es")),
        ("de, de;q=0.1, en;q=0.5", ("de", "en")),
        ("de\r\nBcc: x, en", ("en",)),
        (",,;q=1,de", ("de",)),
        ("de-" + "-".join(["abcdefgh"] * 9), ()),
    ],
)
def test_languages_come_by_their_quality(header: str | None, languages: tuple[str, ...]) -> None:
    assert preferred_languages(header) == languages


@pytest.mark.parametrize("tag", ["de\n", "\nde", "de ", "d\u0435", "de-\u0661\u0662", "de_AT", "", "de-" * 12])
def test_what_only_resembles_a_tag_is_none(tag: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(tag, Language)


@given(
    st.text(max_size=300) | st.lists(st.sampled_from(["de", "en-GB", ";q=0.3", ",", " ", ";", "q=", "*"])).map("".join)
)
def test_any_header_gives_a_few_good_tags(header: str) -> None:
    found = preferred_languages(header)
    assert len(found) <= MAX_LANGUAGES
    assert all(re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", tag) for tag in found)
