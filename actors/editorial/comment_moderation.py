"""Moderation of comments: reports by members, decisions of editors, and their history."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.editorial import events
from callboard.actors.editorial.comment_rules import Comment, CommentBounds, CommentRow, CommentStatus
from callboard.actors.editorial.comments import QUERIES as COMMENTS
from callboard.actors.editorial.comments import find_comment, load_comment, record_decision, tell
from callboard.actors.editorial.errors import (
    COMMENT_ILLEGAL_MODERATION,
    COMMENT_NOT_FOUND,
    COMMENT_OWN_REPORT,
    COMMENT_STALE,
)
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.infrastructure.quotas import count_use
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERSONAL_DATA = (
    PersonalData(
        "comment_reports",
        {"comment_reports": ("reporter_id", "note")},
        QUERIES.export_reports,
        QUERIES.erase_reports,
    ),
    PersonalData(
        "comment_moderations",
        {"comment_moderations": ("actor_id", "reason")},
        QUERIES.export_moderations,
        QUERIES.erase_reasons,
    ),
)


class Moderation(StrEnum):
    """A decision of an editor: `show` shows a hidden comment, and keeps a reported one."""

    HIDE = "hide"
    SHOW = "show"


class ReportReason(StrEnum):
    """The reason of a report."""

    SPAM = "spam"
    ABUSE = "abuse"
    OFF_TOPIC = "off_topic"
    OTHER = "other"


class Report(msgspec.Struct, frozen=True):
    """A member's report. `closed_at` is the time of the decision that followed it."""

    report_id: int
    comment_id: UUID
    reporter_id: UUID
    reason: ReportReason
    note: str | None
    created_at: UtcDatetime
    closed_at: UtcDatetime | None


class Decision(msgspec.Struct, frozen=True):
    """One step of a comment's history."""

    moderation_id: int
    action: str
    reason: str | None
    actor_id: UUID
    actor_name: str
    created_at: UtcDatetime


class ReportedComment(msgspec.Struct, frozen=True):
    """A comment with open reports: the time of the first, and how many there are, counted to 100."""

    comment: Comment
    author_name: str
    reported_at: UtcDatetime
    reports: int


class ModerateComment(Request[Comment], frozen=True):
    """Hide or show a comment. An editor's decision closes its reports.

    Raises Problem(COMMENT_NOT_FOUND, COMMENT_ILLEGAL_MODERATION, COMMENT_STALE).
    """

    comment_id: UUID
    action: Moderation
    reason: str | None
    caller: Principal
    version: int | None = None


class ReportComment(Request[Report], frozen=True):
    """Report a visible comment to the editors; the same member's next report of it returns the first.

    After a decision a member can report the comment again once its text has changed. Raises Problem(COMMENT_NOT_FOUND,
    COMMENT_OWN_REPORT, QUOTA_RATE).
    """

    comment_id: UUID
    reason: ReportReason
    note: str | None
    caller: Principal


class ListReported(Request[list[ReportedComment]], frozen=True):
    """List comments with open reports, the longest waiting first, after the position (`after`, `after_id`)."""

    caller: Principal
    limit: int
    after: datetime
    after_id: UUID


class ListReports(Request[list[Report]], frozen=True):
    """List the reports of a comment, oldest first. Raises Problem(COMMENT_NOT_FOUND)."""

    comment_id: UUID
    limit: int
    after: int = 0


class ListDecisions(Request[list[Decision]], frozen=True):
    """List the decisions about a comment, oldest first. Raises Problem(COMMENT_NOT_FOUND)."""

    comment_id: UUID
    limit: int
    after: int = 0


class CommentModeration(Actor[ModerateComment | ReportComment | ListReported | ListReports | ListDecisions]):
    """Reports and decisions; the workers of the pool share no state. Routes admit only editors to all but reports."""

    def __init__(self, database: Database, bounds: CommentBounds) -> None:
        self.database = database
        self.bounds = bounds

    @on(ModerateComment)
    @retried
    async def moderate(self, message: ModerateComment) -> Comment:
        """Of two simultaneous decisions one wins; its history and its event share its transaction."""
        hides = message.action is Moderation.HIDE
        async with self.database.transaction() as connection:
            before = await find_comment(connection, message.comment_id, message.caller)
            is_hidden = before.status is CommentStatus.HIDDEN
            if hides is is_hidden and (hides or before.reported_at is None):
                now = f"{before.status} and {'not ' if before.reported_at is None else ''}reported"
                raise Problem(COMMENT_ILLEGAL_MODERATION, f"You cannot {message.action} a comment that is {now}.")
            version = before.version if message.version is None else message.version
            if not await QUERIES.set_hidden(
                connection, comment_id=message.comment_id, version=version, is_hidden=hides
            ):
                raise Problem(COMMENT_STALE)
            await COMMENTS.close_reports(connection, comment_id=message.comment_id)
            await record_decision(connection, before, message.caller, message.action, message.reason)
            after = await find_comment(connection, message.comment_id, message.caller)
            kind = events.CommentHidden if hides else events.CommentShown
            await tell(connection, kind, after, message.caller)
        return after.shown_to(message.caller)

    @on(ReportComment)
    @retried
    async def report(self, message: ReportComment) -> Report:
        """Add the report, and the comment to the list of reported ones."""
        reporter_id = message.caller.user_id
        async with self.database.transaction() as connection:
            comment = await find_comment(connection, message.comment_id, message.caller)
            if comment.author_id == reporter_id:
                raise Problem(COMMENT_OWN_REPORT)
            if not await QUERIES.lock_visible(connection, comment_id=message.comment_id):
                raise Problem(COMMENT_NOT_FOUND)
            fields = {"comment_id": message.comment_id, "reporter_id": reporter_id}
            is_open = await QUERIES.add_report(connection, **fields, reason=message.reason, note=message.note)
            if is_open:
                await count_use(connection, "comment_reports", reporter_id, most=self.bounds.reports_per_hour)
                await QUERIES.mark_reported(connection, comment_id=message.comment_id)
            return msgspec.convert(dict(await QUERIES.report_by(connection, **fields)), Report)

    @on(ListReported)
    async def list_reported(self, message: ListReported) -> list[ReportedComment]:
        """Read one page by its index."""
        page = {"after": message.after, "after_id": message.after_id, "limit": message.limit}
        async with self.database.acquire() as connection:
            rows = [dict(row) async for row in QUERIES.reported(connection, **page)]
        return [
            ReportedComment(
                msgspec.convert(row, CommentRow).shown_to(message.caller),
                row["author_name"],
                row["reported_at"],
                row["reports"],
            )
            for row in rows
        ]

    @on(ListReports)
    async def list_reports(self, message: ListReports) -> list[Report]:
        """Read one page by its index."""
        return msgspec.convert(await self._page(QUERIES.reports_of, message), list[Report])

    @on(ListDecisions)
    async def list_decisions(self, message: ListDecisions) -> list[Decision]:
        """Read one page by its index."""
        return msgspec.convert(await self._page(QUERIES.moderations_of, message), list[Decision])

    async def _page(self, query: Any, message: ListReports | ListDecisions) -> list[dict[str, Any]]:
        async with self.database.acquire() as connection:
            if await load_comment(connection, message.comment_id) is None:
                raise Problem(COMMENT_NOT_FOUND)
            page = {"comment_id": message.comment_id, "after": message.after, "limit": message.limit}
            return [dict(row) async for row in query(connection, **page)]
