"""The editorial rules as one table: five states, six actions, three roles, author or not."""

from itertools import product
from uuid import UUID

import pytest
from kit.domain import refused

from callboard.actors.editorial.errors import (
    CONTENT_FORBIDDEN,
    CONTENT_ILLEGAL_TRANSITION,
    CONTENT_OWN_REVIEW,
    CONTENT_PUBLISHED,
)
from callboard.actors.editorial.workflow_rules import (
    Action,
    Status,
    allowed,
    check_edit,
    check_transition,
    is_own,
    may_see,
)
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.principals import Principal, Role

AUTHOR, OTHER = UUID(int=1), UUID(int=2)

# Written out, not derived: this is the contract.
TARGETS = {
    ("draft", "submit_for_review"): "pending_review",
    ("pending_review", "approve"): "approved",
    ("pending_review", "reject"): "draft",
    ("approved", "publish"): "published",
    ("published", "archive"): "archived",
    ("archived", "restore"): "draft",
}
MAY = {  # whoever is not named here may do nothing
    "author": {"submit_for_review", "archive", "restore"},
    "editor": {"submit_for_review", "approve", "reject", "publish", "archive", "restore"},
    "author and editor": {"submit_for_review", "reject", "publish", "archive", "restore"},
    "other": set(),
}

CASES = list(product(Status, Action, Role, (True, False)))


def person(role: Role, *, is_author: bool) -> Principal:
    return Principal(AUTHOR if is_author else OTHER, UUID(int=9), "who@example.org", role)


def rights(role: Role, *, is_author: bool) -> set[str]:
    if role is Role.MEMBER:
        return MAY["author" if is_author else "other"]
    return MAY["author and editor" if is_author else "editor"]


def test_the_table_is_whole() -> None:
    assert len(CASES) == 5 * 6 * 3 * 2
    assert len(TARGETS) == len(Action)


@pytest.mark.parametrize(("status", "action", "role", "is_author"), CASES)
def test_who_may_do_what_in_which_state(status: Status, action: Action, role: Role, is_author: bool) -> None:
    caller = person(role, is_author=is_author)
    may = rights(role, is_author=is_author)
    possible = [each for each in Action if each in may and (status, each) in TARGETS]
    assert allowed(caller, AUTHOR, None, status) == possible
    if action not in may:
        own = action is Action.APPROVE and is_author and role is not Role.MEMBER
        with refused(CONTENT_OWN_REVIEW if own else CONTENT_FORBIDDEN):
            check_transition(caller, AUTHOR, None, status, action)
    elif (status, action) in TARGETS:
        assert check_transition(caller, AUTHOR, None, status, action) == TARGETS[status, action]
    else:
        with refused(CONTENT_ILLEGAL_TRANSITION) as caught:
            check_transition(caller, AUTHOR, None, status, action)
        assert list(caught.value.allowed) == possible
        assert all(each in caught.value.message for each in possible)


@pytest.mark.parametrize(("status", "role", "is_author"), list(product(Status, Role, (True, False))))
def test_who_may_edit_in_which_state(status: Status, role: Role, is_author: bool) -> None:
    caller = person(role, is_author=is_author)
    if role is Role.MEMBER and not is_author:
        with refused(CONTENT_FORBIDDEN):
            check_edit(caller, AUTHOR, status)
    elif status in ("published", "archived"):
        with refused(CONTENT_PUBLISHED):
            check_edit(caller, AUTHOR, status)
    else:
        assert check_edit(caller, AUTHOR, status) is Status.DRAFT


@pytest.mark.parametrize("status", list(Status))
def test_who_may_see_what(status: Status) -> None:
    public = status is Status.PUBLISHED
    assert may_see(None, AUTHOR, status) is public
    assert may_see(person(Role.MEMBER, is_author=False), AUTHOR, status) is public
    assert may_see(person(Role.MEMBER, is_author=True), AUTHOR, status)
    assert may_see(person(Role.EDITOR, is_author=False), AUTHOR, status)
    assert may_see(person(Role.ADMIN, is_author=False), AUTHOR, status)


def test_nobody_can_publish_without_a_second_pair_of_eyes() -> None:
    """However they go from state to state alone, no path of an author or of the last editor passes an approval."""
    for role, is_author, edited_by in product(Role, (True, False), (None, AUTHOR, OTHER)):
        alone = person(role, is_author=is_author)
        if not is_own(alone, AUTHOR, edited_by):
            continue
        reached, ahead = {Status.DRAFT}, [Status.DRAFT]
        while ahead:
            status = ahead.pop()
            for action in Action:
                try:
                    target = check_transition(alone, AUTHOR, edited_by, status, action)
                except Problem:
                    continue
                if target not in reached:
                    reached.add(target)
                    ahead.append(target)
        assert Status.PUBLISHED not in reached
