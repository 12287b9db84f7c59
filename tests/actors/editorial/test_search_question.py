"""Queries as they are typed: which words are looked for, which is unfinished, and which spellings are near."""

import re
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit.property_examples import examples

from callboard.actors.editorial.content_search import months_of
from callboard.actors.editorial.search_question import MAX_QUESTION, MAX_WORDS, UNSPLIT, bounded, is_similar, parse


@pytest.mark.parametrize(
    ("q", "words", "unfinished"),
    [
        ("old lant", ("old", "lant"), "lant"),
        ('"old harbour" lant', ("lant",), "lant"),
        ('lantern "old harb', ("lantern",), None),
        ('lantern "old harbour"', ("lantern",), None),
        ("lantern -qu", ("lantern",), None),
        ("well-kno", ("well", "kno"), "kno"),
        ("lantern or", ("lantern",), None),
        ("x or and or y", ("x", "and", "y"), "y"),
        ("a b a", ("a", "b"), "b"),
        ("c++", ("c",), None),
        ("iPhone修理", ("iPhone",), None),
        ("修理iPho", ("iPho",), "iPho"),
        ("ﬁre", ("fire",), "fire"),
        ('"', (), None),
        ('""', (), None),
        ("- -", (), None),
        ("\U0001f3ee", (), None),
    ],
)
def test_the_last_word_is_unfinished_unless_something_follows_it(
    q: str, words: tuple[str, ...], unfinished: str | None
) -> None:
    question = parse(q)
    assert (question.words, question.unfinished) == (words, unfinished)


@pytest.mark.parametrize(
    ("q", "runs"),
    [("東京 -歴史 tower", ("東京",)), ('"東京タワー"', ("東京タワー",)), ("ﾀﾜｰ", ("タワー",)), ("tower", ())],
)
def test_runs_of_unsplit_scripts_are_required_unless_they_are_excluded(q: str, runs: tuple[str, ...]) -> None:
    assert parse(q).runs == runs


def test_or_stays_between_all_its_words_when_repeated_words_go() -> None:
    assert bounded("a or b or c or a") == "a or b or c or"


@settings(deadline=None, max_examples=examples(200))
@given(st.text(max_size=400))
@example('a "b ' * 60)
def test_every_query_is_bounded_and_every_word_of_it_was_typed(q: str) -> None:
    question = parse(q)
    assert len(question.text) <= MAX_QUESTION
    assert len(question.text.split()) <= MAX_WORDS
    assert question.unfinished is None or question.unfinished in question.words


def test_the_unsplit_scripts_are_those_of_the_schema() -> None:
    schema = (Path(__file__).parents[3] / "schema.sql").read_text(encoding="utf-8")
    body = schema[schema.index("create function unsplit_scripts()") :]
    parts = re.findall(r"'([^']*)'", body[: body.index("$$;")])
    assert "".join(parts).encode().decode("unicode_escape") == UNSPLIT


@pytest.mark.parametrize(
    ("word", "other", "expected"),
    [
        ("lantern", "lantren", True),
        ("lantern", "lanten", True),
        ("lantern", "lanterns", True),
        ("lantern", "kantern", True),
        ("lantern", "lantrrn", True),
        ("lantern", "lantrnns", False),
        ("harbourside", "harburisde", True),
        ("cafe", "cage", True),
        ("cat", "car", False),
        ("cat", "cat", True),
        ("lantern", "", False),
    ],
)
def test_a_spelling_is_near_by_the_length_of_the_word(word: str, other: str, expected: bool) -> None:
    assert is_similar(word, other) is expected


def edits(word: str, other: str) -> int:
    """The optimal string alignment distance, by the table of the textbook."""
    table = [[i + j if not i * j else 0 for j in range(len(other) + 1)] for i in range(len(word) + 1)]
    for i in range(1, len(word) + 1):
        for j in range(1, len(other) + 1):
            cost = word[i - 1] != other[j - 1]
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + cost)
            if i > 1 and j > 1 and word[i - 1] == other[j - 2] and word[i - 2] == other[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


@settings(deadline=None, max_examples=examples(300))
@given(st.text("abc", min_size=8, max_size=10), st.text("abc", min_size=6, max_size=12))
def test_nearness_is_the_number_of_typing_errors(word: str, other: str) -> None:
    assert is_similar(word, other) is (edits(word, other) <= 2)


def test_times_are_the_months_that_they_touch_unless_these_are_many() -> None:
    def months(since: str | None, until: str | None) -> list[int] | None:
        """The months from January 2026 on."""
        found = months_of(*(None if each is None else datetime.fromisoformat(each) for each in (since, until)))
        return None if found is None else [month - 2026 * 12 for month in found]

    assert months("2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z") == [1]
    assert months("2026-01-31T23:30:00-01:00", "2026-03-01T00:00:00Z") == [2]
    assert months("2025-12-31T23:59:59Z", "2026-01-01T00:00:00.000001Z") == [0, 1]
    assert months("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z") == []
    assert months("2024-02-01T00:00:00Z", "2026-02-01T00:00:00Z") is not None
    assert months("2024-01-31T00:00:00Z", "2026-02-01T00:00:00Z") is None
    assert months(None, "2026-01-01T00:00:00Z") is None
    assert months("0001-01-01T00:00:00+00:00", None) is None
    assert months("0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+00:00") == []
