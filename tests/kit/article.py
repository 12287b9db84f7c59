"""An article as the contract has it: the model that the real workflow is held against."""

from copy import deepcopy
from itertools import permutations
from typing import NamedTuple

from hypothesis import strategies as st

TRANSITION_RULES = {  # from, to, whether its author may make it, its event
    "submit_for_review": ("draft", "pending_review", True, "content.submitted"),
    "approve": ("pending_review", "approved", False, "content.approved"),
    "reject": ("pending_review", "draft", False, "content.rejected"),
    "publish": ("approved", "published", False, "content.published"),
    "archive": ("published", "archived", True, "content.archived"),
    "restore": ("archived", "draft", True, "content.restored"),
}
OTHERS = ("edit", "edit stale", "edit to same", "first revision", "schedule", "unschedule", "delete", "undelete")
TIMES = ("publish due", "all due")  # time passes: nothing else happens at once


class Step(NamedTuple):
    """A step of somebody; `text` is what an edit writes."""

    name: str
    who: str
    text: str = ""


# Forward more often than not: else most articles stay drafts.
NAMES = st.sampled_from([*TRANSITION_RULES, *TRANSITION_RULES, *OTHERS])
WHO = st.sampled_from(["author", "editor", "editor", "second editor", "stranger"])
ROUND = st.one_of(
    st.lists(st.tuples(NAMES, WHO), min_size=1, max_size=3), st.sampled_from(TIMES).map(lambda name: [(name, "nobody")])
)


class Model:
    """An article as the contract has it; `author_is_editor` makes its author one who could review."""

    def __init__(self, text: str, *, author_is_editor: bool) -> None:
        self.editors = {"editor", "second editor"} | ({"author"} if author_is_editor else set())
        self.status, self.version, self.last_editor = "draft", 1, "author"
        self.texts = [text]
        self.publish_at = self.expire_at = self.deleted = False
        self.events: list[tuple[str, int]] = [("content.created", 1)]
        self.history: list[tuple[str, str, str]] = []

    def take(self, step: Step) -> bool:
        """Whether the step is taken."""
        if self.deleted or step.name == "undelete":
            return self._undelete(step)
        if step.who == "stranger" or step.name == "edit stale":
            return False
        if step.name in TRANSITION_RULES:
            return self._move(step)
        if step.name in ("schedule", "unschedule"):
            return self._schedule(step)
        if step.name == "delete":
            return self.status != "published" and self._delete()
        return self.status not in ("published", "archived") and self._edit(step)

    def pass_time(self, name: str) -> None:
        """Have one or both times of a schedule pass."""
        if self.publish_at:
            self.publish_at = False
            self._go("published", "content.published", "publish")
        if self.expire_at and self.status == "published" and name == "all due":
            self.expire_at = False
            self._go("archived", "content.archived", "archive")

    def facts(self) -> tuple[object, ...]:
        """What the row must say."""
        times = (self.publish_at, self.expire_at, self.deleted)
        return (self.status, self.version, len(self.texts), self.texts[-1], self.last_editor, *times)

    def _move(self, step: Step) -> bool:
        source, target, by_author, event = TRANSITION_RULES[step.name]
        if step.name == "approve" and step.who in ("author", self.last_editor):
            return False
        if self.status != source or not (step.who in self.editors or (by_author and step.who == "author")):
            return False
        self.publish_at, self.expire_at = False, self.expire_at and target == "published"
        return self._go(target, event, step.name)

    def _edit(self, step: Step) -> bool:
        text = self.texts[0] if step.name == "first revision" else step.text
        if text == self.texts[-1]:
            return True
        self.texts.append(text)
        self.last_editor = step.who
        self.publish_at = self.expire_at = False
        return self._go("draft", "content.edited", "edit" if self.status != "draft" else None)

    def _schedule(self, step: Step) -> bool:
        wanted, is_editor = step.name == "schedule", step.who in self.editors
        may = is_editor if self.status == "approved" else self.status == "published" and not wanted
        if not may or (self.publish_at, self.expire_at) == (wanted, wanted):
            return may
        self.publish_at = self.expire_at = wanted
        return self._go(self.status, f"content.{step.name}d", step.name)

    def _delete(self) -> bool:
        self.deleted = True
        self.publish_at = self.expire_at = False
        return self._go(self.status, "content.deleted", "delete")

    def _undelete(self, step: Step) -> bool:
        if step.name != "undelete" or not self.deleted or step.who not in self.editors:
            return False
        self.deleted = False
        return self._go(self.status, "content.undeleted", "undelete")

    def _go(self, target: str, event: str, step: str | None) -> bool:
        if step is not None:
            self.history.append((step, self.status, target))
        self.status = target
        self.version += 1
        self.events.append((event, self.version))
        return True


def explain(before: Model, steps: list[Step], taken: list[bool]) -> list[Model]:
    """The models after every order in which all the taken steps can have happened, one after the other.

    A step may have been refused since another came first. If nothing changed, the model must refuse it too.
    """
    found = []
    for order in permutations(step for step, was in zip(steps, taken, strict=True) if was):
        model = deepcopy(before)
        if all(model.take(step) for step in order):
            found.append(model)
    changed = any(model.version > before.version for model in found)
    refused = [step for step, was in zip(steps, taken, strict=True) if not was]
    if not changed and any(deepcopy(before).take(step) for step in refused):
        return []
    return found
