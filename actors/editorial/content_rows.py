"""Rows of content and of its history, as the workflow, its schedule and its revisions write them."""

from typing import Any
from uuid import UUID, uuid4

import msgspec

from callboard.actors.editorial import events
from callboard.actors.editorial.workflow_rules import Action, Language, Status
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.streams.event_types import UtcDatetime
from callboard.streams.outbox import emit
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__, "workflow")

PERSONAL_DATA = (
    PersonalData(
        "content",
        {
            "content": ("author_id", "title", "body", "body_html", "search", "last_edited_by", "tags"),
            "content_tags": ("tag",),
            "tag_counts": ("tag",),
        },
        QUERIES.export_content,
        QUERIES.erase_content,
    ),
    PersonalData(
        "transitions",
        {"content_transitions": ("actor_id", "note")},
        QUERIES.export_transitions,
        QUERIES.erase_notes,
    ),
    PersonalData("subscriptions", {"subscriptions": ("user_id", "plan_type")}, QUERIES.export_subscriptions),
)

EVENT_OF: dict[Action, type[events.ContentEvent]] = {
    Action.SUBMIT_FOR_REVIEW: events.ContentSubmitted,
    Action.APPROVE: events.ContentApproved,
    Action.REJECT: events.ContentRejected,
    Action.PUBLISH: events.ContentPublished,
    Action.ARCHIVE: events.ContentArchived,
    Action.RESTORE: events.ContentRestored,
}


class Content(msgspec.Struct, frozen=True):
    """An article. `body` is the text as sent, `body_html` is safe to show; `version` counts the changes, `revision` the
    edits.

    `last_edited_by` is None if it is unknown: for content that has not been edited since an earlier release. At
    `publish_at` the article is published, at `expire_at` it is archived; None: nobody has scheduled that.
    """

    content_id: UUID
    author_id: UUID
    category_id: UUID | None
    title: str
    body: str
    body_html: str
    language: Language
    tags: tuple[str, ...]
    status: Status
    version: int
    revision: int
    last_edited_by: UUID | None
    published_at: UtcDatetime | None
    publish_at: UtcDatetime | None
    expire_at: UtcDatetime | None
    created_at: UtcDatetime
    updated_at: UtcDatetime

    def has(self, draft: "Draft") -> bool:
        """Whether an edit to this draft would change nothing."""
        return all(getattr(self, name) == value for name, value in msgspec.structs.asdict(draft).items())

    @property
    def text_bytes(self) -> int:
        """Return the size that counts against the author's quota."""
        return sum(len(each.encode()) for each in (self.title, self.body, self.body_html))


class Draft(msgspec.Struct, frozen=True):
    """The fields that an author writes."""

    title: str
    body: str
    category_id: UUID | None = None
    language: Language = Language.ENGLISH
    tags: tuple[str, ...] = ()


def as_content(row: Any) -> Content:
    """Build the Struct of a row of the content table."""
    return msgspec.convert(dict(row), Content)


async def record(
    connection: Any, before: Content, action: str, target: Status, actor_id: UUID, *, note: str | None = None
) -> None:
    """Add a line to an article's history: the actor, the action, and the states before and after it."""
    await QUERIES.add_transition(
        connection,
        content_id=before.content_id,
        actor_id=actor_id,
        action=action,
        from_status=before.status,
        to_status=target,
        note=note,
    )


async def tell(
    connection: Any, kind: type[events.ContentEvent], row: Any, actor_id: UUID, note: str | None = None, **more: Any
) -> Content:
    """Write the event of a change, and return the content after it."""
    content = as_content(row)
    event = kind(content.content_id, content.author_id, content.title, actor_id, content.version, note, **more)
    await emit(connection, event, event_id=uuid4())
    return content
