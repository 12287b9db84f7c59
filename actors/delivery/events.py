"""The events that delivery reads: requests for a mail, of ours and of any producer, and for a notification."""

from uuid import UUID

import msgspec

from callboard.runtime import Message
from callboard.streams.email_address import Email
from callboard.streams.event_types import Line, Name, Text, declare_event
from callboard.streams.topics import declare_topic

MAIL = declare_topic("mail.v1", "recipient", "mail requests, ours and any producer's", deadline_s=3600)
PRIORITY = declare_topic("priority.v1", "recipient", "security mail: verification, reset, new sign-in", deadline_s=300)
NOTIFICATIONS = declare_topic("notifications.v1", "user id", "notifications to users", deadline_s=1800)


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


class NotificationRequested(Message, frozen=True):
    """A notification to one of our users; `data` is that of its kind, and its user's preferences say how it is sent."""

    user_id: UUID
    kind: Name
    data: dict[Text, Text] = msgspec.field(default_factory=dict)


EVENTS = (
    declare_event("notification.requested", NotificationRequested, "user_id", NOTIFICATIONS),
    declare_event("letter.requested", TemplatedEmailRequested, "user_id", MAIL, PRIORITY),
    declare_event("mail.requested", MailRequested, "to", MAIL, PRIORITY, open_to_producers=True),
)
