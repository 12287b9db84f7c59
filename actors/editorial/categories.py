"""Categories of articles. Editors keep them; a name and a slug belong to one category, whatever their case.

A deletion frees both at once. The articles leave the category in a job (category_removal.py), for they may be many.
"""

from collections.abc import Awaitable, Iterable
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
import msgspec

from callboard.actors.editorial import events
from callboard.actors.editorial.category_removal import RemoveCategory
from callboard.actors.editorial.category_rules import slugs_for
from callboard.actors.editorial.errors import (
    CATEGORY_FULL,
    CATEGORY_NAME_TAKEN,
    CATEGORY_NOT_FOUND,
    CATEGORY_SLUG_TAKEN,
    CATEGORY_STALE,
)
from callboard.actors.errors import ErrorCode, FieldError, Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.principals import Principal
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.outbox import emit
from callboard.streams.queries import queries_beside
from callboard.streams.visible_text import visible

QUERIES = queries_beside(__file__)

MAX_CATEGORIES = 1_000

CategoryName = Annotated[str, visible(1, 100, examples=("Machine design",))]
Description = Annotated[str, visible(0, 2000, lines=True)]

TAKEN: dict[str | None, tuple[ErrorCode, str]] = {
    "categories_name_key": (CATEGORY_NAME_TAKEN, "name"),
    "categories_slug_key": (CATEGORY_SLUG_TAKEN, "slug"),
}


class Category(msgspec.Struct, frozen=True):
    """A category. `version` counts its changes."""

    category_id: UUID
    slug: str
    name: str
    description: str
    version: int
    created_at: UtcDatetime
    updated_at: UtcDatetime

    @property
    def tag(self) -> str:
        """Return its ETag: another category that gets its slug later has other tags."""
        return f"{self.category_id.hex}-{self.version}"


class ListCategories(Request[list[Category]], frozen=True):
    """List categories by their slugs, after one."""

    limit: int
    after: str = ""


class GetCategory(Request[Category], frozen=True):
    """Read a category by its slug, in any case. Raises Problem(CATEGORY_NOT_FOUND)."""

    slug: str


class CreateCategory(Request[Category], frozen=True):
    """Create a category; without a slug, one is made from its name. A repeated request with the same id returns it.

    Raises Problem(CATEGORY_NAME_TAKEN, CATEGORY_SLUG_TAKEN, CATEGORY_FULL).
    """

    category_id: UUID
    name: str
    description: str
    slug: str | None
    caller: Principal


class ReplaceCategory(Request[Category], frozen=True):
    """Replace name and description, and the slug if one is given, if the category still has `tag`.

    Raises Problem(CATEGORY_NOT_FOUND, CATEGORY_STALE, CATEGORY_NAME_TAKEN, CATEGORY_SLUG_TAKEN).
    """

    slug: str
    name: str
    description: str
    new_slug: str | None
    caller: Principal
    tag: str | None = None


class DeleteCategory(Request[None], frozen=True):
    """Delete a category, if it still has `tag`: its articles have none then.

    Raises Problem(CATEGORY_NOT_FOUND, CATEGORY_STALE).
    """

    slug: str
    caller: Principal
    tag: str | None = None


class Categories(Actor[ListCategories | GetCategory | CreateCategory | ReplaceCategory | DeleteCategory]):
    """Reads and changes categories. Unique indexes and guarded statements decide between processes."""

    def __init__(self, database: Database, jobs: JobQueue, *, most: int = MAX_CATEGORIES) -> None:
        self.database = database
        self.jobs = jobs
        self.most = most

    @on(ListCategories)
    async def list_categories(self, message: ListCategories) -> list[Category]:
        """Read one page."""
        async with self.database.acquire() as connection:
            rows = QUERIES.list_categories(connection, after=message.after, limit=message.limit)
            return [_category(row) async for row in rows]

    @on(GetCategory)
    async def get(self, message: GetCategory) -> Category:
        """Read one."""
        async with self.database.acquire() as connection:
            return await _found(connection, message.slug)

    @on(CreateCategory)
    @retried
    async def create(self, message: CreateCategory) -> Category:
        """Add the category under the first slug that is free."""
        async with self.database.transaction() as connection:
            row = await QUERIES.category_by_id(connection, category_id=message.category_id)
            if row is not None:
                return _category(row)
            await QUERIES.lock_categories(connection)
            if await QUERIES.is_full(connection, most=self.most):
                raise Problem(CATEGORY_FULL)
            fields = {name: getattr(message, name) for name in ("category_id", "name", "description")}
            for slug in await _slugs(connection, message):
                row = await _written(QUERIES.add_category(connection, slug=slug, **fields))
                if row is not None:
                    return await _tell(connection, events.CategoryCreated, row, message.caller)
            raise _taken("categories_slug_key")

    @on(ReplaceCategory)
    @retried
    async def replace(self, message: ReplaceCategory) -> Category:
        """Save a change. A slug stays unless another one is given: addresses with it stay valid."""
        async with self.database.transaction() as connection:
            before = await _unchanged(connection, message.slug, message.tag)
            slug = message.new_slug or before.slug
            if (before.name, before.description, before.slug) == (message.name, message.description, slug):
                return before
            row = await _written(
                QUERIES.replace_category(
                    connection,
                    category_id=before.category_id,
                    version=before.version,
                    slug=slug,
                    name=message.name,
                    description=message.description,
                )
            )
            if row is None:
                raise Problem(CATEGORY_STALE)
            return await _tell(connection, events.CategoryChanged, row, message.caller)

    @on(DeleteCategory)
    @retried
    async def delete(self, message: DeleteCategory) -> None:
        """Hide the category, and have a job take its articles out of it."""
        async with self.database.transaction() as connection:
            before = await _unchanged(connection, message.slug, message.tag)
            row = await QUERIES.delete_category(connection, category_id=before.category_id, version=before.version)
            if row is None:
                raise Problem(CATEGORY_STALE)
            await _tell(connection, events.CategoryDeleted, row, message.caller)
            await self.jobs.enqueue(connection, RemoveCategory(before.category_id, message.caller.user_id))


async def _found(connection: Any, slug: str) -> Category:
    row = await QUERIES.category_by_slug(connection, slug=slug.lower())
    if row is None:
        raise Problem(CATEGORY_NOT_FOUND)
    return _category(row)


async def _slugs(connection: Any, message: CreateCategory) -> Iterable[str]:
    """Return the slugs to try for a new category."""
    if message.slug is not None:
        return (message.slug,)
    return slugs_for(await QUERIES.unaccented(connection, name=message.name), message.category_id)


async def _unchanged(connection: Any, slug: str, tag: str | None) -> Category:
    """Return a category that is about to change. Raises Problem if it has no longer the tag that was read."""
    category = await _found(connection, slug)
    if tag not in (None, category.tag):
        raise Problem(CATEGORY_STALE)
    return category


async def _written(statement: Awaitable[Any]) -> Any:
    """Return the row of an insert or update. Raises Problem if another category has the name or the slug."""
    try:
        return await statement
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name not in TAKEN:
            raise
        raise _taken(error.constraint_name) from error


def _taken(constraint: str | None) -> Problem:
    code, field = TAKEN[constraint]
    return Problem(code, details=(FieldError(field, "is taken"),))


def _category(row: Any) -> Category:
    return msgspec.convert(dict(row), Category)


async def _tell(connection: Any, kind: type[events.CategoryEvent], row: Any, caller: Principal) -> Category:
    """Write the event of a change, and return the category after it."""
    category = _category(row)
    event = kind(category.category_id, category.slug, category.name, caller.user_id, category.version)
    await emit(connection, event, event_id=uuid4())
    return category
