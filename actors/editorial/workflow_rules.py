"""The editorial rules: five states, six transitions, and the users who may make them. Pure functions, no
clock, no SQL.
"""

from enum import StrEnum
from uuid import UUID

import msgspec

from callboard.actors.editorial.errors import (
    CONTENT_FORBIDDEN,
    CONTENT_ILLEGAL_TRANSITION,
    CONTENT_OWN_REVIEW,
    CONTENT_PUBLISHED,
)
from callboard.actors.errors import Problem
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


class TransitionRule(msgspec.Struct, frozen=True):
    """One transition: from, to, and whether the author may make it or only an editor."""

    source: Status
    target: Status
    by_author: bool


TRANSITION_RULES: dict[Action, TransitionRule] = {
    Action.SUBMIT_FOR_REVIEW: TransitionRule(Status.DRAFT, Status.PENDING_REVIEW, by_author=True),
    Action.APPROVE: TransitionRule(Status.PENDING_REVIEW, Status.APPROVED, by_author=False),
    Action.REJECT: TransitionRule(Status.PENDING_REVIEW, Status.DRAFT, by_author=False),
    Action.PUBLISH: TransitionRule(Status.APPROVED, Status.PUBLISHED, by_author=False),
    Action.ARCHIVE: TransitionRule(Status.PUBLISHED, Status.ARCHIVED, by_author=True),
    Action.RESTORE: TransitionRule(Status.ARCHIVED, Status.DRAFT, by_author=True),
}


def is_editor(caller: Principal | None) -> bool:
    """Whether the role reviews, publishes and sees everything."""
    return caller is not None and caller.role.includes(Role.EDITOR)


def may_see(caller: Principal | None, author_id: UUID, status: Status) -> bool:
    """Whether the caller sees the content: everybody sees published content; other content is for its author and
    editors.
    """
    return status is Status.PUBLISHED or is_editor(caller) or (caller is not None and caller.user_id == author_id)


def is_own(caller: Principal, author_id: UUID, edited_by: UUID | None) -> bool:
    """Whether the caller is its author or changed it last. `edited_by` is None for the author."""
    return caller.user_id in (author_id, edited_by)


def may_make(caller: Principal, author_id: UUID, edited_by: UUID | None, action: Action) -> bool:
    """Whether the role allows the action on this content, in any state. Nobody approves their own text: two people have
    seen everything that is published.
    """
    if action is Action.APPROVE and is_own(caller, author_id, edited_by):
        return False
    return is_editor(caller) or (TRANSITION_RULES[action].by_author and caller.user_id == author_id)


def allowed(caller: Principal, author_id: UUID, edited_by: UUID | None, status: Status) -> list[Action]:
    """Return the actions that the caller may take on it now."""
    return [
        action
        for action, move in TRANSITION_RULES.items()
        if move.source is status and may_make(caller, author_id, edited_by, action)
    ]


def check_transition(
    caller: Principal, author_id: UUID, edited_by: UUID | None, status: Status, action: Action
) -> Status:
    """Return the state after the action.

    Raises Problem: CONTENT_OWN_REVIEW or CONTENT_FORBIDDEN by role, CONTENT_ILLEGAL_TRANSITION by state, with the
    allowed actions.
    """
    if not may_make(caller, author_id, edited_by, action):
        own = action is Action.APPROVE and is_own(caller, author_id, edited_by) and is_editor(caller)
        raise Problem(CONTENT_OWN_REVIEW if own else CONTENT_FORBIDDEN)
    move = TRANSITION_RULES[action]
    if move.source is not status:
        possible = tuple(allowed(caller, author_id, edited_by, status))
        now = ", ".join(possible) or "nothing"
        message = f"{action} needs {move.source} content, and this is {status}; allowed now: {now}."
        raise Problem(CONTENT_ILLEGAL_TRANSITION, message, allowed=possible)
    return move.target


def check_schedule(
    caller: Principal, author_id: UUID, edited_by: UUID | None, status: Status, *, publishes: bool
) -> None:
    """Check a change of a schedule by the rule of the transition that is scheduled: of approved content its
    publication, of published content only its archiving. Raises Problem like `check_transition`.
    """
    archives = status is Status.PUBLISHED and not publishes
    check_transition(caller, author_id, edited_by, status, Action.ARCHIVE if archives else Action.PUBLISH)


def check_edit(caller: Principal, author_id: UUID, status: Status) -> Status:
    """Return the state after an edit: reviewed text that changes must be reviewed again. Raises Problem likewise."""
    if not (is_editor(caller) or caller.user_id == author_id):
        raise Problem(CONTENT_FORBIDDEN)
    if status in (Status.PUBLISHED, Status.ARCHIVED):
        raise Problem(CONTENT_PUBLISHED)
    return Status.DRAFT
