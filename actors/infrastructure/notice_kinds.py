"""Kinds of notices: what departments tell users, and by which channel unless a user chooses another.

    class PollNotice(msgspec.Struct, frozen=True):       # ids and short texts
        poll_id: UUID
        question: str

    POLL_CLOSED = NoticeKind("polls.closed", PollNotice, 'The poll "{question}" is closed.', link="/polls/{poll_id}")

A department registers its kinds as `notices`. It notifies a user by the event `NoticeRequested` of delivery, in the
transaction of the cause.
"""

import string
from collections.abc import Mapping
from enum import StrEnum

import msgspec

DIGEST = "digest"  # stands for all kinds in links that end mails


class Channel(StrEnum):
    """The way of a notice to its user: `mail` is in the app and by mail."""

    IN_APP = "in_app"
    MAIL = "mail"
    NONE = "none"


class NoticeKind(msgspec.Struct, frozen=True):
    """A kind of notices. `text` and `link`, a path of the site, name fields of `data` in braces.

    `letter` is the template of a mail of its own; without one, the mail has the text and the link. A `security` notice
    always takes its default channel. Raises ValueError for a field that `data` does not have.
    """

    name: str
    data: type[msgspec.Struct]
    text: str
    link: str = ""
    default: Channel = Channel.IN_APP
    letter: str = ""
    security: bool = False

    def __post_init__(self) -> None:
        """Refuse a kind whose notices cannot be shown."""
        named = {field for _, field, _, _ in string.Formatter().parse(self.text + self.link) if field is not None}
        if unknown := named - set(self.data.__struct_fields__):
            raise ValueError(f"notices of kind {self.name} have no data {', '.join(sorted(unknown))}")
        if self.name == DIGEST or (self.security and self.default is Channel.NONE):
            raise ValueError(f"{self.name} is no kind of notices that a user can get")

    def describe(self, data: Mapping[str, str]) -> tuple[str, str]:
        """Return the text and the link of a notice with this data."""
        shown = {name: data.get(name, "") for name in self.data.__struct_fields__}
        return self.text.format_map(shown), self.link.format_map(shown)


NoticeKinds = Mapping[str, NoticeKind]
