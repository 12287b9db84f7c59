"""The events that editorial writes: what became of an article."""

from uuid import UUID

from callboard.runtime import Message
from callboard.streams.event_types import declare_event
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
    """Title, body or category changed."""


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


class ContentDeleted(ContentEvent, frozen=True):
    """It was deleted, with its history."""


CONTENT_EVENTS = (
    declare_event("content.created", ContentCreated, "content_id", CONTENT),
    declare_event("content.edited", ContentEdited, "content_id", CONTENT),
    declare_event("content.submitted", ContentSubmitted, "content_id", CONTENT),
    declare_event("content.approved", ContentApproved, "content_id", CONTENT),
    declare_event("content.rejected", ContentRejected, "content_id", CONTENT),
    declare_event("content.published", ContentPublished, "content_id", CONTENT),
    declare_event("content.archived", ContentArchived, "content_id", CONTENT),
    declare_event("content.restored", ContentRestored, "content_id", CONTENT),
    declare_event("content.deleted", ContentDeleted, "content_id", CONTENT),
)
