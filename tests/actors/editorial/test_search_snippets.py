"""Snippets: safe as HTML, short, and around the matches."""

import re
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.property_examples import examples

from callboard.actors.editorial.search_snippets import (
    BEGINNING,
    LENGTH,
    marked,
    snippet,
    text_to_highlight,
    title_to_highlight,
)

A, B = "\ue000", "\ue001"


def bare(html: str) -> str:
    return unescape(re.sub("</?mark>", "", html))


@pytest.mark.parametrize(
    ("highlighted", "html"),
    [
        (f"a {A}b{B} c", "a <mark>b</mark> c"),
        (f"{A}a{B} &lt; {A}b{B} &amp;amp;", "<mark>a</mark> &lt; <mark>b</mark> &amp;amp;"),
        (f"{A}a", "a"),
        (f"a{B}", "a"),
        ("", ""),
    ],
)
def test_matches_are_marked_and_all_else_is_text(highlighted: str, html: str) -> None:
    assert marked(highlighted) == html


def test_every_run_of_an_unsplit_script_is_marked_and_overlapping_matches_once() -> None:
    assert marked("東京と東京タワー", ("東京", "京タワー")) == "<mark>東京</mark>と<mark>東京タワー</mark>"


def test_a_snippet_is_where_most_matches_stand_together() -> None:
    text = f"{A}one{B} " + "word " * 200 + f"{A}one{B} {A}two{B} " + "word " * 200
    found = snippet(text)
    assert found.count("<mark>") == 2
    assert found.startswith("… word")
    assert found.endswith("word …")


def test_a_snippet_without_a_match_is_the_beginning() -> None:
    found = snippet("word " * 200)
    assert found.startswith("word")
    assert found.endswith(" …")


def test_no_tag_and_no_half_of_one_is_text() -> None:
    beginning = ("<p title='lantern'>Light</p> &amp; <b>dark</b> " * 200)[:BEGINNING]
    *words, last = text_to_highlight(beginning).split()
    assert set(words) == {"Light", "&amp;", "dark"}
    assert any(word.startswith(last) for word in words)
    assert text_to_highlight("a < b") == "a &lt; b"


def test_what_could_begin_a_tag_is_escaped_for_the_parser() -> None:
    assert title_to_highlight(f"<script> {A}x") == "&lt;script&gt; x"


@settings(deadline=None, max_examples=examples(300))
@given(st.lists(st.sampled_from([A, B, "<b>", "&amp;", "&", "東京", "word ", "\x0f", "'", "x" * 50]), max_size=60))
def test_a_snippet_has_no_markup_but_marks_that_open_and_close(parts: list[str]) -> None:
    for html in (snippet("".join(parts), ("東京",)), marked("".join(parts), ("東京",))):
        assert "<" not in re.sub("<mark>[^<]+</mark>", "", html)
    assert len(bare(snippet("".join(parts), ("東京",)))) <= LENGTH + 4
