"""What settings are made of: each function reads one form of text, or raises ValueError that says what it must be."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from callboard.actors.keys import MIN_SECRET_BYTES, read_private_key, read_public_keys
from callboard.http.peers import network

ROLES = frozenset({"front", "streams", "workers"})
MIN_TOKEN = 16  # characters of OPS_TOKEN
MAX_HOURS = 8760
_MAX_PORT = 65535
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def line(text: str) -> str:
    """One line without control characters."""
    if _CONTROL.search(text):
        raise ValueError("must be one line without control characters")
    return text


def port(text: str) -> int:
    """A port."""
    value = int(text)
    if not 0 < value <= _MAX_PORT:
        raise ValueError("must be a port, 1 to 65535")
    return value


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    value = int(text)
    if value < 1:
        raise ValueError("must be 1 or more")
    return value


def hours(text: str) -> float:
    """Hours, also a fraction of one: a second at least, and a year at most."""
    value = float(text)
    if not 1 / 3600 <= value <= MAX_HOURS:
        raise ValueError(f"must be hours, from a second to {MAX_HOURS} hours; 0.25 is a quarter")
    return value


def up_to(most: int, *, least: int = 1) -> Callable[[str], int]:
    """What takes a whole number up to a bound."""

    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError(f"must be {least} to {most}")
        return value

    return parse


def token(text: str) -> str:
    """A token for operators."""
    if len(text) < MIN_TOKEN:
        raise ValueError(f"must have {MIN_TOKEN} characters or more: openssl rand -hex 24 makes one")
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
    """Origins of pages, or `*` alone for any."""
    given = words(text)
    if "*" in given and len(given) > 1:
        raise ValueError("must be origins, or * alone")
    if any(each != "*" and not re.fullmatch(r"https?://[a-z0-9._-]+(?::[0-9]{1,5})?", each) for each in given):
        raise ValueError("must be origins such as https://app.example, in lower case and without a path, or *")
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


def url(*schemes: str) -> Callable[[str], str]:
    """What takes an address of one of these schemes."""

    def parse(text: str) -> str:
        if urlsplit(text).scheme not in schemes:
            raise ValueError(f"must be an address that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return text

    return parse


def replication(text: str) -> int:
    """A number of copies; -1 is the broker's default."""
    value = int(text)
    if value != -1 and value < 1:
        raise ValueError("must be -1 (the broker's default), or 1 or more")
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
    """What takes one of these words, in any case."""

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
