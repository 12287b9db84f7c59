"""The conversion of one setting, from text or from a value of TOML, to the type that its field declares."""

import math
import re
from collections.abc import Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from callboard.actors.settings import Parsed

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_COLLECTIONS = (tuple, frozenset, set, list)
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def convert(kind: Any, given: object, *, text: bool) -> Any:
    """Return a value of this type. A `text` is read first as the type wants it: a number, true or false, words with
    commas between. Raises ValueError that begins with "must" and quotes nothing of it.
    """
    base, metadata = form_of(kind)
    parse = next((each.parse for each in metadata if isinstance(each, Parsed)), None)
    if parse is not None:
        if not text and isinstance(given, list) and all(isinstance(each, str) for each in given):
            given = ",".join(given)  # of TOML
        elif not text and isinstance(given, int) and not isinstance(given, bool):
            given = str(given)
        if not isinstance(given, str):
            raise ValueError("must be text")
        return parse(given)
    if get_origin(base) in _COLLECTIONS:
        given = _items(base, given, text=text)
    elif isinstance(given, str):
        given = _in_any_case(base, given) if choices_of(base) else _read(base, given) if text else given
    try:
        value = msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        said = "must be text" if base is str and not isinstance(given, str) else _must(base, metadata, error)
        raise ValueError(said) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def form_of(kind: Any) -> tuple[Any, list[Any]]:
    """Return a type without its annotations and without None, and its annotations, the outermost last."""
    metadata: list[Any] = []
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            metadata = [*more, *metadata]
        elif get_origin(kind) in (Union, UnionType) and len(left := _without_none(kind)) == 1:
            (kind,) = left
        else:
            return kind, metadata


def choices_of(base: Any) -> Sequence[Any]:
    """Return the values of a Literal or an Enum, and none of any other type."""
    if isinstance(base, type) and issubclass(base, Enum):
        return [each.value for each in base]
    return get_args(base) if get_origin(base) is Literal else ()


def _without_none(kind: Any) -> list[Any]:
    return [each for each in get_args(kind) if each is not NoneType]


def _items(base: Any, given: object, *, text: bool) -> list[Any]:
    kind = get_args(base)[0]
    if text and isinstance(given, str):
        given = [word for line in given.splitlines() for each in line.split(",") if (word := each.strip())]
    if not isinstance(given, list):
        raise ValueError("must be a list")  # noqa: TRY004 - the same
    try:
        return [convert(kind, each, text=text) for each in given]
    except ValueError:
        if words := choices_of(form_of(kind)[0]):
            raise ValueError(f"must be some of {', '.join(map(str, words))}") from None
        raise


def _in_any_case(base: Any, text: str) -> Any:
    """Return the choice that a text means, or the text: then it is none."""
    return next((choice for choice in choices_of(base) if str(choice).lower() == text.lower()), text)


def _read(base: Any, text: str) -> Any:
    """Return the text as the type wants it, or as it is: then it is no such value."""
    if base is int and _WHOLE.fullmatch(text):
        return int(text)
    if base is float and _NUMBER.fullmatch(text):
        return float(text)
    return {"true": True, "false": False}.get(text.lower(), text) if base is bool else text


def _must(base: Any, metadata: Sequence[Any], error: Exception) -> str:
    metas = [each for each in metadata if isinstance(each, Meta)]
    if titles := [each.title for each in metas if each.title]:
        return f"must be {titles[-1]}"
    if choices := [str(choice) for choice in choices_of(base)]:
        return f"must be {' or '.join(filter(None, (', '.join(choices[:-1]), choices[-1])))}"
    if base is bool:
        return "must be true or false"
    if get_origin(base) in _COLLECTIONS and (words := choices_of(form_of(get_args(base)[0])[0])):
        return f"must be some of {', '.join(map(str, words))}"
    if base not in (int, float):
        return f"must be of the declared form: {error}"
    bounds = {name: bound for name in _BOUNDS for each in metas if (bound := getattr(each, name)) is not None}
    if {"ge", "le"} <= bounds.keys():
        said = f"{_shown(bounds['ge'])} to {_shown(bounds['le'])}"
    else:
        said = ", ".join(f"{_BOUNDS[name]} {_shown(bound)}" for name, bound in bounds.items())
    return ", ".join(filter(None, (f"must be a {'whole number' if base is int else 'number'}", said)))


def _shown(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:.10g}"
