"""JSON objects with a key twice: readers differ on which value counts (RFC 8259, section 4), so no input takes them."""

import json
from collections import Counter
from typing import Any

import msgspec


def repeated_keys(raw: bytes) -> list[str]:
    """Return the keys that one object of a well-formed JSON text has twice.

    Raises RecursionError, and what msgspec raises for a text that is not well formed.
    """
    if raw.count(b":") == _count_keys(msgspec.json.decode(raw)):  # each key has its colon
        return []
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = Counter(name for name, _ in pairs)
        found.extend(name for name, count in names.items() if count > 1)
        return {}

    json.loads(raw, object_pairs_hook=look)
    return found


def _count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(_count_keys(each) for each in value.values() if isinstance(each, dict | list))
    if isinstance(value, list):
        return sum(_count_keys(each) for each in value if isinstance(each, dict | list))
    return 0
