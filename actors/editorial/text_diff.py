"""Differences of two texts, line by line, at a bounded cost.

Lines that each text has once are anchors (patience diff): between two neighbouring anchors that keep their order, the
texts are compared again. Where no anchor is left, the old lines are removed and the new ones added. So are texts of too
many lines, and what is left once the comparison has read each line too often: hostile texts can have an anchor a line,
one below the other.
"""

from bisect import bisect_left
from collections import Counter
from enum import StrEnum
from itertools import pairwise

import msgspec

MAX_LINES = 5_000  # of both texts together
MAX_READS = 6  # of each line

Lines = list[str]
Span = tuple[int, int]


class Kind(StrEnum):
    """The fate of a piece of text."""

    EQUAL = "equal"
    REMOVED = "removed"
    ADDED = "added"


class Piece(msgspec.Struct, frozen=True):
    """Neighbouring lines of one fate, with their line ends."""

    kind: Kind
    text: str


def diff_texts(old: str, new: str) -> list[Piece]:
    """Return the pieces in order: without the added ones they make the old text, without the removed ones the new."""
    if old == new or old.count("\n") + new.count("\n") > MAX_LINES:
        before, after = [old] if old else [], [new] if new else []
    else:
        before, after = _lines(old), _lines(new)
    pieces: list[tuple[Kind, str]] = []
    at_old = at_new = 0
    for start_old, start_new, size in _matches(before, after):
        pieces += _replaced(before[at_old:start_old], after[at_new:start_new])
        pieces.append((Kind.EQUAL, "".join(before[start_old : start_old + size])))
        at_old, at_new = start_old + size, start_new + size
    pieces += _replaced(before[at_old:], after[at_new:])
    return _joined(pieces)


def _lines(text: str) -> Lines:
    *lines, last = text.split("\n")
    return [f"{line}\n" for line in lines] + ([last] if last else [])


def _replaced(old: Lines, new: Lines) -> list[tuple[Kind, str]]:
    return [(kind, "".join(lines)) for kind, lines in ((Kind.REMOVED, old), (Kind.ADDED, new)) if lines]


def _joined(pieces: list[tuple[Kind, str]]) -> list[Piece]:
    """Join neighbours of one kind."""
    texts: list[tuple[Kind, list[str]]] = []
    for kind, text in pieces:
        if texts and texts[-1][0] is kind:
            texts[-1][1].append(text)
        else:
            texts.append((kind, [text]))
    return [Piece(kind, "".join(parts)) for kind, parts in texts]


def _matches(old: Lines, new: Lines) -> list[tuple[int, int, int]]:
    """Return the equal runs as (place in old, place in new, number of lines), in order."""
    found: list[tuple[int, int, int]] = []
    todo: list[tuple[Span, Span]] = [((0, len(old)), (0, len(new)))]
    reads = MAX_READS * (len(old) + len(new))
    while todo:
        (old_from, old_to), (new_from, new_to) = todo.pop()
        size = 0
        while old_from + size < old_to and new_from + size < new_to and old[old_from + size] == new[new_from + size]:
            size += 1
        found.append((old_from, new_from, size))
        old_from, new_from = old_from + size, new_from + size
        size = 0
        while (
            old_to - size > old_from and new_to - size > new_from and old[old_to - size - 1] == new[new_to - size - 1]
        ):
            size += 1
        old_to, new_to = old_to - size, new_to - size
        found.append((old_to, new_to, size))
        reads -= old_to - old_from + new_to - new_from
        if old_from < old_to and new_from < new_to and reads >= 0:
            todo += _between_anchors(old, new, (old_from, old_to), (new_from, new_to))
    return sorted(match for match in found if match[2])


def _between_anchors(old: Lines, new: Lines, olds: Span, news: Span) -> list[tuple[Span, Span]]:
    """Return the spans that begin at the anchors. Each is smaller than the given ones; none without an anchor."""
    counts, new_counts = Counter(old[slice(*olds)]), Counter(new[slice(*news)])
    places = {line: place for place, line in enumerate(new[slice(*news)], news[0]) if new_counts[line] == 1}
    pairs = [
        (place, places[line])
        for place, line in enumerate(old[slice(*olds)], olds[0])
        if counts[line] == 1 and line in places
    ]
    anchors = _longest_rising(pairs)
    if not anchors:
        return []
    starts = [*anchors, (olds[1], news[1])]
    spans = [((olds[0], anchors[0][0]), (news[0], anchors[0][1]))]
    spans += [((a, c), (b, d)) for (a, b), (c, d) in pairwise(starts)]
    return spans


def _longest_rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest chain of pairs, sorted by their first places, whose second places rise too."""
    tails: list[int] = []
    last: list[int] = []  # the index of the pair at the end of the best chain of each length
    previous: list[int] = []
    for index, (_, place) in enumerate(pairs):
        length = bisect_left(tails, place)
        previous.append(last[length - 1] if length else -1)
        tails[length : length + 1] = [place]
        last[length : length + 1] = [index]
    chain: list[tuple[int, int]] = []
    index = last[-1] if last else -1
    while index >= 0:
        chain.append(pairs[index])
        index = previous[index]
    return chain[::-1]
