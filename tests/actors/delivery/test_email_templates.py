"""Our own mails: a fixed list of templates, of fields that each takes, and of what may stand in them."""

import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.delivery.email_templates import TEMPLATES, Facts, UnknownEmailError, read_template
from callboard.actors.delivery.mail_templates import MailTemplates, as_html

render = MailTemplates().render
URL = "https://board.example"
FACTS = Facts(
    link_url=URL,
    full_name="Ada",
    token="secret",
    title="A\nBcc: x@y.z <b>",
    note="Too\nlong",
    notifications=(("A\nBcc: <b>", "/a"), ("C", "")),
)
DATA = {
    "token_id": str(UUID(int=1)),
    "content_id": str(UUID(int=2)),
    "transition_id": "3",
    "digest_id": str(UUID(int=4)),
    "requested_at": "2026-11-26T20:00:00Z",
    "ip": "::1",
}


def data_of(name: str) -> dict[str, Any]:
    return {field: DATA[field] for field in TEMPLATES[name].__struct_fields__}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_renders(name: str) -> None:
    email = render(name, read_template(name, data_of(name)), FACTS)
    assert "\n" not in email.subject
    assert email.text.startswith("Hello Ada,\n")
    assert email.html is not None
    assert "<b>" not in email.html
    assert "None" not in email.text
    bare = {key: value for key, value in data_of(name).items() if key.endswith("_id")}
    assert render(name, read_template(name, bare), Facts(link_url=URL, token="secret")).text.startswith("Hello,\n")


def test_the_mails_about_passwords_say_what_they_must() -> None:
    reset = render("reset_password", read_template("reset_password", data_of("reset_password")), FACTS)
    assert f"{URL}/reset-password?token=secret" in reset.text
    notice = render("password_changed", read_template("password_changed", {}), FACTS)
    assert "password" in notice.subject
    assert "token" not in notice.text


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("no_such_template", {}),
        ("../mail", {}),
        ("", {}),
        ("verify_email", {}),
        ("verify_email", {"token_id": "x"}),
        ("verify_email", {"token_id": str(uuid4()), "link": "https://evil.example"}),
        ("verify_email", {"token_id": str(uuid4()), "ip": "pay at evil.example"}),
        ("verify_email", {"token_id": str(uuid4()), "requested_at": "now: evil.example"}),
        ("content_rejected", {"content_id": str(uuid4()), "transition_id": "3", "note": "Pay at https://evil.example"}),
        ("content_published", {"content_id": "https://evil.example", "transition_id": "3"}),
        ("content_published", {"content_id": str(uuid4()), "transition_id": "three"}),
        ("password_changed", {"full_name": "Visit evil.example"}),
        ("password_changed", None),
    ],
)
def test_data_that_a_template_does_not_take_is_refused(name: str, data: Any) -> None:
    with pytest.raises(UnknownEmailError):
        read_template(name, data)


def test_no_template_takes_free_text() -> None:
    assert {field for kind in TEMPLATES.values() for field in kind.__struct_fields__} <= set(DATA)


def test_a_name_is_one_line_and_no_link() -> None:
    name = "Ada,\n\nyour account is locked: https://evil.example/login\u202e\n\n"
    email = render(
        "verify_email",
        read_template("verify_email", data_of("verify_email")),
        Facts(link_url=URL, full_name=name, token="t"),
    )
    assert email.text.startswith("Hello Ada, your account is locked: evil.example/login,\n")
    assert email.html is not None
    assert re.findall(r'href="([^"]*)"', email.html) == [f"{URL}/verify-email?token=t"]


def test_the_mail_that_proves_an_address_says_when_and_from_where_it_was_registered() -> None:
    email = render("verify_email", read_template("verify_email", data_of("verify_email")), FACTS)
    assert "on 2026-11-26 20:00 UTC from ::1" in email.text


def test_text_becomes_harmless_html() -> None:
    html = as_html('<script>\n\nhttps://a.example/?x=1&y="2"')
    assert "<script>" not in html
    assert 'href="https://a.example/?x=1&amp;y=&#34;2&#34;"' in html


@pytest.mark.long
@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_no_text_of_a_user_becomes_markup_or_a_second_subject(full_name: str, title: str, note: str) -> None:
    facts = Facts(link_url=URL, full_name=full_name, title=title, note=note)
    email = render("content_rejected", read_template("content_rejected", data_of("content_rejected")), facts)
    assert email.subject.startswith("Sent back:")
    assert email.subject.splitlines() == [email.subject]
    assert email.html is not None
    assert set(re.findall(r"</?(\w+)", email.html)) <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "p",
        "br",
        "a",
    }
