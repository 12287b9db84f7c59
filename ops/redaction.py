"""Redaction: no secret and no personal data leaves in a log line, from any caller and in any form.

There are two filters. By key: a field named `password` is hidden with any value, in a mapping and in text alike. By
shape: a text that looks like an address, a token, a hash, a key or a login in a URL is hidden at any place.
"""

import re
from collections.abc import Mapping
from typing import Any

from callboard.streams.email_address import REDACTED, redact_email

MAX_DEPTH = 8  # of nested fields; deeper ones are hidden whole
MAX_TEXT = 20_000  # characters of one text: the rest is cut off, since every shape is searched in all of it

_WORDS = r"pass(?:word|wd|phrase)?|pwd|secret|token|authorization|cookie|credentials?|api[_-]?key|private[_-]?key|otp"
_SECRET_KEY = re.compile(rf"(?:^|_)(?:{_WORDS})s?(?:_(?:hash|key|value))?$")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")  # between the words of a name, in any notation

# Each with its replacement. The order matters: a URL's login holds an `@` and is not an address.
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
    """Return the text without secrets and personal data, cut to MAX_TEXT, and in valid UTF-8."""
    text = text[:MAX_TEXT].encode("utf-8", "replace").decode()
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return _ADDRESS.sub(lambda found: redact_email(found[0]), text)


def is_secret_key(key: str) -> bool:
    """Whether a field of this name is hidden with any value: password, new_password, access_token, api-key."""
    return _SECRET_KEY.search(_HUMP.sub("_", key).lower()) is not None


def redact(value: Any, depth: int = 0) -> Any:
    """Return the value for a log line: fields by their names, texts by their shape; any other object as its text."""
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
