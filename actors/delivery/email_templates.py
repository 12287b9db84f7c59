"""Our own mails: a Struct for each template in templates/, whose fields are all that an event may say about it.

The first line of a template is the subject. Everything else that stands in a mail is read from PostgreSQL when it is
sent. A name greets only at an address that its owner has proved: what somebody wrote who has not proved an address
is never sent to it.
"""

import html
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError
from msgspec import Meta

from callboard.actors.delivery.mail_message import RenderedEmail
from callboard.actors.delivery.mail_text import clean_line, clean_text
from callboard.streams.event_types import UtcDatetime

MAX_NAME = 100
MAX_NOTE = 2000

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 - plain text; the HTML part is escaped as a whole
    keep_trailing_newline=True,
)
_LINK = re.compile(r"https?://[^\s<]+")
_SCHEME = re.compile(r"(?<!\w)\w+:/+")

Ip = Annotated[str, Meta(max_length=45, pattern=r"^[0-9A-Fa-f:.]+$")]


class UnknownEmailError(ValueError):
    """There is no such template, or its data is not what it takes."""


class EmailTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root of the data of every template: ids and facts of ours, never text for people."""


class SecretLink(EmailTemplate, frozen=True, kw_only=True):
    """A template with a link that carries the secret of a mail token."""

    token_id: UUID


class VerifyEmail(SecretLink, frozen=True, kw_only=True):
    """Proves an address that was registered, and says when and from where."""

    requested_at: UtcDatetime | None = None
    ip: Ip | None = None


class ResetPassword(SecretLink, frozen=True, kw_only=True):
    """Sets a new password."""


class ChangeEmail(SecretLink, frozen=True, kw_only=True):
    """Proves the new address of an account, to which it is sent."""


class UndoEmail(SecretLink, frozen=True, kw_only=True):
    """Gives an account its earlier address again, to which it is sent."""


class Export(SecretLink, frozen=True, kw_only=True):
    """Fetches the archive of an account's data."""


class AddressTaken(EmailTemplate, frozen=True, kw_only=True):
    """Tells an account's owner that its address was registered again."""


class EmailChangeAsked(EmailTemplate, frozen=True, kw_only=True):
    """Tells the present address that another was asked for."""


class PasswordChanged(EmailTemplate, frozen=True, kw_only=True):
    """Tells an account's owner that its password was changed."""


class ExportFailed(EmailTemplate, frozen=True, kw_only=True):
    """Tells an account's owner that the archive could not be made."""


class ContentEmail(EmailTemplate, frozen=True, kw_only=True):
    """Tells an author about an article; its title and the note are read when the mail is written."""

    content_id: UUID
    transition_id: int


class ContentPublished(ContentEmail, frozen=True, kw_only=True):
    """The article can be read by anyone."""


class ContentRejected(ContentEmail, frozen=True, kw_only=True):
    """The article was sent back."""


# By the name of the template's file, which is the name in events. A token's purpose has the same name.
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
}


class Facts(msgspec.Struct, frozen=True):
    """The recipient's and the article's data for one mail, as PostgreSQL has them. `full_name` is None until the
    address is verified.
    """

    link_url: str
    full_name: str | None = None
    token: str | None = None
    title: str = ""
    note: str = ""

    def __repr__(self) -> str:
        """Without the token."""
        return "Facts(...)"


def read_template(name: str, data: Any) -> EmailTemplate:
    """The data of a template, checked: only the fields that it takes. Raises UnknownEmailError."""
    kind = TEMPLATES.get(name)
    if kind is None:
        raise UnknownEmailError(f"there is no template {name[:100]!r}")
    try:
        return msgspec.convert(data, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UnknownEmailError(f"template {name}: {error}") from error


def render(name: str, template: EmailTemplate, facts: Facts) -> RenderedEmail:
    """Write one of our mails. Raises UnknownEmailError."""
    values = {
        **{key: _shown(value) for key, value in msgspec.structs.asdict(template).items()},
        "hello": _greeting(facts.full_name),
        "link_url": facts.link_url,
        "token": facts.token,
        "title": clean_line(facts.title),
        "note": clean_text(facts.note)[:MAX_NOTE],
    }
    try:
        page = _TEMPLATES.get_template(f"{name}.txt").render(values)
    except TemplateError as error:
        raise UnknownEmailError(f"template {name}: {error}") from error
    subject, _, text = page.partition("\n")
    return RenderedEmail(clean_line(subject), text, as_html(text))


def as_html(text: str) -> str:
    """Plain text as HTML: escaped, in paragraphs, with its links to click."""
    paragraphs = [html.escape(paragraph.strip("\n")) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]
    linked = [_LINK.sub(lambda link: f'<a href="{link[0]}">{link[0]}</a>', paragraph) for paragraph in paragraphs]
    body = "".join(f"<p>{paragraph.replace(chr(10), '<br>')}</p>\n" for paragraph in linked)
    return f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"></head><body>\n{body}</body></html>\n'


def _greeting(full_name: str | None) -> str:
    """A name greets, on one line and without links of its own."""
    name = "" if full_name is None else clean_line(_SCHEME.sub("", full_name), MAX_NAME)
    return f"Hello {name}," if name else "Hello,"


def _shown(value: Any) -> Any:
    """A time as people read it."""
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) else value
