"""Redaction: nothing that is secret or personal leaves in a log line, whoever put it there and in whatever form.

Two nets, one behind the other. By key: a field named `password` is hidden whatever it holds, in a mapping and in text
alike. By shape: what looks like an address, a token, a hash, a key or a login in a URL is hidden wherever it stands.
"""

import re
from collections.abc import Mapping
from typing import Any

from callboard.streams.email_address import REDACTED, redact_email

MAX_DEPTH = 8  # of nested fields; what lies deeper is hidden whole
MAX_TEXT = 20_000  # characters of one text: the rest is cut off, since every shape is looked for in all of it

_WORDS = r"pass(?:word|wd|phrase)?|pwd|secret|token|authorization|cookie|credentials?|api[_-]?key|private[_-]?key|otp"
_SECRET_KEY = re.compile(rf"(?:^|_)(?:{_WORDS})s?(?:_(?:hash|key|value))?$")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")  # between the words of a name, however it is written

# Each with what takes its place. The order matters: a URL's login holds an `@` and is not an address.
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]{1,40}-----.*?(?:-----END [A-Z ]{1,40}-----|$)", re.DOTALL), REDACTED),
    (re.compile(r"(?<=://)[^\s'\"<>]{1,2000}@"), f"{REDACTED}@"),
    (re.compile(r"\$(?:argon2\w{1,2}|2[abxy]|scrypt|pbkdf2[\w-]*)\$[^\s'\"]+"), REDACTED),
    (re.compile(r"(?i)\b(Bearer|Basic)\s+[\w.~+/=-]+"), rf"\1 {REDACTED}"),
    (
        re.compile(
            rf"(?i)\b((?:\w+[_-])?(?:{_WORDS})s?)(['\"]?\s*[:=]\s*)"
            r"(?:'[^']*(?:'|$)|\"(?:[^\"\\]|\\.)*(?:\"|$)|[^\s,;&)}\]'\"]+)"
        ),
        rf"\1\2{REDACTED}",
    ),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"), REDACTED),
    (re.compile(r"(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[A-Za-z0-9_-]{40,}"), REDACTED),
)
_ADDRESS = re.compile(r"(?<![^\s@<>\"'(),:;=\[\]\\/])[^\s@<>\"'(),:;=\[\]\\/]+@(?:[\w.-]*\w|\[[^\]\s]{2,60}\])")


def redact_text(text: str) -> str:
    """The text without whatever looks secret or personal in it, cut to MAX_TEXT, and good UTF-8."""
    text = text[:MAX_TEXT].encode("utf-8", "replace").decode()
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return _ADDRESS.sub(lambda found: redact_email(found[0]), text)


def is_secret_key(key: str) -> bool:
    """Whether a field of this name is hidden whatever it holds: password, new_password, access_token, api-key."""
    return _SECRET_KEY.search(_HUMP.sub("_", key).lower()) is not None


def redact(value: Any, depth: int = 0) -> Any:
    """The value as it may be logged: fields by their names, texts by their shape; anything odd as its text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= MAX_DEPTH:
        return REDACTED
    if isinstance(value, Mapping):
        return {
            redact_text(str(key)): REDACTED if is_secret_key(str(key)) else redact(each, depth + 1)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(each, depth + 1) for each in value]
    return redact_text(str(value))
