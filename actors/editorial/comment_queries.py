"""Queries of comments: one comment, the comments of an article, and the replies of a comment."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.editorial.comment_rules import Comment, CommentRow, may_read
from callboard.actors.editorial.comments import find_comment, find_content, load_comment
from callboard.actors.editorial.errors import COMMENT_NOT_FOUND
from callboard.actors.editorial.workflow_rules import is_editor, may_see
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.principals import Principal
from callboard.runtime import Actor, Request, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)


class ListedComment(Comment, frozen=True):
    """A comment in a list, with its author's name and the number of direct replies that its list has."""

    author_name: str | None
    replies: int


class ReadComment(Request[Comment], frozen=True):
    """Read a comment whose text the caller may see. Raises Problem(COMMENT_NOT_FOUND)."""

    comment_id: UUID
    caller: Principal | None


class ListComments(Request[list[ListedComment]], frozen=True):
    """List the comments of an article that answer no other, by their time, after the position (`after`, `after_id`).

    Raises Problem(CONTENT_NOT_FOUND).
    """

    content_id: UUID
    caller: Principal | None
    limit: int
    after: datetime
    after_id: UUID
    newest_first: bool


class ListReplies(Request[list[ListedComment]], frozen=True):
    """List the direct replies of a comment, oldest first. Raises Problem(COMMENT_NOT_FOUND)."""

    comment_id: UUID
    caller: Principal | None
    limit: int
    after: datetime
    after_id: UUID


class CommentQueries(Actor[ReadComment | ListComments | ListReplies]):
    """Answers queries; the workers of the pool share no state and take turns."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(ReadComment)
    async def read(self, message: ReadComment) -> Comment:
        """A comment whose text the caller may not see is reported as not found."""
        async with self.database.acquire() as connection:
            comment = await find_comment(connection, message.comment_id, message.caller)
        return comment.shown_to(message.caller)

    @on(ListComments)
    async def list_comments(self, message: ListComments) -> list[ListedComment]:
        """Read one page by its index."""
        query = QUERIES.newest_comments if message.newest_first else QUERIES.oldest_comments
        async with self.database.acquire() as connection:
            await find_content(connection, message.content_id, message.caller)
            return await _page(query(connection, content_id=message.content_id, **_asked(message)), message.caller)

    @on(ListReplies)
    async def list_replies(self, message: ListReplies) -> list[ListedComment]:
        """Read one page by its index. A comment without its text still has its replies."""
        async with self.database.acquire() as connection:
            parent = await load_comment(connection, message.comment_id)
            if (
                parent is None
                or not may_see(message.caller, parent.content_author_id, parent.content_status)
                or not (parent.replies > 0 or may_read(message.caller, parent.author_id, parent.status))
            ):
                raise Problem(COMMENT_NOT_FOUND)
            thread = {"content_id": parent.content_id, "parent_id": message.comment_id}
            return await _page(QUERIES.replies_of(connection, **thread, **_asked(message)), message.caller)


def _asked(message: ListComments | ListReplies) -> dict[str, Any]:
    """Return the parameters of a page: the caller also sees their own hidden comments, and an editor all."""
    return {
        "viewer_id": None if message.caller is None else message.caller.user_id,
        "sees_hidden": is_editor(message.caller),
        "after": message.after,
        "after_id": message.after_id,
        "limit": message.limit,
    }


async def _page(rows: Any, caller: Principal | None) -> list[ListedComment]:
    return [_listed(dict(row), caller) async for row in rows]


def _listed(row: dict[str, Any], caller: Principal | None) -> ListedComment:
    comment = msgspec.convert(row, CommentRow)
    shown = comment.shown_to(caller)
    return ListedComment(
        **msgspec.structs.asdict(shown),
        author_name=None if shown.author_id is None else row["author_name"],
        replies=comment.replies,
    )
