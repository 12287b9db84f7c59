"""The templates of our own mails: a text in each locale, and HTML made of it or by a template of its own.

    templates/
        layout.html                 the page of every mail's HTML
        en/hello.txt                the greeting
        en/reset_password.txt       the subject in the first line, then the text
        en/reset_password.html      optional: {% extends "layout.html" %}, and the block `body`

An operator's folder (MAIL_TEMPLATES) has the same form. A file there takes the place of ours; what it lacks is ours. It
may have more locales. A mail is written in the first of its reader's languages that has its template, or in English
(RFC 4647, lookup). Values are escaped in HTML and bare in text. Every mail has the text.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from traceback import extract_tb
from typing import Any
from uuid import UUID

import css_inline
import msgspec
from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
)
from markupsafe import Markup, escape

from callboard.actors.delivery.email_templates import TEMPLATES, EmailTemplate, Facts, UnknownEmailError
from callboard.actors.delivery.mail_message import RenderedEmail
from callboard.actors.delivery.mail_text import clean_line, clean_text
from callboard.streams.language_tags import lookup

OURS = Path(__file__).with_name("templates")
DEFAULT_LOCALE = "en"
GREETING = "hello"
LAYOUT = "layout.html"
MAX_NAME = 100
MAX_NOTE = 2000
MAX_FAULTS = 5  # that are told at once
_LINK = re.compile(r"https?://[^\s<]+")
_PARAGRAPH, _ACTION = Markup("<p>{}</p>\n"), Markup('<p class="action">{}</p>\n')
_SCHEME = re.compile(r"(?<!\w)\w+:/+")
_LOCALE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
# Nothing is read again while the process runs: what was found good at the start stays.
_OPTIONS: dict[str, Any] = {
    "undefined": StrictUndefined,
    "keep_trailing_newline": True,
    "auto_reload": False,
    "cache_size": -1,
}
SAMPLE = Facts(
    link_url="https://board.example",
    full_name="Ada",
    token="token",  # noqa: S106 - no secret
    title="Title",
    note="Note",
    notifications=(("One", "/one"), ("Two", "")),
)


class MailTemplates:
    """All templates of a process. `folder` is the operator's own."""

    def __init__(self, folder: Path | None = None) -> None:
        folders = [OURS] if folder is None else [folder, OURS]
        loader = ChoiceLoader([FileSystemLoader(each) for each in folders])
        self._text = Environment(loader=loader, autoescape=False, **_OPTIONS)  # noqa: S701 - plain text
        self._html = Environment(loader=loader, autoescape=True, **_OPTIONS)
        self._names = {name: None for each in reversed(folders) for name in _files(each)}  # ours first
        self._locales: dict[str, str] = {}  # folders by their tags in lower case: tags have no case, folders have
        for locale, slash, _ in (name.partition("/") for name in self._names):
            if slash:
                self._locales.setdefault(locale.lower(), locale)
        self._inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)

    def load(self) -> None:
        """Read all templates: later changes of their files have no effect. Raises jinja2's TemplateError."""
        for name in self._names:
            (self._html if name.endswith(".html") else self._text).get_template(name)

    def render(self, name: str, template: EmailTemplate, facts: Facts) -> RenderedEmail:
        """Write one of our mails in the best of the reader's languages. Raises UnknownEmailError."""
        locale = self._locale(f"{name}.txt", facts.languages)
        try:
            values = self._values(template, facts)
            page = self._text.get_template(f"{locale}/{name}.txt").render(values)
            subject, _, text = page.partition("\n")
            subject = clean_line(subject)
            return RenderedEmail(subject, text, self._page(name, locale, text, values | {"subject": subject}), locale)
        except (TemplateError, css_inline.InlineError) as error:
            raise UnknownEmailError(f"template {locale}/{name}: {error}") from error

    def _values(self, template: EmailTemplate, facts: Facts) -> dict[str, Any]:
        """Return the values of a mail, all of them plain text."""
        full_name = "" if facts.full_name is None else clean_line(_SCHEME.sub("", facts.full_name), MAX_NAME)
        greeting: Template = self._text.get_template(
            f"{self._locale(f'{GREETING}.txt', facts.languages)}/{GREETING}.txt"
        )
        return {
            **{key: _shown(value) for key, value in msgspec.structs.asdict(template).items()},
            "hello": greeting.render(full_name=full_name).strip(),
            "full_name": full_name,
            "link_url": facts.link_url,
            "token": facts.token,
            "title": clean_line(facts.title),
            "note": clean_text(facts.note)[:MAX_NOTE],
            "notifications": [(clean_line(text), link) for text, link in facts.notifications],
        }

    def _page(self, name: str, locale: str, text: str, values: dict[str, Any]) -> str:
        """Return the HTML of a mail, its styles in its elements: mail programs drop style sheets."""
        own = f"{locale}/{name}.html"
        page = self._html.get_template(own if own in self._names else LAYOUT)
        # A rendered page is HTML, which a template is not yet: so each page is inlined, in 0.1 ms.
        return self._inliner.inline(page.render(values, locale=locale, paragraphs=as_html(text)))

    def _locale(self, file: str, languages: Iterable[str]) -> str:
        """Return the locale of the first language that has this file."""
        tag = lookup(languages, lambda tag: f"{self._locales.get(tag)}/{file}" in self._names)
        return DEFAULT_LOCALE if tag is None else self._locales[tag]

    def faults(self) -> list[str]:
        """Return a line for each file that is no template, or whose template cannot be written: its name and line."""
        greetings = [name for name in self._names if name.endswith(f"/{GREETING}.txt")]
        # Every mail has the greeting: its fault would be told with each of them.
        return self._faults_of(greetings) or self._faults_of([name for name in self._names if name not in greetings])

    def _faults_of(self, names: Iterable[str]) -> list[str]:
        found = ((name, self._name_fault(name) or self._write_fault(name)) for name in sorted(names))
        return [f"{name}{fault}" for name, fault in found if fault]

    def _name_fault(self, name: str) -> str | None:
        locale, _, file = name.rpartition("/")
        stem, _, suffix = file.rpartition(".")
        if name == LAYOUT:
            return None
        if not _LOCALE.fullmatch(locale):
            return ": is neither layout.html nor in the folder of a locale, like de"
        if (known := self._locales[locale.lower()]) != locale:
            return f": must be in the folder {known}"
        if (suffix == "txt" and stem in (GREETING, *TEMPLATES)) or (suffix == "html" and stem in TEMPLATES):
            return None
        return f": is no mail of ours; they are {', '.join(sorted(TEMPLATES))}"

    def _write_fault(self, name: str) -> str | None:
        """Try a template with all that it may be given, and with no more than it must be."""
        locale, _, file = name.rpartition("/")
        stem = file.rpartition(".")[0]
        facts = msgspec.structs.replace(SAMPLE, languages=(locale,))
        try:
            for template in _samples(TEMPLATES.get(stem, EmailTemplate)):
                self._try(name, template, facts)
        except TemplateSyntaxError as error:
            return f", line {error.lineno}: {error.message}"
        except UnicodeDecodeError:
            return ": is not UTF-8"
        except Exception as error:  # noqa: BLE001 - a template runs whatever is written in it
            lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename.endswith(name)]
            return f"{f', line {lines[-1]}' if lines else ''}: {error}"
        return None

    def _try(self, name: str, template: EmailTemplate, facts: Facts) -> None:
        self._text.get_template(name)  # first, and for its syntax: the greeting is a part of the values
        values = self._values(template, facts)
        locale = name.rpartition("/")[0] or DEFAULT_LOCALE
        if name.endswith(".txt"):
            subject, _, text = self._text.get_template(name).render(values).partition("\n")
            if name != f"{locale}/{GREETING}.txt" and not (clean_line(subject) and text.strip()):
                raise ValueError("must have the subject in its first line, and a text after it")
        else:
            page = self._html.get_template(name)
            self._inliner.inline(page.render(values, subject="Subject", locale=locale, paragraphs=Markup()))


def loaded_templates(folder: Path | None = None) -> MailTemplates:
    """Read all templates. Raises jinja2's TemplateError."""
    templates = MailTemplates(folder)
    templates.load()
    return templates


@cache
def our_templates() -> MailTemplates:
    """Return our own alone: however often a process builds its departments, it reads them once."""
    return loaded_templates()


def _files(folder: Path) -> list[str]:
    """Return the files below a folder by their path in it, without hidden ones."""
    paths = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]


def parse_template_folder(text: str) -> str:
    """Check the setting MAIL_TEMPLATES: every template of the folder is read and tried. Raises ValueError."""
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise ValueError("must be a folder that can be read")
    try:
        faults = MailTemplates(folder).faults()
    except OSError as error:
        raise ValueError(f"must be a folder that can be read: {error.strerror}") from None
    if faults:
        more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        raise ValueError(f"must have good templates: {'; '.join(faults[:MAX_FAULTS])}{more}")
    return str(folder.resolve())


def as_html(text: str) -> Markup:
    """Return plain text as HTML: escaped, in paragraphs, with clickable links; a link alone stands out."""
    paragraphs = [paragraph.strip("\n") for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]
    return Markup("").join(
        (_ACTION if _LINK.fullmatch(each.strip()) else _PARAGRAPH).format(_linked(each)) for each in paragraphs
    )


def _linked(paragraph: str) -> Markup:
    escaped = str(escape(paragraph))
    linked = _LINK.sub(lambda link: f'<a href="{link[0]}">{link[0]}</a>', escaped)
    return Markup(linked.replace("\n", "<br>"))  # noqa: S704 - escaped above


def _samples(kind: type[EmailTemplate]) -> Sequence[EmailTemplate]:
    """Return data of a template: all that it may have, and only what it must."""
    whole = {"token_id": UUID(int=0), "content_id": UUID(int=0), "digest_id": UUID(int=0), "transition_id": 1}
    whole |= {"requested_at": datetime(2026, 1, 1, tzinfo=UTC), "ip": "::1"}
    fields = msgspec.structs.fields(kind)
    return [
        kind(**{each.name: whole[each.name] for each in fields}),
        kind(**{each.name: whole[each.name] for each in fields if each.required}),
    ]


def _shown(value: Any) -> Any:
    """Format a time for people."""
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) else value
