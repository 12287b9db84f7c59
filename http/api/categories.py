"""Categories over HTTP: everybody reads them, editors keep them."""

from typing import Annotated, Any

from callboard.actors.editorial.categories import (
    Category,
    CategoryName,
    CreateCategory,
    DeleteCategory,
    Description,
    GetCategory,
    ListCategories,
    ReplaceCategory,
)
from callboard.actors.editorial.category_rules import Slug
from callboard.actors.editorial.errors import (
    CATEGORY_FULL,
    CATEGORY_NAME_TAKEN,
    CATEGORY_NOT_FOUND,
    CATEGORY_SLUG_TAKEN,
    CATEGORY_STALE,
)
from callboard.actors.editorial.refs import EditorialRefs
from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.http.server.pagination import BY_TEXT
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, Reply
from callboard.http.server.routing import Access, Route, Routes


class CategoryBody(Body, frozen=True, kw_only=True):
    """A whole category. Without a slug a new category gets one that is made from its name; a change keeps the current
    one.
    """

    name: CategoryName
    slug: Slug | None = None
    description: Description = ""


class CategoriesQuery(Page, frozen=True, kw_only=True):
    """A page of categories."""

    cursor: Annotated[str, BY_TEXT.meta] | None = None


async def list_categories(request: HttpRequest[None, CategoriesQuery, EditorialRefs]) -> PageReply[Category]:
    """List categories, in the order of their slugs."""
    query = request.query
    (after,) = BY_TEXT.decode(query.cursor) if query.cursor else ("",)
    found = await request.refs.categories.ask(ListCategories(query.limit + 1, after))
    return BY_TEXT.page(found, query.limit, lambda last: (last.slug,), is_public=True)


async def create(request: HttpRequest[CategoryBody, None, EditorialRefs]) -> Reply[Category]:
    """Create a category."""
    body = request.body
    category = await request.refs.categories.ask(
        CreateCategory(request.new_id, body.name, body.description, body.slug, request.identity)
    )
    return Reply(category, etag=category.tag, location=f"/api/v1/categories/{category.slug}")


async def read(request: HttpRequest[None, None, EditorialRefs]) -> Reply[Category]:
    """Read a category."""
    category = await request.refs.categories.ask(GetCategory(request.text("slug")))
    return Reply(category, etag=category.tag, is_public=True)


async def current(request: HttpRequest[Any, Any, EditorialRefs]) -> str:
    """Return the current ETag of a category."""
    return (await request.refs.categories.ask(GetCategory(request.text("slug")))).tag


async def replace(request: HttpRequest[CategoryBody, None, EditorialRefs]) -> Reply[Category]:
    """Replace a category. With another slug it has another address."""
    body = request.body
    category = await request.refs.categories.ask(
        ReplaceCategory(request.text("slug"), body.name, body.description, body.slug, request.identity, tag=request.tag)
    )
    return Reply(category, etag=category.tag)


async def delete(request: HttpRequest[None, None, EditorialRefs]) -> Reply[None]:
    """Delete a category. Its articles stay, and soon have no category; each of them gets a new version."""
    await request.refs.categories.ask(DeleteCategory(request.text("slug"), request.identity, tag=request.tag))
    return Reply(None)


TAG = "categories"
TAKEN = (CATEGORY_NAME_TAKEN, CATEGORY_SLUG_TAKEN)

ROUTES = Routes(
    EditorialRefs,
    Route(
        "GET",
        "/categories",
        list_categories,
        summary="List categories",
        tag=TAG,
        access=Access.PUBLIC,
        has_etag=True,
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route(
        "POST",
        "/categories",
        create,
        summary="Create a category",
        tag=TAG,
        access=Access.EDITOR,
        status=201,
        errors=(*TAKEN, CATEGORY_FULL),
        has_etag=True,
    ),
    Route(
        "GET",
        "/categories/{slug}",
        read,
        summary="Read a category",
        tag=TAG,
        access=Access.PUBLIC,
        errors=(CATEGORY_NOT_FOUND,),
        has_etag=True,
    ),
    Route(
        "PUT",
        "/categories/{slug}",
        replace,
        summary="Replace a category",
        tag=TAG,
        access=Access.EDITOR,
        errors=(CATEGORY_NOT_FOUND, CATEGORY_STALE, *TAKEN),
        has_etag=True,
        current=current,
    ),
    Route(
        "DELETE",
        "/categories/{slug}",
        delete,
        summary="Delete a category",
        tag=TAG,
        access=Access.EDITOR,
        status=204,
        errors=(CATEGORY_NOT_FOUND, CATEGORY_STALE),
        current=current,
    ),
)
