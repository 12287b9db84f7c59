"""The declaration of settings: a department's are a frozen Struct, and the types of its fields are all the checking.

    class PollSettings(Settings, frozen=True, kw_only=True):
        max_options: Annotated[int, Meta(ge=2, le=20, description="the answers of a poll, at most")] = 8
        key: Annotated[Line, SECRET, Meta(description="the key of the polling service")] = ""

`description` is the line for operators, and `title` says what a text must be whose `pattern` does not fit. What holds
between several fields stands in `__post_init__`, which raises ValueError with a line for each fault.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from msgspec import Meta, Struct

SECRET = Meta(extra={"secret": True})  # never shown
PRIVATE = Meta(extra={"private": True})  # a URL that is shown without its login


def formerly(name: str) -> Meta:
    """Give the name that a setting had in the release before: it works, with a warning."""
    return Meta(extra={"formerly": name})


def in_vault(*names: str) -> Meta:
    """Give the names of a secret in Vault, below VAULT_PATH; without this it is that of its field."""
    return Meta(extra={"vault": names})


class Parsed(Struct, frozen=True):
    """In the annotation of a type that bounds cannot describe: `parse` makes the value of a text.

    It raises ValueError that begins with "must" and quotes nothing.
    """

    parse: Callable[[str], Any]


class Settings(Struct, frozen=True, kw_only=True):
    """Settings, whose values no repr shows: some are secret."""

    def __repr__(self) -> str:
        """Return the name alone."""
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show rich no fields."""
        return []


def parse_host(text: str) -> str:
    """Return a name or an address without a port; an IPv6 address may stand in brackets. Raises ValueError."""
    if not text.isprintable():
        raise ValueError("must be one line without control characters")
    bare = text.removeprefix("[").removesuffix("]")
    with suppress(ValueError):
        ip_address(bare.partition("%")[0])
        return bare
    if not re.fullmatch(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?", text, re.ASCII):
        raise ValueError("must be the name of a host or an IP address, without a port")
    return text


def parse_folder(text: str) -> str:
    """Return the path of a folder, which need not exist. Raises ValueError."""
    if not text.isprintable() or not Path(text).is_absolute():
        raise ValueError("must be the whole path of a folder, such as /var/lib/callboard/uploads")
    return text


def parse_web_address(text: str) -> str:
    """Return an address that paths are appended to: a scheme, a host, perhaps a port and a path. Raises ValueError."""
    try:
        parts = urlsplit(text)
        parse_host(parts.hostname or "")
        good = parts.scheme in ("http", "https") and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or not text.isascii() or not text.isprintable() or re.search(r"[\s?#\"<>\\]", text):
        raise ValueError("must be an address such as https://board.example, without a login, a query or a space")
    return urlunsplit(parts).rstrip("/")


# Larger numbers would overflow times or exhaust memory.
Port = Annotated[int, Meta(ge=1, le=65_535)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=1, le=1 << 40)]
Seconds = Annotated[int, Meta(ge=1, le=86_400)]
Days = Annotated[int, Meta(ge=1, le=36_500)]
Hours = Annotated[float, Meta(ge=1 / 3600, le=8760, title="hours, from a second to 8760 hours; 0.25 is a quarter")]
Line = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z", title="one line without control characters")]
Host = Annotated[str, Parsed(parse_host)]
WebAddress = Annotated[str, Parsed(parse_web_address)]
Folder = Annotated[str, Parsed(parse_folder)]
