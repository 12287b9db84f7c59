"""Content over HTTP: writing, the editorial workflow and reading."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta

from callboard.actors.editorial.category_rules import CategoryKey, id_in
from callboard.actors.editorial.content_queries import (
    ContentSummary,
    ListContent,
    ListTransitions,
    ReadContent,
    Transition,
)
from callboard.actors.editorial.content_rows import Content, Draft
from callboard.actors.editorial.errors import (
    CONTENT_CATEGORY_UNKNOWN,
    CONTENT_FORBIDDEN,
    CONTENT_IF_MATCH_MISSING,
    CONTENT_ILLEGAL_TRANSITION,
    CONTENT_NOT_FOUND,
    CONTENT_OWN_REVIEW,
    CONTENT_PUBLISHED,
    CONTENT_STALE,
)
from callboard.actors.editorial.refs import EditorialRefs
from callboard.actors.editorial.tags import MAX_TAGS, Tag
from callboard.actors.editorial.workflow import (
    CreateContent,
    DeleteContent,
    EditContent,
    ScheduleContent,
    TransitionContent,
)
from callboard.actors.editorial.workflow_rules import Action, Language, Status, check_edit
from callboard.actors.errors import REQUEST_CURSOR_INVALID, REQUEST_INVALID, FieldError, Problem
from callboard.actors.infrastructure.errors import QUOTA_CONTENT, QUOTA_RATE
from callboard.http.server.pagination import BY_NUMBER, BY_TIME
from callboard.http.server.preconditions import Validators
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.streams.event_types import UtcDatetime
from callboard.streams.visible_text import visible

PENDING_DEPRECATED = {"Deprecation": f"@{int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())}"}


class ContentBody(Body, frozen=True, kw_only=True):
    """The text of an article. Markup in the body is kept as sent, and made safe in `body_html`."""

    title: Annotated[str, visible(1, 200, examples=("On the engine",))]
    body: Annotated[str, visible(0, 200_000, lines=True, as_sent=True)]
    category_id: UUID | None = None
    language: Language = Language.ENGLISH
    tags: Annotated[tuple[Tag, ...], Meta(max_length=MAX_TAGS)] = ()

    def draft(self) -> Draft:
        """Return the same as the domain's draft. A tag counts once."""
        return Draft(self.title, self.body, self.category_id, self.language, tuple(dict.fromkeys(self.tags)))


class TransitionBody(Body, frozen=True, kw_only=True):
    """An editorial action, with a note to the author or the next editor. `publish` takes the times of a publication in
    the future and of its expiry.
    """

    action: Action
    note: Annotated[str, visible(0, 2000, lines=True)] | None = None
    publish_at: UtcDatetime | None = None
    expire_at: UtcDatetime | None = None


class StatusFilter(StrEnum):
    """The states of content. `pending` is the deprecated name of `pending_review`."""

    DRAFT = "draft"
    PENDING_REVIEW = "pending_review"
    APPROVED = "approved"
    PUBLISHED = "published"
    ARCHIVED = "archived"
    PENDING = "pending"

    def status(self) -> Status:
        """Return the state, without the deprecated name."""
        return Status.PENDING_REVIEW if self is StatusFilter.PENDING else Status(self.value)


class Filter(Page, frozen=True, kw_only=True):
    """Filters and page of a list of articles."""

    cursor: Annotated[str, BY_TIME.meta] | None = None
    status: StatusFilter | None = None
    author: UUID | None = None
    category: CategoryKey | None = None
    tag: Tag | None = None


class History(Page, frozen=True, kw_only=True):
    """The page of an article's history."""

    cursor: Annotated[str, BY_NUMBER.meta] | None = None


def content_reply(content: Content, status: int | None = None, location: str | None = None) -> Reply[Content]:
    """Return an article with its ETag."""
    return Reply(content, status=status, etag=str(content.version), location=location)


async def create(request: HttpRequest[ContentBody, None, EditorialRefs]) -> Reply[Content]:
    """Create a draft."""
    content = await request.refs.content.ask(CreateContent(request.new_id, request.body.draft(), request.identity))
    return content_reply(content, location=f"/api/v1/content/{content.content_id}")


async def read(request: HttpRequest[None, None, EditorialRefs]) -> Reply[Content]:
    """Read an article."""
    content = await request.refs.content_queries.ask(ReadContent(request.uuid("content_id"), request.caller))
    return Reply(
        content,
        etag=str(content.version),
        modified=content.updated_at,
        is_public=content.status is Status.PUBLISHED,
    )


async def current(request: HttpRequest[Any, Any, EditorialRefs]) -> Validators:
    """Return the version of an article before an edit or a deletion. Raises Problem like the change itself."""
    content = await request.refs.content_queries.ask(ReadContent(request.uuid("content_id"), request.caller))
    if request.body is not None or content.status is not Status.ARCHIVED:
        check_edit(request.identity, content.author_id, content.status)
    return Validators(str(content.version), content.updated_at)


async def current_for_transition(request: HttpRequest[Any, Any, EditorialRefs]) -> Validators:
    """Return the version of an article before a transition."""
    content = await request.refs.content_queries.ask(ReadContent(request.uuid("content_id"), request.caller))
    return Validators(str(content.version), content.updated_at)


def version_of(request: HttpRequest[Any, Any, EditorialRefs]) -> int | None:
    """Return the version that satisfied the request's precondition; None if the request has none."""
    return None if request.tag is None else int(request.tag)


async def edit(request: HttpRequest[ContentBody, None, EditorialRefs]) -> Reply[Content]:
    """Replace an article's text if its version is still the one in If-Match."""
    message = EditContent(request.uuid("content_id"), request.body.draft(), version_of(request), request.identity)
    return content_reply(await request.refs.content.ask(message))


async def delete(request: HttpRequest[None, None, EditorialRefs]) -> Reply[None]:
    """Delete an article that is not published."""
    await request.refs.content.ask(DeleteContent(request.uuid("content_id"), request.identity, version_of(request)))
    return Reply(None)


async def make_transition(request: HttpRequest[TransitionBody, None, EditorialRefs]) -> Reply[Content]:
    """Make an editorial transition, or schedule a publication."""
    body, content_id, version = request.body, request.uuid("content_id"), version_of(request)
    if body.publish_at is None:
        move = TransitionContent(content_id, body.action, body.note, request.identity, version, body.expire_at)
        return content_reply(await request.refs.content.ask(move))
    if body.action is not Action.PUBLISH:
        raise Problem(REQUEST_INVALID, details=(FieldError("publish_at", "Only publish takes it."),))
    schedule = ScheduleContent(content_id, body.publish_at, body.expire_at, body.note, request.identity, version)
    return content_reply(await request.refs.content.ask(schedule))


async def list_content(request: HttpRequest[None, Filter, EditorialRefs]) -> PageReply[ContentSummary]:
    """List articles, newest first: published articles by time of publication, all others by time of creation."""
    query = request.query
    before, before_id = BY_TIME.decode(query.cursor) if query.cursor else (None, None)
    category_id = None if query.category is None else id_in(query.category)
    found = await request.refs.content_queries.ask(
        ListContent(
            request.caller,
            query.limit + 1,
            status=None if query.status is None else query.status.status(),
            author_id=query.author,
            category_id=category_id,
            category_slug=None if category_id else query.category,
            tag=query.tag,
            before=before,
            before_id=before_id,
        )
    )
    headers = PENDING_DEPRECATED if query.status is StatusFilter.PENDING else None
    return BY_TIME.page(found, query.limit, lambda last: last.position, headers, is_public=request.caller is None)


async def transitions(request: HttpRequest[None, History, EditorialRefs]) -> PageReply[Transition]:
    """List an article's transitions, oldest first."""
    query = request.query
    (after,) = BY_NUMBER.decode(query.cursor) if query.cursor else (0,)
    found = await request.refs.content_queries.ask(
        ListTransitions(request.uuid("content_id"), request.identity, query.limit + 1, after)
    )
    return BY_NUMBER.page(found, query.limit, lambda last: (last.transition_id,))


ROUTES = Routes(
    EditorialRefs,
    Route(
        "POST",
        "/content",
        create,
        summary="Create a draft",
        tag="content",
        has_etag=True,
        access=Access.USER,
        status=201,
        errors=(CONTENT_CATEGORY_UNKNOWN, QUOTA_CONTENT, QUOTA_RATE),
    ),
    Route(
        "GET",
        "/content",
        list_content,
        summary="List content",
        tag="content",
        has_etag=True,
        deprecates_values=True,
        access=Access.OPTIONAL,
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route(
        "GET",
        "/content/{content_id}",
        read,
        summary="Read content",
        tag="content",
        has_etag=True,
        has_date=True,
        access=Access.OPTIONAL,
        errors=(CONTENT_NOT_FOUND,),
    ),
    Route(
        "PUT",
        "/content/{content_id}",
        edit,
        summary="Edit content",
        tag="content",
        has_etag=True,
        access=Access.USER,
        errors=(
            CONTENT_NOT_FOUND,
            CONTENT_FORBIDDEN,
            CONTENT_PUBLISHED,
            CONTENT_STALE,
            CONTENT_IF_MATCH_MISSING,
            CONTENT_CATEGORY_UNKNOWN,
            QUOTA_CONTENT,
        ),
        current=current,
    ),
    Route(
        "DELETE",
        "/content/{content_id}",
        delete,
        summary="Delete content that is not published; editors can undelete it",
        tag="content",
        access=Access.USER,
        status=204,
        errors=(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN, CONTENT_PUBLISHED, CONTENT_STALE),
        current=current,
    ),
    Route(
        "POST",
        "/content/{content_id}/transitions",
        make_transition,
        summary="Make an editorial transition, or schedule a publication",
        tag="content",
        has_etag=True,
        access=Access.USER,
        errors=(
            CONTENT_NOT_FOUND,
            CONTENT_FORBIDDEN,
            CONTENT_OWN_REVIEW,
            CONTENT_ILLEGAL_TRANSITION,
            CONTENT_STALE,
            QUOTA_RATE,
        ),
        current=current_for_transition,
    ),
    Route(
        "GET",
        "/content/{content_id}/transitions",
        transitions,
        summary="Read the editorial history",
        tag="content",
        access=Access.USER,
        errors=(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN, REQUEST_CURSOR_INVALID),
    ),
)
