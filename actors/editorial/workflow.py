"""The editorial workflow. A change is one guarded statement; its history and its event share its transaction."""

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec

from callboard.actors.editorial import events
from callboard.actors.editorial.errors import (
    CONTENT_CATEGORY_UNKNOWN,
    CONTENT_ILLEGAL_TRANSITION,
    CONTENT_NOT_FOUND,
    CONTENT_STALE,
)
from callboard.actors.editorial.html_sanitizer import HtmlSanitizer, MarkupError
from callboard.actors.editorial.workflow_rules import Action, Language, Status, check_edit, check_transition, may_see
from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.infrastructure.quotas import DEFAULT_QUOTAS, Quotas, check_content, count_use
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.outbox import emit
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERSONAL_DATA = (
    PersonalData(
        "content",
        {
            "content": ("author_id", "title", "body", "body_html", "search", "last_edited_by", "tags"),
            "content_tags": ("tag",),
            "tag_counts": ("tag",),
        },
        QUERIES.export_content,
        QUERIES.erase_content,
    ),
    PersonalData(
        "transitions",
        {"content_transitions": ("actor_id", "note")},
        QUERIES.export_transitions,
        QUERIES.erase_notes,
    ),
    PersonalData("subscriptions", {"subscriptions": ("user_id", "plan_type")}, QUERIES.export_subscriptions),
)

EVENT_OF: dict[Action, type[events.ContentEvent]] = {
    Action.SUBMIT_FOR_REVIEW: events.ContentSubmitted,
    Action.APPROVE: events.ContentApproved,
    Action.REJECT: events.ContentRejected,
    Action.PUBLISH: events.ContentPublished,
    Action.ARCHIVE: events.ContentArchived,
    Action.RESTORE: events.ContentRestored,
}


class Content(msgspec.Struct, frozen=True):
    """An article. `body` is the text as sent, `body_html` is safe to show; `version` counts the changes.

    `last_edited_by` is None if it is unknown: for content that has not been edited since an earlier release.
    """

    content_id: UUID
    author_id: UUID
    category_id: UUID | None
    title: str
    body: str
    body_html: str
    language: Language
    tags: tuple[str, ...]
    status: Status
    version: int
    last_edited_by: UUID | None
    published_at: UtcDatetime | None
    created_at: UtcDatetime
    updated_at: UtcDatetime

    def has(self, draft: "Draft") -> bool:
        """Whether an edit to this draft would change nothing."""
        return all(getattr(self, name) == value for name, value in msgspec.structs.asdict(draft).items())


class Draft(msgspec.Struct, frozen=True):
    """The fields that an author writes."""

    title: str
    body: str
    category_id: UUID | None = None
    language: Language = Language.ENGLISH
    tags: tuple[str, ...] = ()


class CreateContent(Request[Content], frozen=True):
    """Create a draft; a repeated request with the same id returns the author's draft of this id.

    Raises Problem(CONTENT_CATEGORY_UNKNOWN, REQUEST_INVALID, CONTENT_NOT_FOUND if the id is another author's).
    """

    content_id: UUID
    draft: Draft
    author: Principal


class EditContent(Request[Content], frozen=True):
    """Replace title, body, category, language and tags, of this version if one is given.

    Raises Problem(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN, CONTENT_PUBLISHED, CONTENT_STALE, CONTENT_CATEGORY_UNKNOWN,
    REQUEST_INVALID).
    """

    content_id: UUID
    draft: Draft
    version: int | None
    caller: Principal


class DeleteContent(Request[None], frozen=True):
    """Delete content that is not published, with its history. Raises Problem like EditContent."""

    content_id: UUID
    caller: Principal
    version: int | None = None


class TransitionContent(Request[Content], frozen=True):
    """Make an editorial transition.

    Raises Problem(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN, CONTENT_OWN_REVIEW, CONTENT_ILLEGAL_TRANSITION, CONTENT_STALE).
    """

    content_id: UUID
    action: Action
    note: str | None
    caller: Principal
    version: int | None = None


class ContentWorkflow(Actor[CreateContent | EditContent | DeleteContent | TransitionContent]):
    """All changes of articles. A pool of these is keyed by content id; between processes the guarded SQL decides."""

    def __init__(self, database: Database, sanitizer: HtmlSanitizer, quotas: Quotas = DEFAULT_QUOTAS) -> None:
        self.database = database
        self.quotas = quotas
        self.sanitizer = sanitizer

    @on(CreateContent)
    @retried
    async def create(self, message: CreateContent) -> Content:
        """Add the draft and its event."""
        fields = await self._fields(message.draft)
        async with self.database.transaction() as connection:
            row = await _written(
                QUERIES.add_content(
                    connection,
                    content_id=message.content_id,
                    author_id=message.author.user_id,
                    **fields,
                )
            )
            if row is None:
                return await _made_before(connection, message)
            author_id = message.author.user_id
            await count_use(connection, "drafts", author_id, most=self.quotas.drafts_per_hour)
            await check_content(connection, self.quotas, author_id)
            return await _tell(connection, events.ContentCreated, row, message.author)

    @on(EditContent)
    @retried
    async def edit(self, message: EditContent) -> Content:
        """Save an edit. If it takes content under review back to draft, the history says so; an edit without a change
        does nothing.
        """
        fields = await self._fields(message.draft)
        async with self.database.transaction() as connection:
            before = await _visible(connection, message.content_id, message.caller)
            status = check_edit(message.caller, before.author_id, before.status)
            if before.has(message.draft) and message.version in (None, before.version):
                return before
            row = await _written(
                QUERIES.edit_content(
                    connection,
                    content_id=message.content_id,
                    version=before.version if message.version is None else message.version,
                    editor_id=message.caller.user_id,
                    status=status,
                    from_status=before.status,
                    **fields,
                )
            )
            if row is None:
                raise Problem(CONTENT_STALE)
            if _size(row) > _size(msgspec.structs.asdict(before)):  # an author over the quota may still shorten a text
                await check_content(connection, self.quotas, before.author_id)
            if status is not before.status:
                await _record(connection, before, "edit", status, message.caller)
            return await _tell(connection, events.ContentEdited, row, message.caller)

    @on(DeleteContent)
    @retried
    async def delete(self, message: DeleteContent) -> None:
        """Delete an article. Archived content can be deleted, published content cannot."""
        async with self.database.transaction() as connection:
            before = await _visible(connection, message.content_id, message.caller)
            if before.status is not Status.ARCHIVED:
                check_edit(message.caller, before.author_id, before.status)
            if message.version not in (None, before.version):
                raise Problem(CONTENT_STALE)
            row = await QUERIES.delete_content(connection, content_id=message.content_id, version=before.version)
            if row is None:
                raise Problem(CONTENT_STALE)
            await _tell(connection, events.ContentDeleted, row, message.caller)

    @on(TransitionContent)
    @retried
    async def move(self, message: TransitionContent) -> Content:
        """Of two simultaneous transitions one wins; the other gets the same conflict as if it had come later."""
        async with self.database.transaction() as connection:
            before = await _visible(connection, message.content_id, message.caller)
            target = check_transition(
                message.caller, before.author_id, before.last_edited_by, before.status, message.action
            )
            if message.version not in (None, before.version):
                raise Problem(CONTENT_STALE)
            row = await QUERIES.move_content(
                connection,
                content_id=message.content_id,
                from_status=before.status,
                to_status=target,
                version=before.version,
            )
            if row is None:
                raise Problem(CONTENT_ILLEGAL_TRANSITION, "The content has just been changed by someone else.")
            await _record(connection, before, message.action, target, message.caller, note=message.note)
            return await _tell(connection, EVENT_OF[message.action], row, message.caller, message.note)

    async def _fields(self, draft: Draft) -> dict[str, Any]:
        """Return the columns of a draft; called before the transaction, to keep the transaction short."""
        try:
            body_html = await self.sanitizer.clean(draft.body)
        except MarkupError as error:
            raise Problem(REQUEST_INVALID, details=(FieldError("body", str(error)),)) from error
        return {**msgspec.structs.asdict(draft), "body_html": body_html}


def _size(row: Any) -> int:
    return sum(len(row[name].encode()) for name in ("title", "body", "body_html"))


async def _written(statement: Any) -> Any:
    """Return the row of an insert or update of an author's text. Raises Problem if the database refuses the text."""
    try:
        return await statement
    except asyncpg.ForeignKeyViolationError as error:
        if error.constraint_name != "content_category_id_fkey":
            raise
        raise Problem(CONTENT_CATEGORY_UNKNOWN, details=(FieldError("category_id", "is unknown"),)) from error


async def _made_before(connection: Any, message: CreateContent) -> Content:
    row = await QUERIES.content_by_id(connection, content_id=message.content_id)
    if row is None or row["author_id"] != message.author.user_id:
        raise Problem(CONTENT_NOT_FOUND)
    return as_content(row)


async def _visible(connection: Any, content_id: UUID, caller: Principal) -> Content:
    row = await QUERIES.content_by_id(connection, content_id=content_id)
    if row is None or not may_see(caller, row["author_id"], Status(row["status"])):
        raise Problem(CONTENT_NOT_FOUND)
    return as_content(row)


def as_content(row: Any) -> Content:
    """Build the Struct of a row of the content table."""
    return msgspec.convert(dict(row), Content)


async def _record(
    connection: Any, before: Content, action: str, target: Status, caller: Principal, *, note: str | None = None
) -> None:
    await QUERIES.add_transition(
        connection,
        content_id=before.content_id,
        actor_id=caller.user_id,
        action=action,
        from_status=before.status,
        to_status=target,
        note=note,
    )


async def _tell(
    connection: Any, kind: type[events.ContentEvent], row: Any, caller: Principal, note: str | None = None
) -> Content:
    """Write the event of a change, and return the content after it."""
    content = as_content(row)
    event = kind(content.content_id, content.author_id, content.title, caller.user_id, content.version, note)
    await emit(connection, event, event_id=uuid4())
    return content
