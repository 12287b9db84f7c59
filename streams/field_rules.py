"""Field rules: the rules of a field's type beyond msgspec's checks, the same for every input.

A rule is a function from the text as sent to the text as stored; it raises ValueError with a sentence for the sender.
`Annotated[str, field_rule(read, ...)]` declares it. Every decoder of such a type applies `rules_of(kind)` to the
decoded value: HTTP bodies and queries, events, and the lines of an import.
"""

import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Rule = Callable[[str], str]
RULE = "rule"  # the key in Meta.extra
NOT_A_TIME = "Invalid RFC3339 encoded datetime"  # as msgspec has it
NOT_AN_INTEGER = "Expected `int`, got `float`"


class Fault(msgspec.Struct, frozen=True):
    """A value that breaks a rule: its path (`title`, `tags[2].name`), and a sentence for the sender."""

    path: str
    message: str


Applied = Callable[[Any, str, list[Fault]], Any]


def field_rule(rule: Rule, schema: Mapping[str, Any], *, examples: Sequence[str] = ()) -> Meta:
    """Return the annotation of a text with a rule; `schema` describes the accepted texts in JSON Schema."""
    return Meta(extra={RULE: rule}, extra_json_schema=dict(schema), examples=list(examples) or None)


def apply_rules(kind: Any, value: Any) -> tuple[Any, list[Fault]]:
    """Return the value with its texts in their stored form, and each text that breaks its rule.

    `value` is a decoded `kind`. Structs are changed in place, frozen ones too: no other code has seen them yet.
    """
    faults: list[Fault] = []
    applied = rules_of(kind)
    return (value if applied is None else applied(value, "", faults)), faults


@cache
def rules_of(kind: Any) -> Applied | None:
    """Return the function that applies the rules inside a type; None for a type without rules."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _annotated(kind)
    if origin in (typing.Union, UnionType):
        return _union(typing.get_args(kind))
    if origin in (list, tuple) and typing.get_args(kind):
        return _sequence(origin, typing.get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(kind)
    return None


def _annotated(kind: Any) -> Applied | None:
    inner, *marks = typing.get_args(kind)
    for mark in marks:
        if isinstance(mark, Meta) and mark.extra and RULE in mark.extra:
            return _text(mark.extra[RULE])
    return rules_of(inner)


def _text(rule: Rule) -> Applied:
    def applied(value: Any, path: str, faults: list[Fault]) -> Any:
        if not isinstance(value, str):  # None or UNSET, if the field is optional
            return value
        try:
            return rule(value)
        except ValueError as error:
            faults.append(Fault(path, str(error)))
            return value

    return applied


def _union(parts: Sequence[Any]) -> Applied | None:
    """Return the first part with rules: msgspec allows one text and one object in a union."""
    found = [applied for applied in map(rules_of, parts) if applied is not None]
    if len(found) > 1:
        raise TypeError(f"more than one of {parts} has field rules")
    return found[0] if found else None


def _sequence(kind: type, element: Any) -> Applied | None:
    inner = rules_of(element)
    if inner is None:
        return None

    def applied(value: Any, path: str, faults: list[Fault]) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return kind(inner(each, f"{path}[{index}]", faults) for index, each in enumerate(value))

    return applied


def _struct(kind: type[msgspec.Struct]) -> Applied | None:
    every = ((each, rules_of(each.type)) for each in msgspec.structs.fields(kind))
    ruled = [(each.name, each.encode_name, applied) for each, applied in every if applied is not None]
    if not ruled:
        return None

    def applied(value: Any, path: str, faults: list[Fault]) -> Any:
        if not isinstance(value, kind):
            return value
        for name, shown, inner in ruled:
            before = getattr(value, name)
            after = inner(before, f"{path}.{shown}".lstrip("."), faults)
            if after is not before:
                msgspec.structs.force_setattr(value, name, after)
        return value

    return applied


def fields_of(kind: type) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return the fields of a Struct; none of another type."""
    return msgspec.structs.fields(kind) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else ()


@cache
def times_of(kind: Any) -> tuple[tuple[str, str], ...]:
    """Return the time fields of a Struct: their names here and on the wire."""
    return _fields_of_type(kind, datetime)


def integers_of(kind: Any) -> tuple[tuple[str, str], ...]:
    """Return the integer fields of a Struct: their names here and on the wire."""
    return _fields_of_type(kind, int)


def _fields_of_type(kind: Any, wanted: type) -> tuple[tuple[str, str], ...]:
    return tuple((each.name, each.encode_name) for each in fields_of(kind) if plain(each.type, ...) is wanted)


def plain(kind: Any, value: Any) -> Any:
    """Return `kind` without its Annotated, and of a union with None the other part, if one type remains."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    parts = [part for part in typing.get_args(kind) if part is not type(None)]
    if len(parts) == 1 and type(None) in typing.get_args(kind) and value is not None:
        return plain(parts[0], value)
    return kind


def is_number(text: str) -> bool:
    """Whether a text is a number: msgspec would convert it to a time, as seconds since 1970."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_float(text: str) -> bool:
    """Whether a text is a number with a fraction or an exponent: msgspec would convert 1e2 to an integer."""
    return is_number(text) and not text.removeprefix("-").isdecimal()
