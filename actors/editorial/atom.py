"""Atom documents (RFC 4287). Pure functions: the same feed always gives the same bytes."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urljoin
from uuid import UUID
from xml.etree import ElementTree as ET

import msgspec

ATOM = "http://www.w3.org/2005/Atom"
ATOM_TYPE = "application/atom+xml"
NEVER = datetime(1970, 1, 1, tzinfo=UTC)  # the last change of a feed without entries

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2
# A tag, as the sanitizer writes it, and an attribute in it that holds an address.
_TAG = re.compile(r'<[a-z][a-z0-9]*+(?: [a-z-]++="[^"]*+")*+>')
_ADDRESS = re.compile(r'(?<= )(href|src|cite)="([^"]*+)"')
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*+:", re.IGNORECASE)


class AtomEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An article. `text` is its whole text as sanitised markup if `is_whole`, else the beginning of its bare text."""

    content_id: UUID
    title: str
    author_name: str
    terms: tuple[tuple[str, str], ...]  # of the category and the tags: term, label
    published_at: datetime
    updated_at: datetime
    text: str
    is_whole: bool


class AtomFeed(msgspec.Struct, frozen=True, kw_only=True):
    """A feed. `base` is the address of the site, without a final slash; `path` is the feed's own."""

    feed_id: UUID
    title: str
    base: str
    path: str
    entries: Sequence[AtomEntry]

    @property
    def updated_at(self) -> datetime:
        """Return the time of the newest entry."""
        return max((entry.updated_at for entry in self.entries), default=NEVER)


def render_feed(feed: AtomFeed) -> bytes:
    """Return the document. Ids name the article and not its address: they stay when the site moves."""
    root = ET.Element("feed", {"xmlns": ATOM})
    _add(root, "id", feed.feed_id.urn)
    _add(root, "title", feed.title)
    _add(root, "updated", _time(feed.updated_at))
    _add(root, "link", rel="self", type=ATOM_TYPE, href=feed.base + feed.path)
    _add(root, "link", rel="alternate", type="text/html", href=f"{feed.base}/")
    _add(root, "generator", "Callboard")
    for entry in feed.entries:
        _add_entry(root, entry, feed.base)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def article_address(base: str, content_id: object) -> str:
    """Return the address of an article's page."""
    return f"{base}/content/{content_id}"


def absolute_links(html: str, base: str) -> str:
    """Return sanitised markup with absolute addresses: a reader of feeds shows it elsewhere."""

    def resolve(found: re.Match[str]) -> str:
        address = found[2]
        try:
            whole = address if _ABSOLUTE.match(address) else urljoin(base, address)
        except ValueError:  # such as `//[`
            whole = address
        return f'{found[1]}="{whole}"'

    return _TAG.sub(lambda tag: _ADDRESS.sub(resolve, tag[0]), html)


def xml_text(text: str) -> str:
    """Return a text without the characters that no XML document may have, not even escaped."""
    return _NO_XML.sub("", text)


def _add_entry(root: ET.Element, entry: AtomEntry, base: str) -> None:
    address = article_address(base, entry.content_id)
    item = _add(root, "entry")
    _add(item, "id", entry.content_id.urn)
    _add(item, "title", entry.title)
    _add(item, "link", rel="alternate", type="text/html", href=address)
    _add(item, "published", _time(entry.published_at))
    _add(item, "updated", _time(entry.updated_at))
    _add(_add(item, "author"), "name", entry.author_name)
    for term, label in entry.terms:
        _add(item, "category", term=term, label=label)
    if entry.is_whole:
        _add(item, "content", absolute_links(entry.text, address), type="html")
    else:
        _add(item, "summary", entry.text)


def _add(parent: ET.Element, name: str, text: str = "", **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, name, {key: xml_text(value) for key, value in attributes.items()})
    element.text = xml_text(text) or None
    return element


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
