"""JSON objects with a key twice: readers differ on which value counts (RFC 8259, section 4), so no input takes them."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec


class _Object(dict[str, Any]):
    """An object, with the keys that it has twice."""

    twice: list[str]


def repeated_keys(raw: bytes) -> list[str]:
    """Return the keys that one object of a well-formed JSON text has twice, by their paths (`tags[2].name`).

    Raises RecursionError, and what msgspec raises for a text that is not well formed.
    """
    if raw.count(b":") == _count_keys(msgspec.json.decode(raw)):  # each key has its colon
        return []
    return list(_paths(json.loads(raw, object_pairs_hook=_object), ""))


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    made.twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    return made


def _paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Object):
        yield from (f"{path}.{name}".lstrip(".") for name in value.twice)
        for name, each in value.items():
            yield from _paths(each, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _paths(each, f"{path}[{index}]")


def _count_keys(value: Any) -> int:
    count, left = 0, [value]
    for each in left:  # it grows
        kind = type(each)
        if kind is dict:
            count += len(each)
            left += each.values()
        elif kind is list:
            left += each
    return count
