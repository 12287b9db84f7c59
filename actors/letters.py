"""Letters: our own mails, made from templates/ when they are sent. The first line is the subject."""

import html
import re
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from uuid import UUID

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound, UndefinedError

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 - plain text; the HTML part is escaped as a whole
    keep_trailing_newline=True,
)
_LINK = re.compile(r"https?://[^\s<]+")
_SCHEME = re.compile(r"\w+:/+")


class UnknownLetterError(ValueError):
    """There is no such letter, or it needs data that was not given."""


class Letter(msgspec.Struct, frozen=True):
    """A mail's subject, its plain text, and the same as HTML."""

    subject: str
    text: str
    html: str | None

    def __repr__(self) -> str:
        """Without the text, in which a secret link may stand."""
        return "Letter(...)"


def compose(name: str, data: dict[str, str]) -> Letter:
    """Write one of our letters. Raises UnknownLetterError.

    A name greets, and no more: whoever registers may write any name to any address, and neither lines nor links of
    theirs shall go out as ours.
    """
    if "full_name" in data:
        data = {**data, "full_name": _SCHEME.sub("", one_line(data["full_name"]))}
    try:
        page = _TEMPLATES.get_template(f"{name}.txt").render(data)
    except (TemplateNotFound, UndefinedError) as error:
        raise UnknownLetterError(f"letter {name!r}: {error}") from error
    subject, _, text = page.partition("\n")
    return Letter(one_line(subject), text, as_html(text))


def one_line(text: str) -> str:
    """A subject: no line break of an author's title may begin a header."""
    return " ".join(text.split())[:200]


def as_html(text: str) -> str:
    """Plain text as HTML: escaped, in paragraphs, with its links to click."""
    paragraphs = [html.escape(paragraph.strip("\n")) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]
    linked = [_LINK.sub(lambda link: f'<a href="{link[0]}">{link[0]}</a>', paragraph) for paragraph in paragraphs]
    return "".join(f"<p>{paragraph.replace(chr(10), '<br>')}</p>" for paragraph in linked)


def message(letter: Letter, *, sender: str, recipient: str, mail_id: UUID) -> EmailMessage:
    """The mail as it goes out. Its Message-ID follows from its id, so that a copy can be known for one.

    Raises ValueError for a recipient that is not exactly one address, and one that cannot stand in a header.
    """
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = recipient
    if [each.addr_spec for each in mail["To"].addresses] != [recipient]:  # "a,b@example.org" would go to two
        raise ValueError(f"{recipient!r} is not one address")
    mail["Subject"] = letter.subject
    mail["Message-ID"] = f"<{mail_id}@{sender.rpartition('@')[2].rstrip('>')}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies to us
    mail.set_content(letter.text)
    if letter.html is not None:
        mail.add_alternative(letter.html, subtype="html")
    return mail
