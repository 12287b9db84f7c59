"""Templates in the reader's language: ours, and an operator's own, whose faults are found at the start."""

import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.delivery import mail_templates
from callboard.actors.delivery.email_templates import (
    TEMPLATES,
    ContentRejected,
    Facts,
    ResetPassword,
    UnknownEmailError,
    VerifyEmail,
)
from callboard.actors.delivery.mail_templates import MailTemplates, parse_template_folder

OURS = MailTemplates()
LOCALES = ("en", "de", "fr")
FACTS = Facts(link_url="https://board.example", full_name="Ada", token="secret", title="<b>T</b>", note="N")
RESET = ResetPassword(token_id=UUID(int=0))
REJECTED = ContentRejected(content_id=UUID(int=2), transition_id=3)


def facts(*languages: str, **more: Any) -> Facts:
    return Facts(**{each: getattr(FACTS, each) for each in FACTS.__struct_fields__} | {"languages": languages} | more)


def write(folder: Path, **files: str) -> Path:
    """Files by their names, with _ for the slash after a locale and the suffix .txt unless one is given."""
    for name, text in files.items():
        locale, _, rest = name.partition("_")
        path = folder / locale / (f"{rest[:-5]}.html" if rest.endswith("_html") else f"{rest}.txt")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


# Languages ------------------------------------------------------------------------------------------------------------


def test_every_mail_is_there_in_every_locale_and_each_template_is_good() -> None:
    assert OURS.faults() == []
    files = {file.relative_to(mail_templates.OURS).as_posix() for file in mail_templates.OURS.rglob("*.*")}
    mails = {f"{locale}/{name}.txt" for locale in LOCALES for name in (*TEMPLATES, "hello")}
    assert files == {*mails, "layout.html"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_locales_of_a_mail_use_the_same_values_and_other_words(name: str) -> None:
    texts = [(mail_templates.OURS / locale / f"{name}.txt").read_text(encoding="utf-8") for locale in LOCALES]
    assert len({tuple(sorted(re.findall(r"{{.*?}}", text))) for text in texts}) == 1
    assert len({text.partition("\n")[0] for text in texts}) >= (1 if name == "notification_digest" else 3)


@pytest.mark.parametrize(
    ("languages", "locale"),
    [
        ((), "en"),
        (("de",), "de"),
        (("DE-at",), "de"),
        (("fr-CH", "de"), "fr"),
        (("de-Latn-CH-1996",), "de"),
        (("nl", "fr;evil", "", "de"), "de"),
        (("nl", "tlh"), "en"),
        (("../../etc",), "en"),
        (("deu",), "en"),
    ],
)
def test_a_mail_is_in_the_first_language_that_there_is_or_in_english(languages: tuple[str, ...], locale: str) -> None:
    email = OURS.render("reset_password", RESET, facts(*languages))
    assert email.locale == locale
    assert email.html is not None
    assert f'<html lang="{locale}">' in email.html
    assert email.text.startswith({"en": "Hello Ada,", "de": "Guten Tag Ada,", "fr": "Bonjour Ada,"}[locale])


# HTML -----------------------------------------------------------------------------------------------------------------


def test_the_html_has_its_styles_in_its_elements_and_names_no_other_server() -> None:
    html = OURS.render("reset_password", RESET, FACTS).html
    assert html is not None
    assert re.search(r'<a href="https://board.example/reset-password\?token=secret" style="color', html)
    assert "prefers-color-scheme: dark" in html
    assert set(re.findall(r"https?://[^/\"< ]+", html)) == {"https://board.example"}


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200), st.sampled_from(LOCALES))
def test_no_text_of_a_user_becomes_markup_in_any_locale(name: str, title: str, note: str, locale: str) -> None:
    email = OURS.render("content_rejected", REJECTED, facts(locale, full_name=name, title=title, note=note))
    assert email.subject.splitlines() == [email.subject]
    assert email.html is not None
    tags = {"html", "head", "meta", "title", "style", "body", "main", "p", "br", "a"}
    assert set(re.findall(r"</?(\w+)", email.html)) <= tags


# An operator's own ----------------------------------------------------------------------------------------------------


def test_a_template_of_ones_own_takes_the_place_of_ours_and_the_rest_stays(tmp_path: Path) -> None:
    own = write(tmp_path, de_reset_password="Neu\n{{ hello }}\n\n{{ link_url }}/neu?token={{ token }}\n")
    templates = MailTemplates(Path(parse_template_folder(str(own))))
    email = templates.render("reset_password", RESET, facts("de"))
    assert (email.subject, email.locale) == ("Neu", "de")
    assert "https://board.example/neu?token=secret" in email.text
    assert email.html is not None
    assert 'href="https://board.example/neu?token=secret"' in email.html
    assert templates.render("reset_password", RESET, facts("en")).subject == "Reset your password"
    verify = VerifyEmail(token_id=UUID(int=0))
    assert templates.render("verify_email", verify, facts("de")).subject.startswith("Bestätigen")


def test_a_new_locale_serves_what_it_has_and_leaves_the_rest_to_the_readers_next_language(tmp_path: Path) -> None:
    own = write(tmp_path, es_reset_password="Nueva\n{{ hello }}\n", es_hello="Hola {{ full_name }}:")
    templates = MailTemplates(Path(parse_template_folder(str(own))))
    email = templates.render("reset_password", RESET, facts("es-MX", "de"))
    assert (email.locale, email.text) == ("es", "Hola Ada:\n")
    assert templates.render("verify_email", VerifyEmail(token_id=UUID(int=0)), facts("es", "de")).locale == "de"


def test_html_of_ones_own_is_escaped_inlined_and_beside_the_text(tmp_path: Path) -> None:
    page = "{% extends 'layout.html' %}{% block body %}<h1>{{ title }}</h1><p>{{ note }}</p>{% endblock %}"
    own = write(tmp_path, en_content_rejected_html=page)
    (own / "layout.html").write_text("<style>h1 { color: red }</style>{% block body %}{{ paragraphs }}{% endblock %}")
    templates = MailTemplates(Path(parse_template_folder(str(own))))
    email = templates.render("content_rejected", REJECTED, facts("en", note="<script>"))
    assert email.html is not None
    assert '<h1 style="color: red;">&lt;b&gt;T&lt;/b&gt;</h1><p>&lt;script&gt;</p>' in email.html
    assert email.text.startswith("Hello Ada,")
    other = templates.render("reset_password", RESET, facts("en")).html
    assert other is not None
    assert '<p class="action"><a href=' in other


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"de_reset_password": "Neu\nA\n{{ hello }\n"}, "de/reset_password.txt, line 3: unexpected '}'"),
        (
            {"de_reset_password": "Neu\nA\nB\n{{ nonsense }}\n"},
            "de/reset_password.txt, line 4: 'nonsense' is undefined",
        ),
        ({"de_reset_password": "Neu\n\n{% if x %}\n"}, "de/reset_password.txt, line 3: "),
        ({"de_reset_password": "Neu\n{{ 1 / 0 }}\n"}, "de/reset_password.txt, line 2: division by zero"),
        ({"de_reset_password": "Neu\n{{ title.x.y }}\n"}, "de/reset_password.txt, line 2: "),
        ({"de_reset_password": "Neu\n{% include 'no.txt' %}\n"}, "de/reset_password.txt, line 2: "),
        ({"de_reset_password": "\nA\n"}, "de/reset_password.txt: must have the subject in its first line"),
        ({"de_reset_password": "Only a subject\n"}, "de/reset_password.txt: must have the subject"),
        ({"de_verify_email": "S\n{{ requested_at.year }}\n"}, "de/verify_email.txt, line 2: "),
        ({"de_reset_pasword": "S\nT\n"}, "de/reset_pasword.txt: is no mail of ours; they are address_taken"),
        ({"de_hello": "{{ name }}"}, "de/hello.txt, line 1: 'name' is undefined"),
        ({"DE_hello": "Hallo"}, "DE/hello.txt: must be in the folder de"),
        ({"german_hello": "Hallo"}, "german/hello.txt: is neither layout.html nor in the folder of a locale"),
        ({"de_reset_password_html": "{% extends 'no.html' %}"}, "de/reset_password.html, line 1: "),
        ({"de_reset_password_html": "<p>\n{{ nonsense }}"}, "de/reset_password.html, line 2: "),
    ],
    ids=str,
)
def test_a_fault_is_told_with_its_file_and_its_line(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=r"^must have good templates: ") as caught:
        parse_template_folder(str(write(tmp_path, **files)))
    assert f": {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_and_a_broken_layout_are_told_and_hidden_files_are_not(tmp_path: Path) -> None:
    write(tmp_path, de_hello="Hallo")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("x")
    (tmp_path / "de" / ".hello.txt.swp").write_bytes(b"\xff")
    parse_template_folder(str(tmp_path))
    (tmp_path / "de" / "export.txt").write_bytes(b"S\n\xff\n")
    (tmp_path / "layout.html").write_text("<p>\n{{ paragraphs }")
    with pytest.raises(ValueError, match=r"de/export.txt: is not UTF-8; layout.html, line 2: "):
        parse_template_folder(str(tmp_path))


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("nowhere", "file"):
        with pytest.raises(ValueError, match="must be a folder that can be read"):
            parse_template_folder(str(tmp_path / name))


def test_a_template_that_is_changed_while_the_process_runs_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, en_reset_password="Good\nText\n")
    templates = MailTemplates(tmp_path)
    templates.load()
    write(tmp_path, en_reset_password="{{ broken\n")
    assert templates.render("reset_password", RESET, facts("en")).subject == "Good"


def test_a_template_that_fails_for_some_values_only_makes_its_mail_unwritable(tmp_path: Path) -> None:
    templates = MailTemplates(write(tmp_path, en_content_rejected="S\n{{ missing }}\n"))
    with pytest.raises(UnknownEmailError, match="en/content_rejected: 'missing' is undefined"):
        templates.render("content_rejected", REJECTED, facts("en"))
