"""An article as the contract has it: the model that the real workflow is held against."""

from hypothesis import strategies as st

EVENTS = {
    "submit_for_review": "content.submitted",
    "approve": "content.approved",
    "reject": "content.rejected",
    "publish": "content.published",
    "archive": "content.archived",
    "restore": "content.restored",
}
TRANSITION_RULES = {
    "submit_for_review": ("draft", "pending_review", {"author", "editor", "both"}),
    "approve": ("pending_review", "approved", {"editor"}),
    "reject": ("pending_review", "draft", {"editor", "both"}),
    "publish": ("approved", "published", {"editor", "both"}),
    "archive": ("published", "archived", {"author", "editor", "both"}),
    "restore": ("archived", "draft", {"author", "editor", "both"}),
}
STEP = st.tuples(
    st.sampled_from([*TRANSITION_RULES, "edit", "edit stale"]),
    st.sampled_from(["author", "editor", "stranger", "both"]),
)


class Model:
    """An article as the contract has it; `author_is_editor` makes its author one who could review."""

    def __init__(self, *, author_is_editor: bool) -> None:
        self.status, self.version = "draft", 1
        self.events: list[tuple[str, int]] = [("content.created", 1)]
        self.history: list[tuple[str, str, str]] = []
        self.author = self.last_editor = "both" if author_is_editor else "author"

    def take(self, step: str, who: str) -> bool:
        """Whether the step is taken."""
        who = self.author if who in ("author", "both") else who
        if step == "edit stale" or (who == "stranger" and step == "edit"):
            return False
        if step == "edit":
            if self.status in ("published", "archived"):
                return False
            self.last_editor = who
            return self._go("draft", "content.edited", "edit" if self.status != "draft" else None)
        source, target, allowed = TRANSITION_RULES[step]
        if step == "approve" and who == self.last_editor:
            return False
        return who in allowed and self.status == source and self._go(target, EVENTS[step], step)

    def _go(self, target: str, event: str, step: str | None) -> bool:
        if step is not None:
            self.history.append((step, self.status, target))
        self.status = target
        self.version += 1
        self.events.append((event, self.version))
        return True
