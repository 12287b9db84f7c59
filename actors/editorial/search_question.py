"""The parsing of a search query, and the spelling of its words. Pure functions."""

import re
from unicodedata import normalize

import msgspec

MAX_QUESTION = 200  # characters
MAX_WORDS = 16  # searched words

UNSPLIT = (  # the scripts without spaces between words, and emoji, as in schema.sql
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff\u2600-\u27bf\U0001f000-\U0001faff"
)
RUN = re.compile(f"[{UNSPLIT}]+")
WORD = re.compile(rf"[^\W{UNSPLIT}]+")
UNFINISHED = re.compile(rf"(?:^|\s)(?![-\"])[^\s\"]*?([^\W{UNSPLIT}]+)$")
QUOTES = str.maketrans(dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"'))  # as telephones type them
NEGATIONS = re.compile(r"(?<![^\s\"!&|()<>])-(?:[\s!&|()<>]*-)+")  # PostgreSQL's parser has room for 32 without a word
EDITS = ((8, 2), (4, 1))  # a word of so many letters may have so many typing errors


class Question(msgspec.Struct, frozen=True):
    """A bounded query. `words` and `runs`, of scripts without spaces, are looked for; `unfinished` is the last word if
    the query ends with it.
    """

    text: str
    words: tuple[str, ...]
    runs: tuple[str, ...]
    unfinished: str | None


def parse(q: str) -> Question:
    """Parse a query in web search syntax. No part of a phrase or an exclusion is a word that may stand for others."""
    text = bounded(q.translate(QUOTES))
    plain = normalize("NFKC", text).split('"')
    tokens = [token for part in plain[::2] for token in part.split() if token[0] != "-" and token.lower() != "or"]
    last = UNFINISHED.search(plain[-1]) if len(plain) % 2 and tokens else None
    return Question(
        text,
        _distinct(WORD.findall(" ".join(tokens))),
        _distinct(RUN.findall(" ".join([*tokens, *plain[1::2]]))),
        last[1] if last and last[1].lower() != "or" else None,
    )


def bounded(q: str) -> str:
    """Return the beginning of a query without repeated words: ranking takes time for each word. Several negations are
    one.
    """
    words = NEGATIONS.sub("-", q[:MAX_QUESTION]).split()
    if '"' not in q:
        places = {word: place for place, word in reversed(list(enumerate(words)))}
        words = [word for place, word in enumerate(words) if places[word] == place or word.lower() == "or"]
    return " ".join(words[:MAX_WORDS])


def is_similar(word: str, other: str) -> bool:
    """Whether `other` may be meant by `word`: the same but for one typing error, or two in a long word."""
    edits = next((edits for length, edits in EDITS if len(word) >= length), 0)
    return _within(word, other, edits)


def _within(word: str, other: str, edits: int) -> bool:
    """Whether at most so many insertions, deletions, replacements and swaps of neighbours lead to the other word."""
    if abs(len(word) - len(other)) > edits:
        return False
    place = next((place for place, pair in enumerate(zip(word, other, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return True
    word, other = word[place:], other[place:]
    return edits > 0 and (
        _within(word[1:], other[1:], edits - 1)
        or _within(word[1:], other, edits - 1)
        or _within(word, other[1:], edits - 1)
        or (word[:2] == other[1::-1] and _within(word[2:], other[2:], edits - 1))
    )


def _distinct(words: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))
