"""Comments: writing, editing and deleting. A change is one guarded statement; its event shares its transaction.

Comments are written on published content only: a remark on a draft would become public at the publication, and the
notes of transitions are for that. Threads are trees of bounded depth. A deleted or hidden comment stays in its thread,
without its text and author, as long as it has replies.
"""

from typing import Any
from uuid import UUID, uuid4

import msgspec

from callboard.actors.delivery.events import NotificationRequested
from callboard.actors.editorial import events
from callboard.actors.editorial.comment_rules import (
    Comment,
    CommentBounds,
    CommentOfContent,
    CommentStatus,
    check_change,
    may_read,
)
from callboard.actors.editorial.errors import (
    COMMENT_CONTENT_UNPUBLISHED,
    COMMENT_NOT_FOUND,
    COMMENT_PARENT_UNKNOWN,
    COMMENT_QUOTA,
    COMMENT_STALE,
    COMMENT_TOO_DEEP,
    CONTENT_NOT_FOUND,
)
from callboard.actors.editorial.html_sanitizer import HtmlSanitizer
from callboard.actors.editorial.workflow_rules import Status, may_see
from callboard.actors.errors import FieldError, Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.notification_kinds import NotificationKind
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.infrastructure.quotas import count_use
from callboard.runtime import Actor, Request, on
from callboard.streams.outbox import emit
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

MAX_BODY = 5_000  # characters; sanitised, they have less than the bound of schema.sql

PERSONAL_DATA = PersonalData(
    "comments", {"comments": ("author_id", "body", "body_html")}, QUERIES.export_comments, QUERIES.erase_comments
)


class CommentNotification(msgspec.Struct, frozen=True):
    """The data of a notification about a comment: neither its text nor its author's name, which others wrote."""

    content_id: UUID
    comment_id: UUID
    title: str


ANSWERED = NotificationKind(
    "comment_answered",
    CommentNotification,
    'Somebody answered your comment on "{title}".',
    "/content/{content_id}",
    translations={
        "de": "Jemand hat auf Ihren Kommentar zu »{title}« geantwortet.",
        "fr": "Votre commentaire sur « {title} » a une réponse.",
    },
)
COMMENTED = NotificationKind(
    "content_commented",
    CommentNotification,
    'Somebody commented on "{title}".',
    "/content/{content_id}",
    translations={"de": "Jemand hat »{title}« kommentiert.", "fr": "« {title} » a un nouveau commentaire."},
)


class CreateComment(Request[Comment], frozen=True):
    """Comment on published content, or answer a comment; a repeated request with the same id returns the same comment.

    Raises Problem(CONTENT_NOT_FOUND, COMMENT_CONTENT_UNPUBLISHED, COMMENT_PARENT_UNKNOWN, COMMENT_TOO_DEEP,
    QUOTA_RATE, COMMENT_QUOTA, REQUEST_INVALID, COMMENT_NOT_FOUND if the id is another comment's).
    """

    comment_id: UUID
    content_id: UUID
    parent_id: UUID | None
    body: str
    author: Principal


class EditComment(Request[Comment], frozen=True):
    """Replace the text, of this version if one is given.

    Raises Problem(COMMENT_NOT_FOUND, COMMENT_FORBIDDEN, COMMENT_EDIT_CLOSED, COMMENT_STALE, REQUEST_INVALID).
    """

    comment_id: UUID
    body: str
    version: int | None
    caller: Principal


class DeleteComment(Request[None], frozen=True):
    """Delete a comment. Raises Problem(COMMENT_NOT_FOUND, COMMENT_FORBIDDEN, COMMENT_STALE)."""

    comment_id: UUID
    caller: Principal
    version: int | None = None


class Comments(Actor[CreateComment | EditComment | DeleteComment]):
    """All changes of comments by their authors, and the same by editors. The workers of the pool share no state."""

    def __init__(self, database: Database, sanitizer: HtmlSanitizer, bounds: CommentBounds) -> None:
        self.database = database
        self.sanitizer = sanitizer
        self.bounds = bounds

    @on(CreateComment)
    @retried
    async def create(self, message: CreateComment) -> Comment:
        """Add the comment, its event, and the notifications of the authors of the article and of the parent."""
        body_html = await self.sanitizer.clean_body(message.body)
        author_id = message.author.user_id
        async with self.database.transaction() as connection:
            content = await find_content(connection, message.content_id, message.author)
            if Status(content["status"]) is not Status.PUBLISHED:
                raise Problem(COMMENT_CONTENT_UNPUBLISHED)
            parent = await self._parent(connection, message)
            is_new = await QUERIES.add_comment(
                connection,
                comment_id=message.comment_id,
                content_id=message.content_id,
                author_id=author_id,
                parent_id=message.parent_id,
                depth=0 if parent is None else parent.depth + 1,
                body=message.body,
                body_html=body_html,
            )
            comment = await find_comment(connection, message.comment_id, message.author)
            if not is_new:
                if (comment.author_id, comment.content_id) != (author_id, message.content_id):
                    raise Problem(COMMENT_NOT_FOUND)
                return comment.shown_to(message.author)
            await self._check_quotas(connection, author_id)
            await tell(connection, events.CommentCreated, comment, message.author)
            await _notify(connection, comment, parent)
        return comment.shown_to(message.author)

    @on(EditComment)
    @retried
    async def edit(self, message: EditComment) -> Comment:
        """Save an edit; the same text again changes nothing. The history has an editor's edit of another's comment."""
        body_html = await self.sanitizer.clean_body(message.body)
        async with self.database.transaction() as connection:
            before = await find_comment(connection, message.comment_id, message.caller)
            check_change(message.caller, before, edit_minutes=self.bounds.edit_minutes)
            if before.body == message.body and message.version in (None, before.version):
                return before.shown_to(message.caller)
            version = before.version if message.version is None else message.version
            if not await QUERIES.edit_comment(
                connection, comment_id=message.comment_id, version=version, body=message.body, body_html=body_html
            ):
                raise Problem(COMMENT_STALE)
            if message.caller.user_id != before.author_id:
                await record_decision(connection, before, message.caller, "edit")
            after = await find_comment(connection, message.comment_id, message.caller)
            await tell(connection, events.CommentEdited, after, message.caller)
        return after.shown_to(message.caller)

    @on(DeleteComment)
    @retried
    async def delete(self, message: DeleteComment) -> None:
        """Delete it, at any age; its reports are closed. The text is kept until retention takes it."""
        async with self.database.transaction() as connection:
            before = await find_comment(connection, message.comment_id, message.caller)
            check_change(message.caller, before)
            version = before.version if message.version is None else message.version
            if not await QUERIES.delete_comment(connection, comment_id=message.comment_id, version=version):
                raise Problem(COMMENT_STALE)
            await QUERIES.close_reports(connection, comment_id=message.comment_id)
            if message.caller.user_id != before.author_id:
                await record_decision(connection, before, message.caller, "delete")
            deleted = msgspec.structs.replace(before, version=before.version + 1)
            await tell(connection, events.CommentDeleted, deleted, message.caller)

    async def _parent(self, connection: Any, message: CreateComment) -> CommentOfContent | None:
        """Return the visible comment that is answered. Raises Problem."""
        if message.parent_id is None:
            return None
        parent = await load_comment(connection, message.parent_id)
        if parent is None or parent.content_id != message.content_id or parent.status is not CommentStatus.VISIBLE:
            raise Problem(COMMENT_PARENT_UNKNOWN, details=(FieldError("parent_id", "is unknown"),))
        if parent.depth >= self.bounds.max_depth:
            raise Problem(COMMENT_TOO_DEEP)
        return parent

    async def _check_quotas(self, connection: Any, author_id: UUID) -> None:
        await count_use(connection, "comments", author_id, most=self.bounds.per_hour)
        if await QUERIES.comment_rows(connection, user_id=author_id) > self.bounds.rows:
            raise Problem(COMMENT_QUOTA, f"You may have {self.bounds.rows} comments; delete some to write more.")


async def load_comment(connection: Any, comment_id: UUID) -> CommentOfContent | None:
    """Return a comment's row, whoever asks."""
    row = await QUERIES.comment_by_id(connection, comment_id=comment_id)
    return None if row is None else msgspec.convert(dict(row), CommentOfContent)


async def find_comment(connection: Any, comment_id: UUID, caller: Principal | None) -> CommentOfContent:
    """Return a comment that the caller may read, on content that the caller may see. Raises
    Problem(COMMENT_NOT_FOUND).
    """
    comment = await load_comment(connection, comment_id)
    if (
        comment is None
        or not may_see(caller, comment.content_author_id, comment.content_status)
        or not may_read(caller, comment.author_id, comment.status)
    ):
        raise Problem(COMMENT_NOT_FOUND)
    return comment


async def find_content(connection: Any, content_id: UUID, caller: Principal | None) -> Any:
    """Return the author, state and title of content that the caller may see. Raises Problem(CONTENT_NOT_FOUND)."""
    row = await QUERIES.commented_content(connection, content_id=content_id)
    if row is None or not may_see(caller, row["author_id"], Status(row["status"])):
        raise Problem(CONTENT_NOT_FOUND)
    return row


async def record_decision(
    connection: Any, comment: CommentOfContent, caller: Principal, action: str, reason: str | None = None
) -> None:
    """Add an editor's decision to the history of a comment."""
    await QUERIES.add_moderation(
        connection, comment_id=comment.comment_id, actor_id=caller.user_id, action=action, reason=reason
    )


async def tell(connection: Any, kind: type[events.CommentEvent], comment: CommentOfContent, caller: Principal) -> None:
    """Write the event of a change."""
    event = kind(
        comment.comment_id, comment.content_id, comment.parent_id, comment.author_id, caller.user_id, comment.version
    )
    await emit(connection, event, event_id=uuid4())


async def _notify(connection: Any, comment: CommentOfContent, parent: CommentOfContent | None) -> None:
    """Notify the author of the parent and the author of the article, each once, and nobody of their own comment."""
    kinds = {comment.content_author_id: COMMENTED}
    if parent is not None:
        kinds[parent.author_id] = ANSWERED
    kinds.pop(comment.author_id, None)
    data = {"content_id": str(comment.content_id), "comment_id": str(comment.comment_id), "title": comment.title}
    for user_id, kind in kinds.items():
        await emit(connection, NotificationRequested(user_id, kind.name, data), event_id=uuid4())
