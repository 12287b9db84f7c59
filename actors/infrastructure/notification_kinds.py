"""Kinds of notifications: what departments tell users, and by which channel unless a user chooses another.

    class PollNotification(msgspec.Struct, frozen=True):       # ids and short texts
        poll_id: UUID
        question: str

    POLL_CLOSED = NotificationKind(
        "polls.closed",
        PollNotification,
        '"{question}" is closed.',
        "/polls/{poll_id}",
        translations={"de": "»{question}« ist beendet."},
    )

A department registers its kinds as `notifications`. It notifies a user by the event `NotificationRequested` of
delivery, in the transaction of the cause.
"""

import string
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from callboard.streams.language_tags import lookup

ENGLISH = "en"
DIGEST = "digest"  # stands for all kinds in links that end mails


class Channel(StrEnum):
    """The way of a notification to its user: `mail` is in the app and by mail."""

    IN_APP = "in_app"
    MAIL = "mail"
    NONE = "none"


class NotificationKind(msgspec.Struct, frozen=True):
    """A kind of notifications. `text`, in English, and `link`, a path of the site, name fields of `data` in braces.

    `translations` have the text in other languages, by their tags in lower case. A user gets it in the first of their
    languages that is there, or in English.

    `letter` is the template of a mail of its own; without one, the mail has the text and the link. A notification about
    `security` always takes its default channel. Raises ValueError for a field that `data` does not have.
    """

    name: str
    data: type[msgspec.Struct]
    text: str
    link: str = ""
    default: Channel = Channel.IN_APP
    letter: str = ""
    security: bool = False
    translations: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        """Refuse a kind whose notifications cannot be shown."""
        said = "".join((self.text, self.link, *self.translations.values()))
        named = {field for _, field, _, _ in string.Formatter().parse(said) if field is not None}
        if unknown := named - set(self.data.__struct_fields__):
            raise ValueError(f"notifications of kind {self.name} have no data {', '.join(sorted(unknown))}")
        if self.name == DIGEST or (self.security and self.default is Channel.NONE):
            raise ValueError(f"{self.name} is no kind of notifications that a user can get")

    def describe(self, data: Mapping[str, Any], languages: Iterable[str] = ()) -> tuple[str, str]:
        """Return the text, in the best of these languages, and the link of a notification with this data."""
        texts = {ENGLISH: self.text, **self.translations}
        text = texts[lookup(languages, texts.__contains__) or ENGLISH]
        shown = {name: data.get(name, "") for name in self.data.__struct_fields__}
        return text.format_map(shown), self.link.format_map(shown)


NotificationKinds = Mapping[str, NotificationKind]
