"""The rules of comments: who sees, edits and deletes them. Pure functions, no clock, no SQL."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from callboard.actors.editorial.errors import COMMENT_EDIT_CLOSED, COMMENT_FORBIDDEN
from callboard.actors.editorial.workflow_rules import Status, is_editor
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.principals import Principal
from callboard.streams.event_types import UtcDatetime


class CommentBounds(msgspec.Struct, frozen=True):
    """The bounds on comments: of a thread, of an author's edits, and of one user's comments and reports."""

    max_depth: int = 5
    edit_minutes: int = 15
    rows: int = 100_000
    per_hour: int = 120
    reports_per_hour: int = 60


class CommentStatus(StrEnum):
    """Whether readers see a comment's text."""

    VISIBLE = "visible"
    HIDDEN = "hidden"
    DELETED = "deleted"


class Comment(msgspec.Struct, frozen=True):
    """A comment. `body` is the text as sent, `body_html` is safe to show; `version` counts the changes.

    A deleted comment has neither text nor author; a hidden one has them for its author and for editors.
    """

    comment_id: UUID
    content_id: UUID
    parent_id: UUID | None
    depth: int
    status: CommentStatus
    author_id: UUID | None
    body: str | None
    body_html: str | None
    version: int
    created_at: UtcDatetime
    edited_at: UtcDatetime | None


class CommentRow(msgspec.Struct, frozen=True):
    """A comment's row."""

    comment_id: UUID
    content_id: UUID
    parent_id: UUID | None
    depth: int
    replies: int
    author_id: UUID
    body: str | None
    body_html: str | None
    version: int
    created_at: datetime
    edited_at: datetime | None
    hidden_at: datetime | None
    deleted_at: datetime | None
    reported_at: datetime | None

    @property
    def status(self) -> CommentStatus:
        """Return the state."""
        if self.deleted_at is not None:
            return CommentStatus.DELETED
        return CommentStatus.VISIBLE if self.hidden_at is None else CommentStatus.HIDDEN

    def shown_to(self, caller: Principal | None) -> Comment:
        """Return the comment as the caller sees it."""
        shown = msgspec.structs.asdict(self) | {"status": self.status}
        if not may_read(caller, self.author_id, self.status):
            shown |= dict.fromkeys(("author_id", "body", "body_html", "edited_at"))
        return msgspec.convert(shown, Comment)


class CommentOfContent(CommentRow, frozen=True):
    """A comment's row, with its article's author, state and title. `age_s` is by the database's clock."""

    age_s: float
    content_author_id: UUID
    content_status: Status
    title: str


def may_read(caller: Principal | None, author_id: UUID, status: CommentStatus) -> bool:
    """Whether the caller sees the text and the author: of a hidden comment only its author and editors do."""
    if status is CommentStatus.HIDDEN:
        return is_editor(caller) or (caller is not None and caller.user_id == author_id)
    return status is CommentStatus.VISIBLE


def check_author(caller: Principal, author_id: UUID | None) -> None:
    """Check that the caller is the author or an editor. Raises Problem(COMMENT_FORBIDDEN)."""
    if caller.user_id != author_id and not is_editor(caller):
        raise Problem(COMMENT_FORBIDDEN)


def check_change(caller: Principal, comment: CommentOfContent, *, edit_minutes: int | None = None) -> None:
    """Check that the caller may delete the comment, or edit it if `edit_minutes` bounds its author's edits.

    Raises Problem(COMMENT_FORBIDDEN, COMMENT_EDIT_CLOSED).
    """
    check_author(caller, comment.author_id)
    if edit_minutes is None or is_editor(caller):
        return
    if comment.status is CommentStatus.HIDDEN:
        raise Problem(COMMENT_EDIT_CLOSED, "An editor has hidden this comment.")
    if comment.age_s > edit_minutes * 60:
        raise Problem(COMMENT_EDIT_CLOSED, f"A comment can be edited for {edit_minutes} minutes.")
