"""The names of categories in addresses: slugs, and the slug of a name. Pure functions."""

import re
from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

from callboard.streams.field_rules import field_rule

MAX_SLUG = 100  # characters
MAX_MADE_SLUG = 60  # of one that is made from a name
NUMBERED = 9  # slugs that are tried before the category's id decides

_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORDS = "[A-Za-z0-9]+(-[A-Za-z0-9]+)*"
_NO_ID = "(?![0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$)"


def read_slug(text: str) -> str:
    """Return a slug in lower case. Raises ValueError for another text, and for an id: ids name categories, too."""
    slug = read_key(text)
    if _ID.fullmatch(slug):
        raise ValueError("must not be an id")
    return slug


def read_key(text: str) -> str:
    """Return a slug or an id in lower case. Raises ValueError for a text that is neither."""
    if not text.isascii() or len(text) > MAX_SLUG or not _SLUG.fullmatch(text.lower()):
        raise ValueError(f"must be letters and digits of ASCII in words, joined by hyphens: {MAX_SLUG} at most")
    return text.lower()


Slug = Annotated[
    str, field_rule(read_slug, {"pattern": f"^{_NO_ID}{_WORDS}$", "maxLength": MAX_SLUG}, examples=("machine-design",))
]
CategoryKey = Annotated[
    str, field_rule(read_key, {"pattern": f"^{_WORDS}$", "maxLength": MAX_SLUG}, examples=("machine-design",))
]


def id_in(key: str) -> UUID | None:
    """Return the id that a key is; None for a slug."""
    return UUID(key) if _ID.fullmatch(key) else None


def slugs_for(unaccented: str, category_id: UUID) -> Iterator[str]:
    """Yield the slugs for a new category, the best first; the last one has the category's id, and is free.

    The name is given without its accents. If it has no letter or digit of ASCII, its slug says "category".
    """
    words = re.sub("[^a-z0-9]+", "-", unaccented.lower()).strip("-")
    if len(words) > MAX_MADE_SLUG:
        cut = words[: MAX_MADE_SLUG + 1].rpartition("-")[0] or words
        words = cut[:MAX_MADE_SLUG].strip("-")
    if words and not _ID.fullmatch(words):
        yield words
        yield from (f"{words}-{number}" for number in range(2, NUMBERED + 1))
    yield f"{words or 'category'}-{category_id.hex}"
