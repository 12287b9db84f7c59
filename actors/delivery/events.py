"""The events that delivery reads: requests for a mail, of ours and of any producer."""

from uuid import UUID

import msgspec

from callboard.runtime import Message
from callboard.streams.email_address import Email
from callboard.streams.event_types import Line, Name, Text, declare_event
from callboard.streams.topics import MAIL, PRIORITY


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


MAIL_EVENTS = (
    declare_event("letter.requested", TemplatedEmailRequested, "user_id", MAIL, PRIORITY),
    declare_event("mail.requested", MailRequested, "to", MAIL, PRIORITY, open_to_producers=True),
)
