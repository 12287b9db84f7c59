"""Revisions: the texts that an article had, each with its writer and its time.

The current text is in `content`; an edit adds the replaced one to `content_revisions`. The number of a revision is
the article's `revision` while it was current, so the first text is always number 1.
"""

from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.editorial.content_rows import QUERIES as ROWS
from callboard.actors.editorial.content_rows import Content, Draft
from callboard.actors.editorial.errors import CONTENT_FORBIDDEN, CONTENT_NOT_FOUND, CONTENT_REVISION_NOT_FOUND
from callboard.actors.editorial.text_diff import Piece, diff_texts
from callboard.actors.editorial.workflow_rules import Language, Status, is_editor, may_see
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.principals import Principal
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERSONAL_DATA = PersonalData(
    "revisions",
    {"content_revisions": ("author_id", "editor_id", "title", "body", "tags")},
    QUERIES.export_revisions,
    QUERIES.erase_revisions,
)


class RevisionBounds(msgspec.Struct, frozen=True):
    """The bounds of stored revisions, beside the current texts: the newest of an article, and the bytes of all of an
    author's articles.
    """

    per_article: int = 100
    bytes_per_author: int = 50_000_000


class RevisionSummary(msgspec.Struct, frozen=True):
    """A revision in a list, without its text. `size` is in bytes."""

    revision: int
    is_current: bool
    title: str
    language: Language
    size: int
    editor_id: UUID
    editor_name: str
    written_at: UtcDatetime


class Revision(msgspec.Struct, frozen=True):
    """A revision with its text."""

    revision: int
    title: str
    body: str
    category_id: UUID | None
    language: Language
    tags: tuple[str, ...]
    editor_id: UUID
    editor_name: str
    written_at: UtcDatetime


class FieldChange(msgspec.Struct, frozen=True):
    """A changed field besides the body: its name and both values."""

    field: str
    old: str | None
    new: str | None


class RevisionDiff(msgspec.Struct, frozen=True):
    """The difference of two revisions. The pieces of the body in order: those that are equal or removed make the old
    text, those that are equal or added the new one.
    """

    old_revision: int
    new_revision: int
    fields: list[FieldChange]
    body: list[Piece]


class ListRevisions(Request[list[RevisionSummary]], frozen=True):
    """List an article's revisions below `before`, newest first, for its author and editors.

    Raises Problem(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN).
    """

    content_id: UUID
    caller: Principal
    limit: int
    before: int | None = None


class ReadRevision(Request[Revision], frozen=True):
    """Read a revision. Raises Problem like ListRevisions, and CONTENT_REVISION_NOT_FOUND."""

    content_id: UUID
    revision: int
    caller: Principal


class DiffRevisions(Request[RevisionDiff], frozen=True):
    """Compare two revisions of an article. Raises Problem like ReadRevision."""

    content_id: UUID
    old: int
    new: int
    caller: Principal


class Revisions(Actor[ListRevisions | ReadRevision | DiffRevisions]):
    """Answers queries for revisions."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(ListRevisions)
    async def list_revisions(self, message: ListRevisions) -> list[RevisionSummary]:
        """The current text is among them."""
        async with self.database.acquire() as connection:
            await check_reader(connection, message.content_id, message.caller)
            rows = QUERIES.revisions_of(
                connection, content_id=message.content_id, before=message.before, limit=message.limit
            )
            return [msgspec.convert(dict(row), RevisionSummary) async for row in rows]

    @on(ReadRevision)
    async def read(self, message: ReadRevision) -> Revision:
        """The current text can be read too."""
        async with self.database.acquire() as connection:
            await check_reader(connection, message.content_id, message.caller)
            return await _load(connection, message.content_id, message.revision)

    @on(DiffRevisions)
    async def diff(self, message: DiffRevisions) -> RevisionDiff:
        """The body is compared line by line."""
        async with self.database.acquire() as connection:
            await check_reader(connection, message.content_id, message.caller)
            old = await _load(connection, message.content_id, message.old)
            new = await _load(connection, message.content_id, message.new)
        fields = [
            FieldChange(field, _shown(before), _shown(after))
            for field in ("title", "category_id", "language", "tags")
            if (before := getattr(old, field)) != (after := getattr(new, field))
        ]
        return RevisionDiff(old.revision, new.revision, fields, diff_texts(old.body, new.body))


def _shown(value: Any) -> str | None:
    return None if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)


async def check_reader(connection: Any, content_id: UUID, caller: Principal) -> None:
    """Check that the caller may read an article's drafts. Raises Problem(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN)."""
    content = await ROWS.content_by_id(connection, content_id=content_id)
    if content is None or not may_see(caller, content["author_id"], Status(content["status"])):
        raise Problem(CONTENT_NOT_FOUND)
    if not (is_editor(caller) or caller.user_id == content["author_id"]):
        raise Problem(CONTENT_FORBIDDEN)


async def _load(connection: Any, content_id: UUID, revision: int) -> Revision:
    row = await QUERIES.revision(connection, content_id=content_id, revision=revision)
    if row is None:
        raise Problem(CONTENT_REVISION_NOT_FOUND)
    return msgspec.convert(dict(row), Revision)


async def revision_as_draft(connection: Any, content: Content, revision: int) -> Draft:
    """Return the text of a revision; its category only if that still exists. Raises Problem(REVISION_NOT_FOUND)."""
    found = await _load(connection, content.content_id, revision)
    category_id = found.category_id
    if category_id not in (None, content.category_id) and not await QUERIES.has_category(
        connection, category_id=category_id
    ):
        category_id = None
    return Draft(found.title, found.body, category_id, found.language, found.tags)


async def drop_oldest_revisions(connection: Any, bounds: RevisionBounds, content: Content) -> None:
    """Keep the stored revisions within their bounds, after an edit and in its transaction."""
    await QUERIES.drop_old_numbers(
        connection, content_id=content.content_id, last=content.revision - 1 - bounds.per_article
    )
    while await QUERIES.drop_oldest(connection, author_id=content.author_id, max_bytes=bounds.bytes_per_author):
        pass
