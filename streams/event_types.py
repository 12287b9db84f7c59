"""Events: one frozen Struct each, sent as the same JSON in the process and on Kafka, and one registry of them.

An event is named in the past tense, and carries only the personal data that its consumers need. Consumers ignore fields
they do not know, so a field with a default may be added at any time; every other change is a new event type.
"""

from datetime import datetime
from typing import Annotated
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from msgspec import Meta, Struct

from callboard.runtime import Message, Request
from callboard.streams.email_address import Email
from callboard.streams.topics import ACTIVITY, CONTENT, MAIL, PRIORITY, USERS, Topic

OUR_SOURCE = "callboard"  # the ce_source of every event that we write

# PostgreSQL's text and jsonb cannot hold NUL, so no event can: it is refused here, and not by every consumer.
Text = Annotated[str, Meta(pattern=r"^[^\x00]*\Z")]
Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=998)]
Name = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", min_length=1, max_length=100)]
SubjectId = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=200)]
UtcDatetime = Annotated[datetime, Meta(tz=True)]

# Wide enough for any metric, and an hour's sum of them still fits PostgreSQL's double precision.
_VALUE_LIMIT = 1e100
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


class UserRegistered(Message, frozen=True):
    """An account was created; its address is not verified yet."""

    user_id: UUID
    email: str


class UserVerified(Message, frozen=True):
    """The owner of an account has proved its address."""

    user_id: UUID


class UserUpdated(Message, frozen=True):
    """An account changed; `changed` names the fields, not their values."""

    user_id: UUID
    changed: tuple[str, ...] = ()


class UserDeleted(Message, frozen=True):
    """An account is deleted for everybody; only the history keeps it. Its address is free."""

    user_id: UUID


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


class TemplatedEmailRequested(Message, frozen=True):
    """One of our own mails to one of our users; the mail sender reads the address when it sends."""

    letter: Name
    user_id: UUID
    data: dict[Text, Text] = msgspec.field(default_factory=dict)


class MailRequested(Message, frozen=True):
    """A complete mail, from any producer."""

    to: Email
    subject: Line
    text: Text
    html: Text | None = None


class ActivityRecorded(Message, frozen=True):
    """An activity: `metric` (page_views) of `subject_id` (a content id) grew by `value`."""

    metric: Name
    value: Annotated[float, Meta(ge=-_VALUE_LIMIT, le=_VALUE_LIMIT)]
    subject_id: SubjectId
    occurred_at: UtcDatetime

    def __post_init__(self) -> None:
        """Raise ValueError for a time that is outside of the calendar in UTC."""
        if not _FIRST_YEAR <= self.occurred_at.year <= _LAST_YEAR:
            raise ValueError(f"occurred_at is not between the years {_FIRST_YEAR} and {_LAST_YEAR}")


class EventType(Struct, frozen=True):
    """The registry's entry for an event type. It may travel on any of `topics`; the first is the default.

    Producers may write the types that are `open_to_producers`. All others are ours, and carry our signature.
    """

    name: str
    struct: type[Message]
    topics: tuple[Topic, ...]
    key: str
    meaning: str
    open_to_producers: bool = False

    def key_of(self, event: Message) -> str:
        """Return the Kafka key of one event: events of one key stay in order."""
        return str(getattr(event, self.key))


# Every declared type of this process, by its name and by its Struct.
EVENTS: dict[str, EventType] = {}
_TYPE_BY_STRUCT: dict[type, EventType] = {}


def declare_event(
    name: str, struct: type[Message], key: str, *topics: Topic, open_to_producers: bool = False
) -> EventType:
    """Declare an event type; the field `key` holds the Kafka key.

    Raises ValueError for a duplicate name or Struct.
    """
    declared = EventType(name, struct, topics, key, (struct.__doc__ or "").strip(), open_to_producers)
    if name in EVENTS or struct in _TYPE_BY_STRUCT:
        raise ValueError(f"the event {name} or its Struct {struct.__name__} is declared twice")
    EVENTS[name] = _TYPE_BY_STRUCT[struct] = declared
    return declared


# By the department that writes them.
USER_EVENTS = (
    declare_event("user.registered", UserRegistered, "user_id", USERS),
    declare_event("user.verified", UserVerified, "user_id", USERS),
    declare_event("user.updated", UserUpdated, "user_id", USERS),
    declare_event("user.deleted", UserDeleted, "user_id", USERS),
)
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
MAIL_EVENTS = (
    declare_event("letter.requested", TemplatedEmailRequested, "user_id", MAIL, PRIORITY),
    declare_event("mail.requested", MailRequested, "to", MAIL, PRIORITY, open_to_producers=True),
)
ACTIVITY_EVENTS = (
    declare_event("activity.recorded", ActivityRecorded, "subject_id", ACTIVITY, open_to_producers=True),
)


def type_of(event: Message | type[Message]) -> EventType:
    """Return the registry's entry for an event or its class. Raises KeyError for an undeclared Struct."""
    return _TYPE_BY_STRUCT[event if isinstance(event, type) else type(event)]


class Envelope(Struct, frozen=True):
    """One event with its CloudEvents attributes. (source, event_id) identifies it, however often it is delivered."""

    event_id: str
    source: str
    type: str
    topic: str
    occurred_at: datetime
    traceparent: str | None
    event: Message


def derive_id(*parts: str) -> UUID:
    """Derive a UUID from the parts. Each is encoded with its length, so other parts give another UUID."""
    return uuid5(NAMESPACE_URL, "".join(f"{len(part)}:{part}" for part in parts))


class ConsumeEvents(Request[None], frozen=True):
    """A request to a consuming actor: perform the effect of these events, in order, in one transaction with
    `deduplicate`.

    A Refusal or a crash refuses the whole batch; the stream then asks again one by one, so that only the bad event
    becomes a dead letter. A Problem of kind UNAVAILABLE is retried until it passes.
    """

    envelopes: tuple[Envelope, ...]
