"""A mail on the wire: headers that we write ourselves, a plain text, and the same as HTML (RFC 5322, 2045 to 2047)."""

import re
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from uuid import UUID

import idna
import msgspec

from callboard.actors.delivery.mail_text import clean_line, clean_text, header_phrase, header_text
from callboard.streams.email_address import MAX_EMAIL_LENGTH

# A dot-atom, with the characters of other scripts for servers with SMTPUTF8 (RFC 6531).
_LOCAL_PART = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*")
# Every body is ASCII in lines of 76 characters, so any server can take it without 8BITMIME.
_POLICY = SMTP.clone(cte_type="7bit", max_line_length=76)


class RenderedEmail(msgspec.Struct, frozen=True):
    """The subject of a mail, its plain text, and its HTML if it has any."""

    subject: str
    text: str
    html: str | None = None
    locale: str = ""

    def __repr__(self) -> str:
        """Without the text, in which a secret link may stand."""
        return "RenderedEmail(...)"


class OutgoingMail(msgspec.Struct, frozen=True):
    """The envelope's two addresses, and the bytes with CRLF line ends."""

    sender: str
    recipient: str
    content: bytes

    def __repr__(self) -> str:
        """Without the content."""
        return "OutgoingMail(...)"


def envelope_address(text: str) -> str:
    """Return the address for the envelope and the header, its domain as A-labels. Raises ValueError for anything but
    one address.

    Accounts of earlier releases may have more than 64 octets before the @. Every server takes 64 (RFC 5321, 4.5.3.1),
    many take more: theirs decides.
    """
    local, at, domain = text.rpartition("@")
    if not at or len(text.encode()) > MAX_EMAIL_LENGTH or not _LOCAL_PART.fullmatch(local):
        raise ValueError("not an email address: the part before the @ is not valid")
    try:
        ascii_domain = idna.encode(domain, uts46=True).decode()
    except UnicodeError as error:  # IDNAError is one
        raise ValueError("not an email address: the part after the @ is not a domain") from error
    return f"{local}@{ascii_domain}"


def sender_mailbox(text: str) -> tuple[str, str]:
    """Return the display name, which may be empty, and the address of MAIL_FROM. Raises ValueError."""
    name, opened, address = text.strip().rpartition("<")
    if opened and not address.endswith(">"):
        raise ValueError("not a mailbox: the < has no >")
    return clean_line(name).strip('"'), envelope_address(address.removesuffix(">") if opened else address)


def parse_sender(text: str) -> str:
    """Check the setting MAIL_FROM. Raises ValueError with the required form."""
    if not text.isprintable():
        raise ValueError("must be one line without control characters")
    try:
        sender_mailbox(text)
    except ValueError:
        raise ValueError("must be an email address, with or without a name: Callboard <board@example.org>") from None
    return text


def encode_mail(
    email: RenderedEmail,
    *,
    sender: str,
    recipient: str,
    mail_id: UUID,
    sent_at: datetime,
    unsubscribe_url: str | None = None,
) -> OutgoingMail:
    """Write a mail. Its Message-ID is derived from its id, so that a copy can be recognised.

    With `unsubscribe_url` mail programs offer to stop such mails (RFC 2369), by one click if it is https (RFC 8058).
    Raises ValueError for a sender or recipient that is not exactly one address.
    """
    name, from_address = sender_mailbox(sender)
    to_address = envelope_address(recipient)
    headers = {
        "From": f"{header_phrase(name)} <{from_address}>".strip(),
        "To": f"<{to_address}>",
        "Subject": header_text(clean_line(email.subject)),
        "Date": format_datetime(sent_at),
        "Message-ID": f"<{mail_id}@{from_address.rpartition('@')[2]}>",
        "Auto-Submitted": "auto-generated",  # RFC 3834: no out-of-office replies to us
    }
    if email.locale:
        headers["Content-Language"] = email.locale
    if unsubscribe_url is not None:
        headers["List-Unsubscribe"] = f"<{unsubscribe_url}>"
        if unsubscribe_url.startswith("https://"):
            headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return OutgoingMail(from_address, to_address, head.encode() + _encode_body(email))


def _encode_body(email: RenderedEmail) -> bytes:
    """Return the MIME part, with its own headers; these hold no text of users."""
    body = EmailMessage(policy=_POLICY)
    body.set_content(clean_text(email.text), charset="utf-8")
    if email.html is not None:
        body.add_alternative(clean_text(email.html), subtype="html", charset="utf-8")
    return bytes(body)
