"""Language tags (RFC 5646) as users give them: one by one, or as a browser's Accept-Language."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated

from msgspec import Meta

MAX_LANGUAGES = 5
MAX_TAG_LENGTH = 35  # RFC 5646, 4.4.1
MAX_RANGES = 50  # of one header; a longer one is cut
_TAG = r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*"
_RANGE = re.compile(rf"\s*({_TAG})\s*(?:;\s*[qQ]\s*=\s*(0(?:\.[0-9]{{0,3}})?|1(?:\.0{{0,3}})?)\s*)?")

Language = Annotated[str, Meta(pattern=rf"^{_TAG}\Z", max_length=MAX_TAG_LENGTH, examples=["de-AT"])]


def preferred_languages(accept_language: str | None) -> tuple[str, ...]:
    """Return the languages of a header Accept-Language, the best first; without `*`, refused and malformed ones."""
    found: dict[str, float] = {}
    for each in (accept_language or "").split(",")[:MAX_RANGES]:
        matched = _RANGE.fullmatch(each)
        if matched is not None and len(matched[1]) <= MAX_TAG_LENGTH:
            found.setdefault(matched[1], float(matched[3] or 1))
    wanted = sorted((tag for tag, quality in found.items() if quality > 0), key=lambda tag: -found[tag])
    return tuple(wanted[:MAX_LANGUAGES])


def lookup(languages: Iterable[str], is_there: Callable[[str], bool]) -> str | None:
    """Return the first of the languages that is there, in lower case, each cut from its end until one fits (RFC 4647);
    None if none is.
    """
    for language in languages:
        tag = language.lower()
        while tag:
            if is_there(tag):
                return tag
            tag = tag.rpartition("-")[0]
    return None
