"""The editorial workflow. A change is one guarded statement; its history and its event share its transaction."""

from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from callboard.actors.editorial import events
from callboard.actors.editorial.content_cache import ContentCache, forgetting
from callboard.actors.editorial.content_rows import EVENT_OF, QUERIES, Content, Draft, as_content, record, tell
from callboard.actors.editorial.errors import (
    CONTENT_CATEGORY_UNKNOWN,
    CONTENT_ILLEGAL_TRANSITION,
    CONTENT_NOT_FOUND,
    CONTENT_STALE,
)
from callboard.actors.editorial.html_sanitizer import HtmlSanitizer
from callboard.actors.editorial.revisions import RevisionBounds, drop_oldest_revisions, revision_as_draft
from callboard.actors.editorial.scheduled_publishing import check_times, plan
from callboard.actors.editorial.tags import MAX_TAGS
from callboard.actors.editorial.workflow_rules import (
    Action,
    Status,
    check_edit,
    check_schedule,
    check_transition,
    is_editor,
    may_see,
)
from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.infrastructure.quotas import DEFAULT_QUOTAS, Quotas, check_content, count_use
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime

DELETED_DAYS = 30
JUST_CHANGED = "The content has just been changed by someone else."


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
    """Delete content that is not published. Editors can undelete it for some time. Raises Problem like EditContent."""

    content_id: UUID
    caller: Principal
    version: int | None = None


class UndeleteContent(Request[Content], frozen=True):
    """Take a deletion back: the state is the one before. Raises Problem(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN)."""

    content_id: UUID
    caller: Principal


class TransitionContent(Request[Content], frozen=True):
    """Make an editorial transition; what is published may be given the time of its expiry.

    Raises Problem(CONTENT_NOT_FOUND, CONTENT_FORBIDDEN, CONTENT_OWN_REVIEW, CONTENT_ILLEGAL_TRANSITION, CONTENT_STALE,
    QUOTA_RATE, REQUEST_INVALID).
    """

    content_id: UUID
    action: Action
    note: str | None
    caller: Principal
    version: int | None = None
    expire_at: UtcDatetime | None = None


class ScheduleContent(Request[Content], frozen=True):
    """Replace the times at which approved content is published and published content is archived; None: never.

    Raises Problem like TransitionContent.
    """

    content_id: UUID
    publish_at: UtcDatetime | None
    expire_at: UtcDatetime | None
    note: str | None
    caller: Principal
    version: int | None = None


class RestoreRevision(Request[Content], frozen=True):
    """Edit an article to a text that it had. Raises Problem like EditContent, and CONTENT_REVISION_NOT_FOUND."""

    content_id: UUID
    revision: int
    version: int | None
    caller: Principal


Change = (
    CreateContent
    | EditContent
    | DeleteContent
    | UndeleteContent
    | TransitionContent
    | ScheduleContent
    | RestoreRevision
)


class ContentWorkflow(Actor[Change]):
    """All changes of articles. A pool of these is keyed by content id; between processes the guarded SQL decides."""

    def __init__(
        self,
        database: Database,
        cache: ContentCache,
        jobs: JobQueue,
        sanitizer: HtmlSanitizer,
        *,
        quotas: Quotas = DEFAULT_QUOTAS,
        revisions: RevisionBounds = RevisionBounds(),  # noqa: B008 - frozen
        deleted_days: int = DELETED_DAYS,
        max_tags: int = MAX_TAGS,
    ) -> None:
        self.database = database
        self.cache = cache
        self.jobs = jobs
        self.sanitizer = sanitizer
        self.quotas = quotas
        self.revisions = revisions
        self.deleted_days = deleted_days
        self.max_tags = max_tags

    @on(CreateContent)
    @retried
    async def create(self, message: CreateContent) -> Content:
        """Add the draft and its event."""
        author_id = message.author.user_id
        fields = await self._fields(message.draft)
        async with self.database.transaction() as connection:
            row = await _written(
                QUERIES.add_content(connection, content_id=message.content_id, author_id=author_id, **fields)
            )
            if row is None:
                return await _made_before(connection, message)
            await count_use(connection, "drafts", author_id, most=self.quotas.drafts_per_hour)
            await self._make_room(connection, author_id)
            return await tell(connection, events.ContentCreated, row, author_id)

    @on(EditContent)
    @forgetting
    @retried
    async def edit(self, message: EditContent) -> Content:
        """Save an edit. If it takes content under review back to draft, the history says so; an edit without a change
        does nothing.
        """
        fields = await self._fields(message.draft)
        async with self.database.transaction() as connection:
            before = await _visible(connection, message.content_id, message.caller)
            return await self._save(connection, before, message, message.draft, fields)

    @on(RestoreRevision)
    @forgetting
    @retried
    async def restore_revision(self, message: RestoreRevision) -> Content:
        """Save an earlier text as an edit by the caller. A category that is gone since is left out."""
        async with self.database.acquire() as connection:
            before = await _visible(connection, message.content_id, message.caller)
            check_edit(message.caller, before.author_id, before.status)
            draft = await revision_as_draft(connection, before, message.revision)
        fields = await self._fields(draft)
        async with self.database.transaction() as connection:
            return await self._save(connection, before, message, draft, fields)

    @on(DeleteContent)
    @forgetting
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
            actor_id = message.caller.user_id
            await record(connection, before, "delete", before.status, actor_id)
            content = await tell(connection, events.ContentDeleted, row, actor_id)
            await plan(connection, self.jobs, before, content, actor_id)

    @on(UndeleteContent)
    @forgetting
    @retried
    async def undelete(self, message: UndeleteContent) -> Content:
        """Only editors see what is deleted."""
        if not is_editor(message.caller):
            raise Problem(CONTENT_NOT_FOUND)
        async with self.database.transaction() as connection:
            row = await QUERIES.undelete_content(connection, content_id=message.content_id, days=self.deleted_days)
            if row is None:
                raise Problem(CONTENT_NOT_FOUND)
            actor_id, content = message.caller.user_id, as_content(row)
            await record(connection, content, "undelete", content.status, actor_id)
            return await tell(connection, events.ContentUndeleted, row, actor_id)

    @on(TransitionContent)
    @forgetting
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
            if message.expire_at is not None and target is not Status.PUBLISHED:
                raise Problem(REQUEST_INVALID, details=(FieldError("expire_at", "Only publish takes it."),))
            await check_times(connection, None, message.expire_at)
            row = await QUERIES.move_content(
                connection,
                content_id=message.content_id,
                from_status=before.status,
                to_status=target,
                version=before.version,
                expire_at=message.expire_at,
            )
            if row is None:
                raise Problem(CONTENT_ILLEGAL_TRANSITION, JUST_CHANGED)
            actor_id = message.caller.user_id
            await count_use(connection, "transitions", actor_id, most=self.quotas.transitions_per_hour)
            await record(connection, before, message.action, target, actor_id, note=message.note)
            content = await tell(connection, EVENT_OF[message.action], row, actor_id, message.note)
            await plan(connection, self.jobs, before, content, actor_id)
            return content

    @on(ScheduleContent)
    @forgetting
    @retried
    async def schedule(self, message: ScheduleContent) -> Content:
        """Set the times. The same times again change nothing."""
        publish_at, expire_at = message.publish_at, message.expire_at
        async with self.database.transaction() as connection:
            before = await _visible(connection, message.content_id, message.caller)
            check_schedule(
                message.caller, before.author_id, before.last_edited_by, before.status, publishes=publish_at is not None
            )
            if message.version not in (None, before.version):
                raise Problem(CONTENT_STALE)
            if (publish_at, expire_at) == (before.publish_at, before.expire_at):
                return before
            if expire_at is not None and publish_at is None and before.status is not Status.PUBLISHED:
                raise Problem(REQUEST_INVALID, details=(FieldError("expire_at", "Needs publish_at before it."),))
            await check_times(connection, publish_at, expire_at)
            row = await QUERIES.schedule_content(
                connection,
                content_id=message.content_id,
                publish_at=publish_at,
                expire_at=expire_at,
                from_status=before.status,
                version=before.version,
            )
            if row is None:
                raise Problem(CONTENT_ILLEGAL_TRANSITION, JUST_CHANGED)
            return await self._note_schedule(connection, before, row, message)

    async def _note_schedule(self, connection: Any, before: Content, row: Any, message: ScheduleContent) -> Content:
        actor_id, note = message.caller.user_id, message.note
        await count_use(connection, "transitions", actor_id, most=self.quotas.transitions_per_hour)
        if message.publish_at is None and message.expire_at is None:
            await record(connection, before, "unschedule", before.status, actor_id, note=note)
            content = await tell(connection, events.ContentUnscheduled, row, actor_id, note)
        else:
            await record(connection, before, "schedule", before.status, actor_id, note=note)
            times = {"publish_at": message.publish_at, "expire_at": message.expire_at}
            content = await tell(connection, events.ContentScheduled, row, actor_id, note, **times)
        await plan(connection, self.jobs, before, content, actor_id)
        return content

    async def _save(
        self,
        connection: Any,
        before: Content,
        message: EditContent | RestoreRevision,
        draft: Draft,
        fields: dict[str, Any],
    ) -> Content:
        """Save a text by the guarded statement, with its revision, history and event."""
        status = check_edit(message.caller, before.author_id, before.status)
        if before.has(draft) and message.version in (None, before.version):
            return before
        actor_id = message.caller.user_id
        row = await _written(
            QUERIES.edit_content(
                connection,
                content_id=message.content_id,
                version=before.version if message.version is None else message.version,
                editor_id=actor_id,
                status=status,
                from_status=before.status,
                **fields,
            )
        )
        if row is None:
            raise Problem(CONTENT_STALE)
        if as_content(row).text_bytes > before.text_bytes:  # an author over the quota may still shorten a text
            await self._make_room(connection, before.author_id)
        await drop_oldest_revisions(connection, self.revisions, as_content(row))
        if status is not before.status:
            await record(connection, before, "edit", status, actor_id)
        content = await tell(connection, events.ContentEdited, row, actor_id)
        await plan(connection, self.jobs, before, content, actor_id)
        return content

    async def _make_room(self, connection: Any, author_id: UUID) -> None:
        """Check the author's quota; deleted articles make room, the oldest deletion first. Raises
        Problem(QUOTA_CONTENT).
        """
        rows, size = self.quotas.content_rows, self.quotas.content_bytes
        while True:
            try:
                return await check_content(connection, self.quotas, author_id)
            except Problem:
                if not await QUERIES.make_room(connection, author_id=author_id, max_rows=rows, max_bytes=size):
                    raise

    async def _fields(self, draft: Draft) -> dict[str, Any]:
        """Return the columns of a draft; called before the transaction, to keep the transaction short.

        Raises Problem(REQUEST_INVALID) for more tags than the settings allow.
        """
        if len(draft.tags) > self.max_tags:
            message = f"Must have {self.max_tags} at most."
            raise Problem(REQUEST_INVALID, details=(FieldError("tags", message),))
        return {**msgspec.structs.asdict(draft), "body_html": await self.sanitizer.clean_body(draft.body)}


async def _written(statement: Any) -> Any:
    """Return the row of an insert or update of an author's text. Raises Problem if the database refuses the text."""
    try:
        return await statement
    except asyncpg.ForeignKeyViolationError as error:
        if error.constraint_name != "content_category_id_fkey":
            raise
        raise Problem(CONTENT_CATEGORY_UNKNOWN, details=(FieldError("category_id", "is unknown"),)) from error


async def _made_before(connection: Any, message: CreateContent) -> Content:
    row = await QUERIES.content_of(connection, content_id=message.content_id, author_id=message.author.user_id)
    if row is None:
        raise Problem(CONTENT_NOT_FOUND)
    return as_content(row)


async def _visible(connection: Any, content_id: UUID, caller: Principal) -> Content:
    row = await QUERIES.content_by_id(connection, content_id=content_id)
    if row is None or not may_see(caller, row["author_id"], Status(row["status"])):
        raise Problem(CONTENT_NOT_FOUND)
    return as_content(row)


__all__ = [
    "Change",
    "Content",
    "ContentWorkflow",
    "CreateContent",
    "DeleteContent",
    "Draft",
    "EditContent",
    "RestoreRevision",
    "ScheduleContent",
    "TransitionContent",
    "UndeleteContent",
    "as_content",
]
