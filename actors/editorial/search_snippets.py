"""The snippets of search results: the text around the matches, safe as HTML. Pure functions."""

import re
from bisect import bisect
from collections.abc import Iterable
from html import escape, unescape
from itertools import pairwise
from unicodedata import normalize

from callboard.actors.editorial.html_sanitizer import text_of

BEGINNING = 3_000  # characters of a text, from which a snippet is made
LENGTH = 240  # of a snippet, at most, without its marks
BEFORE = 60  # characters before the first match
MARK, END_MARK, APART = "\ue000", "\ue001", "\x0f"  # placeholders of `highlighted` in content_search.sql
PLACEHOLDERS = re.compile(f"[{MARK}{END_MARK}\0-\x08\x0e-\x1f]")  # translate() is slow in other scripts
UNCLOSED = re.compile(r"<[^<>]*\Z")


def title_to_highlight(title: str) -> str:
    """Return a title for `highlighted`: to PostgreSQL's parser, characters that could begin a tag would hide a text."""
    return escape(normalize("NFKC", PLACEHOLDERS.sub("", title)), quote=False)


def text_to_highlight(beginning: str) -> str:
    """Return the text at the beginning of an article's markup likewise. A tag that is cut off there is no text."""
    whole = beginning if len(beginning) < BEGINNING else UNCLOSED.sub("", beginning)
    text = " ".join(PLACEHOLDERS.sub("", text_of(whole)).split())
    return escape(normalize("NFKC", text), quote=False)


def marked(highlighted: str, runs: Iterable[str] = ()) -> str:
    """Return a whole text as HTML; <mark> encloses the matches, and there is no other markup."""
    text, spans = _spans(highlighted, runs)
    return _html(text, spans, 0, len(text))


def snippet(highlighted: str, runs: Iterable[str] = ()) -> str:
    """Return the part of a text that has the most matches, as `marked` does. An ellipsis shows where it was cut."""
    text, spans = _spans(highlighted, runs)
    start = max(0, min(_densest(spans) - BEFORE, len(text) - LENGTH))
    end = min(len(text), start + LENGTH)
    start, end = _at_word(text, start, start + BEFORE // 2, 1), _at_word(text, end, end - BEFORE // 2, -1)
    return f"{'… ' if start else ''}{_html(text, spans, start, end)}{' …' if end < len(text) else ''}"


def _spans(highlighted: str, runs: Iterable[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return the text without placeholders, and the places of the matches in it."""
    text, spans = "", []
    for place, part in enumerate(re.split(f"({MARK}[^{END_MARK}]*{END_MARK})", highlighted.replace(APART, ""))):
        bare = unescape(PLACEHOLDERS.sub("", part))
        if place % 2:
            spans.append((len(text), len(text) + len(bare)))
        text += bare
    for run in runs:
        spans += [found.span() for found in re.finditer(re.escape(run), text)]
    return text, _merged(sorted(spans))


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _densest(spans: list[tuple[int, int]]) -> int:
    """Return the place of the match that most others follow closely; the first of several."""
    starts = [start for start, _ in spans]
    followed = [bisect(starts, start + LENGTH - 2 * BEFORE) - place for place, start in enumerate(starts)]
    return starts[followed.index(max(followed))] if starts else 0


def _at_word(text: str, place: int, limit: int, step: int) -> int:
    """Move the end of a snippet to a space, if one is near."""
    if 0 < place < len(text):
        return next((at for at in range(place, limit, step) if text[at].isspace()), place)
    return place


def _html(text: str, spans: list[tuple[int, int]], start: int, end: int) -> str:
    edges = [start, *(min(max(edge, start), end) for span in spans for edge in span), end]
    parts = [escape(text[left:right]) for left, right in pairwise(edges)]
    return "".join(f"<mark>{part}</mark>" if place % 2 and part else part for place, part in enumerate(parts)).strip()
