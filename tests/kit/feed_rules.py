"""The rules of Atom documents (RFC 4287 with its appendix B) and of sitemaps (sitemaps.org with its schemas)."""

import re
from collections import Counter
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

ATOM = "{http://www.w3.org/2005/Atom}"
SITEMAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
# How often each element may be in its parent: the least, and the most if there is one.
IN_FEED = {
    **dict.fromkeys(("id", "title", "updated"), (1, 1)),
    **dict.fromkeys(("generator", "icon", "logo", "rights", "subtitle"), (0, 1)),
    **dict.fromkeys(("author", "category", "contributor", "link", "entry"), (0, None)),
}
IN_ENTRY = {
    **dict.fromkeys(("id", "title", "updated"), (1, 1)),
    **dict.fromkeys(("content", "published", "rights", "source", "summary"), (0, 1)),
    **dict.fromkeys(("author", "category", "contributor", "link"), (0, None)),
}
IN_PERSON = {"name": (1, 1), "uri": (0, 1), "email": (0, 1)}
ATTRIBUTES = {
    "link": {"href", "rel", "type", "hreflang", "title", "length"},
    "category": {"term", "scheme", "label"},
    "generator": {"uri", "version"},
    "content": {"type", "src"},
    **{name: {"type"} for name in ("title", "summary", "rights", "subtitle")},
}
CHILDREN = {"feed": IN_FEED, "entry": IN_ENTRY, "author": IN_PERSON, "contributor": IN_PERSON}


def checked_feed(document: bytes) -> ET.Element:
    """The feed of a document that keeps every rule. Raises AssertionError, or ParseError for what is no XML."""
    feed = ET.fromstring(document)  # noqa: S314 - our own
    assert feed.tag == f"{ATOM}feed"
    for element in feed.iter():
        _check_element(element)
    entries = feed.findall(f"{ATOM}entry")
    for entry in entries:
        assert entry.find(f"{ATOM}author") is not None or feed.find(f"{ATOM}author") is not None
        links = [link.get("rel", "alternate") for link in entry.findall(f"{ATOM}link")]
        assert entry.find(f"{ATOM}content") is not None or "alternate" in links
    twice = Counter((entry.findtext(f"{ATOM}id"), entry.findtext(f"{ATOM}updated")) for entry in entries)
    assert set(twice.values()) <= {1}
    assert [link.get("rel") for link in feed.findall(f"{ATOM}link")].count("self") == 1
    return feed


def _check_element(element: ET.Element) -> None:
    assert element.tag.startswith(ATOM), element.tag
    name = element.tag.removeprefix(ATOM)
    assert set(element.attrib) <= ATTRIBUTES.get(name, set()), (name, element.attrib)
    assert element.get("type") in (None, "text", "html", "application/atom+xml", "text/html")
    allowed = CHILDREN.get(name, {})
    found = Counter(child.tag.removeprefix(ATOM) for child in element)
    assert set(found) <= set(allowed), (name, found)
    for child, (least, most) in allowed.items():
        assert least <= found[child] <= (found[child] if most is None else most), (name, child)
    text = element.text or ""
    if name in ("updated", "published"):
        assert TIME.fullmatch(text), text
    elif name == "id":
        assert urlsplit(text).scheme, text
    elif name == "link":
        assert urlsplit(element.attrib["href"]).netloc, element.attrib
    elif name in ("name", "title"):
        assert text.strip(), name
    elif name == "category":
        assert element.attrib["term"]
    elif allowed:
        assert not text.strip(), name
    alternates = [
        (link.get("type"), link.get("hreflang"))
        for link in element.findall(f"{ATOM}link")
        if link.get("rel", "alternate") == "alternate"
    ]
    assert len(alternates) == len(set(alternates)), name


def checked_sitemap(document: bytes, base: str) -> list[tuple[str, str | None]]:
    """The addresses and times of an index or a page that keeps every rule. Raises AssertionError or ParseError."""
    root = ET.fromstring(document)  # noqa: S314 - our own
    child = {"sitemapindex": "sitemap", "urlset": "url"}[root.tag.removeprefix(SITEMAP)]
    assert 1 <= len(root) <= 50_000
    assert len(document) <= 50 * 1024 * 1024
    found = []
    for each in root:
        assert each.tag == SITEMAP + child
        assert [part.tag for part in each] in ([f"{SITEMAP}loc"], [f"{SITEMAP}loc", f"{SITEMAP}lastmod"])
        address, at = each[0].text or "", each.findtext(f"{SITEMAP}lastmod")
        assert address.startswith(f"{base}/")
        assert 12 <= len(address) <= 2_048
        assert at is None or TIME.fullmatch(at), at
        found.append((address, at))
    assert len(found) == len({address for address, _ in found})
    return found
