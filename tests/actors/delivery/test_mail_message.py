"""A mail as it goes out: text of users is encoded and never parsed, in headers and bodies, whatever it holds."""

import email
import email.message
import email.policy
import re
from datetime import UTC, datetime
from email.header import decode_header, make_header
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callboard.actors.delivery.mail_message import RenderedEmail, encode_mail, envelope_address, sender_mailbox
from callboard.actors.delivery.mail_text import clean_line, clean_text, header_text, without_addresses

MAIL_ID = UUID(int=7)
AT = datetime(2026, 11, 26, 20, 0, tzinfo=UTC)
NAMES = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
INJECTION = "=?utf-8?q?=0aX-Injected:_yes=0a=0a<b>evil</b>?="

# What headers, encoded words, MIME and terminals give a meaning to.
PIECES = st.sampled_from(
    [
        *(
            "=?utf-8?q?=0a?=",
            "=?utf-8?b?DQpCY2M6IGFAYi5jDQo=?=",
            "=?us-ascii?q?=0d=0a=0d=0a?=",
            "=?",
            "?=",
            "=0A",
            "=\r\n",
        ),
        *("\r\n", "\n", "\r", "\r\n\r\n", "\x00", "\x0b", "\x85", "\u2028", "\u202e", "\u2066", "\ufeff", "\U000e0041"),
        *(
            "Bcc: all@example.org",
            "--",
            "\r\n.\r\n",
            '"',
            "<a@b.c>",
            "(",
            "\\",
            ",",
            ";",
            ":",
            "@",
            "é",
            "東",
            "🎭",
            "a",
            " ",
        ),
    ]
)
HOSTILE = st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=25).map("".join)


def parsed(content: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.SMTP)  # type: ignore[return-value]


def written(
    subject: str = "Hello",
    text: str = "A text",
    html: str | None = None,
    sender: str = "Callboard <board@example.org>",
    recipient: str = "ada@example.org",
) -> bytes:
    rendered = RenderedEmail(subject, text, html)
    return encode_mail(rendered, sender=sender, recipient=recipient, mail_id=MAIL_ID, sent_at=AT).content


def folded_to(raw: bytes, name: str) -> str:
    """A header's text, by the older and simpler of Python's two parsers."""
    return str(make_header(decode_header(email.message_from_bytes(raw)[name].replace("\r\n", ""))))


def assert_well_formed(content: bytes) -> None:
    assert content.isascii()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", content)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    head = content.partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0].decode() for line in re.split(rb"\r\n(?![ \t])", head)]
    assert names[:6] == NAMES[:6]
    assert sorted(names[6:]) in (NAMES[7:] + NAMES[6:7], ["Content-Transfer-Encoding", "Content-Type", "MIME-Version"])


@given(subject=HOSTILE, text=HOSTILE, html=st.none() | HOSTILE, name=HOSTILE)
@example(subject=INJECTION, text=INJECTION, html=INJECTION, name=INJECTION)
@example(subject="x" * 5000, text="y" * 5000, html="z" * 5000, name="n" * 5000)
@example(subject="", text="", html="", name="")
def test_no_text_adds_a_header_a_part_or_a_recipient_and_each_arrives_as_it_was(
    subject: str, text: str, html: str | None, name: str
) -> None:
    content = written(subject, text, html, sender=f"{name} <board@example.org>")
    assert_well_formed(content)
    mail = parsed(content)
    assert folded_to(content, "Subject") == clean_line(subject)
    assert [each.addr_spec for each in mail["To"].addresses] == ["ada@example.org"]
    parts = [part for part in mail.walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"][: 1 if html is None else 2]
    for part, sent in zip(parts, (text, html or ""), strict=False):
        assert part.get_content().replace("\r\n", "\n").rstrip("\n") == clean_text(sent).rstrip("\n")


def test_a_title_that_is_an_encoded_word_arrives_as_the_characters_that_were_typed() -> None:
    content = written(f"Sent back: {INJECTION}")
    assert b"X-Injected" not in content
    assert folded_to(content, "Subject") == f"Sent back: {INJECTION}"
    # The parser that mail programs written in Python use decodes once, and not what it has decoded.
    assert parsed(content)["Subject"] == f"Sent back: {INJECTION}"


def test_a_mail_has_the_headers_of_a_grown_up_mailer() -> None:
    mail = parsed(written("Grüße", "Zeile\n", "<p>Zeile</p>"))
    assert mail.keys() == NAMES
    assert mail["Date"].datetime == AT
    assert mail["Message-ID"] == f"<{MAIL_ID}@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["From"].addresses[0].display_name == "Callboard"
    assert mail.get_content_type() == "multipart/alternative"
    assert parsed(written()).get_content_type() == "text/plain"


@given(HOSTILE)
def test_a_header_is_folded_within_the_limits_of_encoded_words(text: str) -> None:
    folded = header_text(text)
    assert folded.isascii()
    assert all(len(line) <= 78 for line in f"Subject: {folded}".split("\r\n "))
    assert all(len(word) <= 75 for word in re.findall(r"=\?.*?\?=", folded))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
        ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("jürgen@example.org", "jürgen@example.org"),
        ("ada+tag@example.org", "ada+tag@example.org"),
        ("no-reply@callboard.localhost", "no-reply@callboard.localhost"),
        (f"{'x' * 65}@y.example", f"{'x' * 65}@y.example"),  # of an earlier release
    ],
)
def test_an_envelope_address_has_its_domain_as_a_labels(text: str, expected: str) -> None:
    assert envelope_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "a@", "@a.example", "a@[", "a@[127.0.0.1]", "a,b@example.org", "<a@example.org>", "a b@example.org"),
        *("a@example.org\r\nBcc: b@example.org", "a@example.org\n", " a@example.org", "a@x..y", "a@-x.example"),
        *(
            "a..b@example.org",
            '"a b"@example.org',
            "a\u202eb@example.org",
            "a\x00@example.org",
            f"{'x' * 245}@y.example",
        ),
        *(f"a@{'b' * 64}.example", "a@b@example.org", "a\u3000b@example.org", "=?utf-8?q?a?=@exa mple.org"),
    ],
)
def test_anything_but_one_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an email address"):
        envelope_address(text)


@given(HOSTILE)
def test_no_address_breaks_the_envelope(text: str) -> None:
    try:
        address = envelope_address(f"{text}@example.org")
    except ValueError:
        return
    assert not re.search(r"[\s<>,;:\"()\[\]\\\x00-\x1f\x7f]", address)


def test_the_senders_name_is_encoded_where_it_must_be() -> None:
    assert sender_mailbox("Wörld, Inc <b@example.org>") == ("Wörld, Inc", "b@example.org")
    assert sender_mailbox('"Board" <b@bücher.example>') == ("Board", "b@xn--bcher-kva.example")
    assert b"From: Callboard <board@example.org>\r\n" in written()
    content = written(sender="Théâtre <board@example.org>")
    assert parsed(content)["From"].addresses[0].display_name == "Théâtre"
    for text in ("Board <b@example.org", "Board b@example.org>", "<<b@example.org>>", "Board <b@example.org> x"):
        with pytest.raises(ValueError, match="not "):
            sender_mailbox(text)
    assert written(sender="board@example.org").startswith(b"From: <board@example.org>\r\n")


def test_text_is_sent_without_what_reverses_or_hides_it() -> None:
    hidden = "".join(
        map(chr, (0x202E, 0x2066, 0x200B, 0xFEFF, 0x00AD, 0x0007, 0x009B, 0xE0041, 0xFFF9, 0xD800, 0x061C))
    )
    assert clean_text(f"a{hidden}b\r\nc\rd\u2028e\tf") == "ab\nc\nd\ne\tf"
    assert clean_line(f" a {hidden} b\r\nBcc: c\x0bd\u2028e ") == "a b Bcc: c d e"
    assert len(clean_line("x" * 5000)) == 200
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # joined by characters without width that must stay
    assert clean_text(family) == family


def test_a_servers_words_are_shown_without_addresses() -> None:
    assert (
        without_addresses("550 <a.b+c@d.example>: no\r\nmailto:x@y.example") == "550 <(address)>: no mailto:(address)"
    )
    assert without_addresses("o'brien@d.example, 'x@y.example' and x@") == "(address), (address) and (address)"
