"""Differences of texts: nothing is lost, whatever the texts are, and hostile texts cost no more than others."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.property_examples import examples

from callboard.actors.editorial import text_diff
from callboard.actors.editorial.text_diff import MAX_LINES, MAX_READS, Kind, Piece, diff_texts

LINES = st.lists(st.sampled_from(["", "a", "b", "c", "d", "e\r", "\u2028f", "\x0bg"]), max_size=14)


def made(pieces: list[Piece], without: Kind) -> str:
    return "".join(piece.text for piece in pieces if piece.kind is not without)


@settings(max_examples=examples(300), deadline=None)
@given(LINES, LINES)
def test_the_pieces_make_both_texts_again(old: list[str], new: list[str]) -> None:
    before, after = "\n".join(old), "\n".join(new)
    pieces = diff_texts(before, after)
    assert made(pieces, Kind.ADDED) == before
    assert made(pieces, Kind.REMOVED) == after
    assert all(piece.text for piece in pieces)
    assert all(one.kind is not other.kind for one, other in pairwise(pieces))


@pytest.mark.parametrize(
    ("old", "new", "equal"),
    [
        ("a\nb\nc\n", "a\nx\nc\n", ["a\n", "c\n"]),
        ("one\ntwo\nthree", "zero\none\ntwo\nthree", ["one\ntwo\nthree"]),
        ("{\na\n}\n{\nb\n}\n", "{\na\n}\n{\nnew\n}\n{\nb\n}\n", ["{\na\n}\n{\n", "b\n}\n"]),
        ("same", "same", ["same"]),
        ("", "", []),
        ("", "all", []),
    ],
)
def test_lines_that_stayed_are_found(old: str, new: str, equal: list[str]) -> None:
    assert [piece.text for piece in diff_texts(old, new) if piece.kind is Kind.EQUAL] == equal


def test_a_text_with_an_anchor_below_each_anchor_is_read_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is there twice, and once in what is left below the anchor before it."""
    read = 0

    class Counting(Counter[str]):
        def __init__(self, lines: Any) -> None:
            nonlocal read
            read += len(lines)
            super().__init__(lines)

    monkeypatch.setattr(text_diff, "Counter", Counting)
    chain = ["l1", "a1"]
    for k in range(2, 1_000):
        chain += [f"l{k}", f"l{k - 1}"]
    old, new = (
        "\n".join(chain),
        "\n".join(f"{line}\nj{n}" if n % 2 else f"j{n}\n{line}" for n, line in enumerate(chain)),
    )
    pieces = diff_texts(old, new)
    assert 0 < read <= (MAX_READS + 1) * (old.count("\n") + new.count("\n") + 2)
    assert made(pieces, Kind.ADDED) == old


def test_texts_of_too_many_lines_are_compared_as_a_whole() -> None:
    old, new = "a\n" * MAX_LINES, "b\n" + "a\n" * MAX_LINES
    assert diff_texts(old, new) == [Piece(Kind.REMOVED, old), Piece(Kind.ADDED, new)]
    assert diff_texts(old, old) == [Piece(Kind.EQUAL, old)]
