"""Parsers of settings: each function parses one form of text, or raises ValueError that says what the text must be."""

import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

from callboard.actors.infrastructure.signing_keys import MIN_SECRET_BYTES, read_private_key, read_public_keys
from callboard.http.server.client_ip import network

ROLES = frozenset({"front", "streams", "workers"})
MIN_TOKEN = 16  # characters of OPS_TOKEN
MAX_HOURS = 8760
MAX_PORT = 65535
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def line(text: str) -> str:
    """One line without control characters."""
    if _CONTROL.search(text):
        raise ValueError("must be one line without control characters")
    return text


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`: larger values would overflow times or exhaust memory."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
            raise ValueError(f"must be a whole number, {low} to {high}")
        if not low <= int(text) <= high:
            raise ValueError(f"must be {low} to {high}")
        return int(text)

    return parse


def hours(text: str) -> float:
    """Hours, also a fraction of one: a second at least, and a year at most."""
    must = f"must be hours, from a second to {MAX_HOURS} hours; 0.25 is a quarter"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(must) from None
    if not 1 / 3600 <= value <= MAX_HOURS:
        raise ValueError(must)
    return value


def host(text: str) -> str:
    """A name or an address without a port; an IPv6 address may stand in brackets."""
    bare = line(text).removeprefix("[").removesuffix("]")
    with suppress(ValueError):
        ip_address(bare.partition("%")[0])
        return bare
    if not re.fullmatch(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?", text, re.ASCII):
        raise ValueError("must be the name of a host or an IP address, without a port")
    return text


def token(text: str) -> str:
    """A token for operators."""
    if not re.fullmatch(rf"[!-~]{{{MIN_TOKEN},}}", text):
        raise ValueError(
            f"must have {MIN_TOKEN} characters or more, of ASCII and without spaces: openssl rand -hex 24 makes one"
        )
    return text


def hosts(text: str) -> tuple[str, ...]:
    """Names of hosts."""
    names = words(text)
    if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}", name, re.ASCII) for name in names):
        raise ValueError("must be names of hosts without ports, with commas between")
    return names


def flag(text: str) -> bool:
    """True or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def words(text: str) -> tuple[str, ...]:
    """Words with commas between."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def origins(text: str) -> tuple[str, ...]:
    """Origins of pages, as browsers write them, or `*` alone for any."""
    given = words(text)
    if "*" in given and len(given) > 1:
        raise ValueError("must be origins, or * alone")
    for each in given:
        found = _ORIGIN.fullmatch(each)
        if each != "*" and (found is None or int(found["port"] or 1) not in range(1, MAX_PORT + 1)):
            raise ValueError("must be origins such as https://app.example, in lower case and without a path, or *")
        if found is not None and (found["scheme"], found["port"]) in (("http", "80"), ("https", "443")):
            raise ValueError("must be origins as browsers write them: without the port that their scheme means")
    return given


def networks(text: str) -> tuple[str, ...]:
    """Networks with commas between."""
    return tuple(str(network(word)) for word in words(text))


def roles(text: str) -> frozenset[str]:
    """Some of the roles."""
    roles = frozenset(words(text))
    if not roles or roles - ROLES:
        raise ValueError(f"must be some of {', '.join(sorted(ROLES))}")
    return roles


def web_address(text: str) -> str:
    """An address of ours that paths are put behind: a scheme, a host, perhaps a port and a path."""
    try:
        parts = urlsplit(text)
        host(parts.hostname or "")
        good = parts.scheme in ("http", "https") and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or not text.isascii() or not text.isprintable() or re.search(r"[\s?#\"<>\\]", text):
        raise ValueError("must be an address such as https://board.example, without a login, a query or a space")
    return urlunsplit(parts).rstrip("/")


def replication(text: str) -> int:
    """A number of copies; -1 is the broker's default."""
    value = whole(-1, 100)(text)
    if value == 0:
        raise ValueError("must be -1 (the broker's default), or 1 to 100")
    return value


def secret(text: str) -> str:
    """A secret, long enough."""
    if "-----BEGIN" in text:
        raise ValueError("must be a secret, and not a key in PEM")
    if len(text.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must have {MIN_SECRET_BYTES} bytes or more: openssl rand -base64 48 makes one")
    return text


def secrets(text: str) -> tuple[str, ...]:
    """One a line, or with commas between."""
    return tuple(secret(each) for word in text.splitlines() for each in words(word))


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that accepts one of these words, in any case."""

    def parse(text: str) -> str:
        found = next((choice for choice in choices if choice.lower() == text.strip().lower()), None)
        if found is None:
            raise ValueError(f"must be {', '.join(choices[:-1])} or {choices[-1]}")
        return found

    return parse


def private_key(text: str) -> str:
    """An Ed25519 key in PEM."""
    read_private_key(text)
    return text


def public_keys(text: str) -> str:
    """Public keys in PEM."""
    read_public_keys(text)
    return text
