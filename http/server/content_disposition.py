"""Content-Disposition: a file is downloaded under its name, and never shown in the page's own origin (RFC 6266)."""

import re
import unicodedata
from urllib.parse import quote

MAX_NAME, MAX_ENDING = 80, 16  # characters: file systems take 255 bytes
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # categories
UNSAFE = re.compile(r'[<>:"|?*]')
PLAIN = re.compile(r"[^ !#$&+\-.^_`|~0-9A-Za-z(),;=@\[\]{}\']")  # no % and no backslash, which some clients decode
UNNAMED = "file"
ATTR_CHARS = "!#$&+-.^_`|~"  # RFC 8187, 3.2.1


def attachment(name: str | None) -> str:
    """Return the header's value for a file of this name: in ASCII for old clients, and in UTF-8 (RFC 8187)."""
    shown = safe_name(name)
    plain = PLAIN.sub("_", unicodedata.normalize("NFKD", shown).encode("ascii", "ignore").decode()).strip(" .")
    plain = plain if plain.strip("_") else UNNAMED
    header = f'attachment; filename="{plain}"'
    return header if plain == shown else f"{header}; filename*=UTF-8''{quote(shown, safe=ATTR_CHARS)}"


def safe_name(name: str | None) -> str:
    """Return a name without folders, control characters and characters that turn the direction of the text."""
    base = re.split(r"[/\\]", name or "")[-1]
    shown = "".join(each for each in UNSAFE.sub("_", base) if unicodedata.category(each) not in HIDDEN)
    shown = unicodedata.normalize("NFC", shown).strip(" .")
    if len(shown) > MAX_NAME:
        stem, dot, ending = shown.rpartition(".")
        kept = f"{dot}{ending}" if stem and len(ending) <= MAX_ENDING else ""
        shown = shown[: MAX_NAME - len(kept)].rstrip(" .") + kept
    return shown or UNNAMED
