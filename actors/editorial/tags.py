"""Tags of articles: their form, and the list of those in use."""

import re
import unicodedata
from typing import Annotated

import msgspec

from callboard.actors.infrastructure.database import Database
from callboard.runtime import Actor, Request, on
from callboard.streams.field_rules import field_rule
from callboard.streams.queries import queries_beside
from callboard.streams.visible_text import UNSEEN, visible, visible_rule

QUERIES = queries_beside(__file__)

MAX_TAGS = 10  # of an article; schema.sql has the same bound
MAX_TAG = 50  # characters
MAX_ARTICLES = 2**31 - 1  # articles

_check = visible_rule(1, MAX_TAG)
_UNSEEN = re.compile(f"[{UNSEEN}]")


def normal_tag(text: str) -> str:
    """Return the stored form of a tag: in lower case, with single spaces and without invisible characters.

    The form is in Unicode's NFC, and its own normal form. Raises ValueError with a sentence for the sender.
    """
    lowered = " ".join(_UNSEEN.sub("", _check(text)).lower().split())
    return _check(unicodedata.normalize("NFC", lowered))


Tag = Annotated[str, field_rule(normal_tag, visible(1, MAX_TAG).extra_json_schema or {}, examples=("engines",))]


class TagCount(msgspec.Struct, frozen=True):
    """A tag, and the number of published articles that have it."""

    tag: str
    published: int


class ListTags(Request[list[TagCount]], frozen=True):
    """List the tags of published articles: the most frequent first, and alphabetically; after `after`."""

    limit: int
    after: tuple[int, str] | None = None  # the number and the tag of the last row


class Tags(Actor[ListTags]):
    """Answers questions about tags."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(ListTags)
    async def list_tags(self, message: ListTags) -> list[TagCount]:
        """The numbers are kept by a trigger: a page reads its own rows only."""
        published, tag = message.after or (MAX_ARTICLES, "")
        published = min(published, MAX_ARTICLES)  # a cursor of a client's own may name any number
        async with self.database.acquire() as connection:
            rows = QUERIES.list_tags(connection, published=published, tag=tag, limit=message.limit)
            return [TagCount(row["tag"], row["published"]) async for row in rows]
