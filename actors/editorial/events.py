"""The events that editorial writes: what became of an article, of its comments, and of categories."""

from uuid import UUID

from callboard.runtime import Message
from callboard.streams.event_types import UtcDatetime, declare_event
from callboard.streams.topics import declare_topic

CONTENT = declare_topic("content.v1", "content id", "articles: created, edited, and every editorial transition")


class ContentEvent(Message, frozen=True):
    """The fields of every event about an article: the user who caused it and the resulting version."""

    content_id: UUID
    author_id: UUID
    title: str
    actor_id: UUID
    version: int
    note: str | None = None


class ContentCreated(ContentEvent, frozen=True):
    """A draft was created."""


class ContentEdited(ContentEvent, frozen=True):
    """Title, body, category or tags changed."""


class ContentSubmitted(ContentEvent, frozen=True):
    """The author asked for a review."""


class ContentApproved(ContentEvent, frozen=True):
    """An editor approved it."""


class ContentRejected(ContentEvent, frozen=True):
    """An editor rejected it; the note says why."""


class ContentPublished(ContentEvent, frozen=True):
    """It was published: anyone can read it."""


class ContentArchived(ContentEvent, frozen=True):
    """It was archived: readers no longer see it."""


class ContentRestored(ContentEvent, frozen=True):
    """It was restored from the archive as a draft."""


class ContentScheduled(ContentEvent, frozen=True):
    """The times of its publication and expiry were set."""

    publish_at: UtcDatetime | None = None
    expire_at: UtcDatetime | None = None


class ContentUnscheduled(ContentEvent, frozen=True):
    """Its schedule was cancelled."""


class ContentDeleted(ContentEvent, frozen=True):
    """It was deleted. An editor can restore it for some weeks."""


class ContentUndeleted(ContentEvent, frozen=True):
    """An editor took its deletion back: its state is the one before."""


class CommentEvent(Message, frozen=True):
    """The fields of every event about a comment: the user who caused it and the resulting version."""

    comment_id: UUID
    content_id: UUID
    parent_id: UUID | None
    author_id: UUID
    actor_id: UUID
    version: int


class CommentCreated(CommentEvent, frozen=True):
    """Somebody commented on an article, or answered a comment."""


class CommentEdited(CommentEvent, frozen=True):
    """Its text changed."""


class CommentDeleted(CommentEvent, frozen=True):
    """Its author or an editor deleted it."""


class CommentHidden(CommentEvent, frozen=True):
    """An editor hid it: readers no longer see its text."""


class CommentShown(CommentEvent, frozen=True):
    """An editor showed it again, or kept it in spite of reports."""


class CategoryEvent(Message, frozen=True):
    """The fields of every event about a category: the user who caused it and the resulting version."""

    category_id: UUID
    slug: str
    name: str
    actor_id: UUID
    version: int


class CategoryCreated(CategoryEvent, frozen=True):
    """A category was created."""


class CategoryChanged(CategoryEvent, frozen=True):
    """Its name, slug or description changed."""


class CategoryDeleted(CategoryEvent, frozen=True):
    """It was deleted. Its articles leave it one by one, each with an event of its own."""


CONTENT_EVENTS = (
    declare_event("content.created", ContentCreated, "content_id", CONTENT),
    declare_event("content.edited", ContentEdited, "content_id", CONTENT),
    declare_event("content.submitted", ContentSubmitted, "content_id", CONTENT),
    declare_event("content.approved", ContentApproved, "content_id", CONTENT),
    declare_event("content.rejected", ContentRejected, "content_id", CONTENT),
    declare_event("content.published", ContentPublished, "content_id", CONTENT),
    declare_event("content.archived", ContentArchived, "content_id", CONTENT),
    declare_event("content.restored", ContentRestored, "content_id", CONTENT),
    declare_event("content.scheduled", ContentScheduled, "content_id", CONTENT),
    declare_event("content.unscheduled", ContentUnscheduled, "content_id", CONTENT),
    declare_event("content.deleted", ContentDeleted, "content_id", CONTENT),
    declare_event("content.undeleted", ContentUndeleted, "content_id", CONTENT),
)

COMMENT_EVENTS = (
    declare_event("comment.created", CommentCreated, "content_id", CONTENT),
    declare_event("comment.edited", CommentEdited, "content_id", CONTENT),
    declare_event("comment.deleted", CommentDeleted, "content_id", CONTENT),
    declare_event("comment.hidden", CommentHidden, "content_id", CONTENT),
    declare_event("comment.shown", CommentShown, "content_id", CONTENT),
)

CATEGORY_EVENTS = (
    declare_event("category.created", CategoryCreated, "category_id", CONTENT),
    declare_event("category.changed", CategoryChanged, "category_id", CONTENT),
    declare_event("category.deleted", CategoryDeleted, "category_id", CONTENT),
)
