"""The editorial rules: five states, six transitions, and the users who may make them. Pure functions, no
clock, no SQL.
"""

from enum import StrEnum
from uuid import UUID

import msgspec

from callboard.actors.errors import (
    CONTENT_FORBIDDEN,
    CONTENT_ILLEGAL_TRANSITION,
    CONTENT_OWN_REVIEW,
    CONTENT_PUBLISHED,
    Problem,
)
from callboard.actors.infrastructure.principals import Principal, Role


class Status(StrEnum):
    """The workflow state of an article."""

    DRAFT = "draft"
    PENDING_REVIEW = "pending_review"
    APPROVED = "approved"
    PUBLISHED = "published"
    ARCHIVED = "archived"


class Language(StrEnum):
    """The language by which an article's words are indexed; use `simple` for any other language."""

    ARABIC = "arabic"
    ARMENIAN = "armenian"
    BASQUE = "basque"
    CATALAN = "catalan"
    DANISH = "danish"
    DUTCH = "dutch"
    ENGLISH = "english"
    FINNISH = "finnish"
    FRENCH = "french"
    GERMAN = "german"
    GREEK = "greek"
    HINDI = "hindi"
    HUNGARIAN = "hungarian"
    INDONESIAN = "indonesian"
    IRISH = "irish"
    ITALIAN = "italian"
    LITHUANIAN = "lithuanian"
    NEPALI = "nepali"
    NORWEGIAN = "norwegian"
    PORTUGUESE = "portuguese"
    ROMANIAN = "romanian"
    RUSSIAN = "russian"
    SERBIAN = "serbian"
    SIMPLE = "simple"
    SPANISH = "spanish"
    SWEDISH = "swedish"
    TAMIL = "tamil"
    TURKISH = "turkish"
    YIDDISH = "yiddish"


class Action(StrEnum):
    """A workflow action."""

    SUBMIT_FOR_REVIEW = "submit_for_review"
    APPROVE = "approve"
    REJECT = "reject"
    PUBLISH = "publish"
    ARCHIVE = "archive"
    RESTORE = "restore"


class Move(msgspec.Struct, frozen=True):
    """One transition: from, to, and whether the author may make it or only an editor."""

    source: Status
    target: Status
    by_author: bool


MOVES: dict[Action, Move] = {
    Action.SUBMIT_FOR_REVIEW: Move(Status.DRAFT, Status.PENDING_REVIEW, by_author=True),
    Action.APPROVE: Move(Status.PENDING_REVIEW, Status.APPROVED, by_author=False),
    Action.REJECT: Move(Status.PENDING_REVIEW, Status.DRAFT, by_author=False),
    Action.PUBLISH: Move(Status.APPROVED, Status.PUBLISHED, by_author=False),
    Action.ARCHIVE: Move(Status.PUBLISHED, Status.ARCHIVED, by_author=True),
    Action.RESTORE: Move(Status.ARCHIVED, Status.DRAFT, by_author=True),
}


def is_editor(who: Principal | None) -> bool:
    """Whether the role reviews, publishes and sees everything."""
    return who is not None and who.role.includes(Role.EDITOR)


def may_see(who: Principal | None, author_id: UUID, status: Status) -> bool:
    """Whether the caller sees the content: everybody sees published content; other content is for its author and
    editors.
    """
    return status is Status.PUBLISHED or is_editor(who) or (who is not None and who.user_id == author_id)


def is_own(who: Principal, author_id: UUID, edited_by: UUID | None) -> bool:
    """Whether the caller is its author or changed it last. `edited_by` is None for the author."""
    return who.user_id in (author_id, edited_by)


def may_make(who: Principal, author_id: UUID, edited_by: UUID | None, action: Action) -> bool:
    """Whether the role allows the action on this content, in any state. Nobody approves their own text: two people have
    seen everything that is published.
    """
    if action is Action.APPROVE and is_own(who, author_id, edited_by):
        return False
    return is_editor(who) or (MOVES[action].by_author and who.user_id == author_id)


def allowed(who: Principal, author_id: UUID, edited_by: UUID | None, status: Status) -> list[Action]:
    """Return the actions that the caller may take on it now."""
    return [
        action
        for action, move in MOVES.items()
        if move.source is status and may_make(who, author_id, edited_by, action)
    ]


def check_transition(who: Principal, author_id: UUID, edited_by: UUID | None, status: Status, action: Action) -> Status:
    """Return the state after the action.

    Raises Problem: CONTENT_OWN_REVIEW or CONTENT_FORBIDDEN by role, CONTENT_ILLEGAL_TRANSITION by state, with the
    allowed actions.
    """
    if not may_make(who, author_id, edited_by, action):
        own = action is Action.APPROVE and is_own(who, author_id, edited_by) and is_editor(who)
        raise Problem(CONTENT_OWN_REVIEW if own else CONTENT_FORBIDDEN)
    move = MOVES[action]
    if move.source is not status:
        possible = tuple(allowed(who, author_id, edited_by, status))
        now = ", ".join(possible) or "nothing"
        message = f"{action} needs {move.source} content, and this is {status}; allowed now: {now}."
        raise Problem(CONTENT_ILLEGAL_TRANSITION, message, allowed=possible)
    return move.target


def judge_edit(who: Principal, author_id: UUID, status: Status) -> Status:
    """Return the state after an edit: reviewed text that changes must be reviewed again. Raises Problem likewise."""
    if not (is_editor(who) or who.user_id == author_id):
        raise Problem(CONTENT_FORBIDDEN)
    if status in (Status.PUBLISHED, Status.ARCHIVED):
        raise Problem(CONTENT_PUBLISHED)
    return Status.DRAFT
