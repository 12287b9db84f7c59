"""Our own mails: a Struct for each template in templates/. Its fields are all the data that an event may carry.

All other data of a mail is read from PostgreSQL when the mail is sent. A greeting has the name only if the owner has
proved the address: text of a person without a proved address is never sent to it.
"""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from callboard.streams.event_types import UtcDatetime

Ip = Annotated[str, Meta(max_length=45, pattern=r"^[0-9A-Fa-f:.]+\Z")]


class UnknownEmailError(ValueError):
    """The template does not exist, or its data does not fit it."""


class EmailTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the data of every template: ids and facts of ours, never text for people."""


class SecretLink(EmailTemplate, frozen=True, kw_only=True):
    """A template with a link that carries the secret of a mail token."""

    token_id: UUID


class VerifyEmail(SecretLink, frozen=True, kw_only=True):
    """Asks to prove a registered address, and says when and from where it was registered."""

    requested_at: UtcDatetime | None = None
    ip: Ip | None = None


class ResetPassword(SecretLink, frozen=True, kw_only=True):
    """Brings the link to set a new password."""


class ChangeEmail(SecretLink, frozen=True, kw_only=True):
    """Asks to prove the new address of an account; it is sent to that address."""


class UndoEmail(SecretLink, frozen=True, kw_only=True):
    """Offers to undo a change of address; it is sent to the earlier address."""


class Export(SecretLink, frozen=True, kw_only=True):
    """Brings the link to the archive of an account's data."""


class AddressTaken(EmailTemplate, frozen=True, kw_only=True):
    """Tells an account's owner that its address was registered again."""


class EmailChangeAsked(EmailTemplate, frozen=True, kw_only=True):
    """Tells the current address that its account is to get another."""


class PasswordChanged(EmailTemplate, frozen=True, kw_only=True):
    """Tells an account's owner that its password was changed."""


class ExportFailed(EmailTemplate, frozen=True, kw_only=True):
    """Tells an account's owner that the archive could not be made."""


class ContentEmail(EmailTemplate, frozen=True, kw_only=True):
    """Tells an author about an article; its title and the note are read when the mail is written."""

    content_id: UUID
    transition_id: int


class ContentPublished(ContentEmail, frozen=True, kw_only=True):
    """The article is published."""


class ContentRejected(ContentEmail, frozen=True, kw_only=True):
    """The article was sent back to its author."""


class NotificationDigest(EmailTemplate, frozen=True, kw_only=True):
    """One or more notifications; they are read when the mail is written."""

    digest_id: UUID


# By the name of the template's file. Events use this name, and so does a token's purpose.
TEMPLATES: Mapping[str, type[EmailTemplate]] = {
    "verify_email": VerifyEmail,
    "reset_password": ResetPassword,
    "change_email": ChangeEmail,
    "undo_email": UndoEmail,
    "export": Export,
    "address_taken": AddressTaken,
    "email_change_asked": EmailChangeAsked,
    "password_changed": PasswordChanged,
    "export_failed": ExportFailed,
    "content_published": ContentPublished,
    "content_rejected": ContentRejected,
    "notification_digest": NotificationDigest,
}


class Facts(msgspec.Struct, frozen=True):
    """The recipient's and the article's data for one mail, read from PostgreSQL. `full_name` is None until the address
    is verified.
    """

    link_url: str
    full_name: str | None = None
    token: str | None = None
    title: str = ""
    note: str = ""
    notifications: tuple[tuple[str, str], ...] = ()  # the text and the link of each
    languages: tuple[str, ...] = ()  # of the recipient, the best first

    def __repr__(self) -> str:
        """Without the token."""
        return "Facts(...)"


def read_template(name: str, data: Any) -> EmailTemplate:
    """Return the data of a template, validated: no other fields are allowed. Raises UnknownEmailError."""
    kind = TEMPLATES.get(name)
    if kind is None:
        raise UnknownEmailError(f"there is no template {name[:100]!r}")
    try:
        return msgspec.convert(data, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UnknownEmailError(f"template {name}: {error}") from error
