"""Decodes bodies and query strings into Structs, and after a failure finds every invalid field.

msgspec stops at the first fault. The fields are tried one by one only after a failure, so a valid request pays nothing.
Text that PostgreSQL cannot store is refused here: NUL by the search below, lone surrogates by msgspec itself.
"""

import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from callboard.actors.errors import REQUEST_INVALID, REQUEST_MALFORMED, FieldError, Problem
from callboard.http.server.validation_messages import sentence_of
from callboard.streams.field_rules import (
    NOT_A_TIME,
    NOT_AN_INTEGER,
    apply_rules,
    fields_of,
    integers_of,
    is_float,
    is_number,
    plain,
    rules_of,
    times_of,
)
from callboard.streams.json_keys import repeated_keys

MAX_DETAILS = 50
NO_NUL = "Must not contain the character NUL."
ONCE = "Must be given once."
# A client's times stay a year away from the ends of the type's range, so adding a span to one never fails.
FIRST_TIME, LAST_TIME = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
NO_SUCH_TIME = "Must be in the years 2 to 9998 in UTC."
PLACE = re.compile(r"^(?P<said>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?$", re.DOTALL)

T = TypeVar("T")
Validate = Callable[[Mapping[str, Any]], Sequence[FieldError]]  # the faults in the well-formed fields of a body


class BodyReader:
    """Decodes JSON into one type; made once for each route. `validate` is the route's."""

    def __init__(self, kind: type, validate: Validate | None = None) -> None:
        self.kind = kind
        self._validate = validate
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
        self._decode = decoder.decode
        self._required = sum(field.required for field in fields_of(kind))
        self._defaults = defaults_of(kind)
        self._checked = rules_of(kind) is not None or bool(times_of(kind))

    def read(self, raw: bytes) -> Any:
        """Return the body. Raises Problem(REQUEST_MALFORMED) if it is no JSON, else REQUEST_INVALID with all faults."""
        try:
            value = self._decode(raw)
            faults: list[FieldError] = []
            # Each required key is present, and each with another value than its default; each has one colon. Without
            # further colons, no key is there twice.
            further = raw.count(b":") - self._required
            if further and further > sum([getattr(value, name) != default for name, default in self._defaults]):
                faults += repeats(raw)
            if b"\\u0000" in raw:
                faults += nul_errors(msgspec.json.decode(raw), "")
            if self._checked:
                value, broken = broken_rules(self.kind, value, "")
                faults += broken
            if faults:
                raise self._with_rules(msgspec.json.decode(raw), faults)
        except msgspec.ValidationError as error:
            raise self._invalid(raw, error) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(error) from None
        return value

    def _invalid(self, raw: bytes, error: msgspec.ValidationError) -> Problem:
        try:
            value = msgspec.json.decode(raw)
            found = [*repeats(raw), *nul_errors(value, ""), *validation_errors(value, self.kind, "", strict=True)]
            faults = found or [detail_of(error, "")]
        except msgspec.ValidationError:  # a number that exceeds a float
            return invalid([detail_of(error, "")])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            # The type error came before the syntax error: the syntax error goes first.
            return malformed(fault)
        return self._with_rules(value, faults)

    def _with_rules(self, value: Any, faults: Sequence[FieldError]) -> Problem:
        """Return these faults, and those that the rules find in the other fields."""
        if self._validate is None or not isinstance(value, dict):
            return invalid(faults)
        bad = {field_of(fault) for fault in faults}
        return invalid([*faults, *self._validate({name: each for name, each in value.items() if name not in bad})])


class QueryReader:
    """Decodes a query string into one Struct, from text to numbers, times and so on; None takes no parameters."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        fields = () if kind is type(None) else msgspec.structs.fields(kind)
        self._lists = {field.encode_name for field in fields if is_list(field.type)}
        self._times = {shown for _, shown in times_of(kind)}
        self._integers = {shown for _, shown in integers_of(kind)}
        self._default: Any = None
        if kind is not type(None) and not any(field.required for field in fields):
            self._default = kind()

    def read(self, pairs: Sequence[tuple[str, str]]) -> Any:
        """Return the query, from its decoded pairs. Raises Problem(REQUEST_INVALID) with every fault."""
        if not pairs and (self._default is not None or self.kind is type(None)):
            return self._default
        value: dict[str, Any] = {}
        bad: dict[str, str] = {}
        for name, text in pairs:
            if "\0" in text or "\0" in name:
                bad[name] = NO_NUL
            elif name in self._lists:
                value.setdefault(name, []).append(text)
            elif name in value:
                bad[name] = ONCE
            elif name in self._times and is_number(text):
                bad[name] = NOT_A_TIME
            elif name in self._integers and is_float(text):
                bad[name] = NOT_AN_INTEGER
            else:
                value[name] = text
        faults = [FieldError(name.replace("\0", "?"), said) for name, said in bad.items()]
        if self.kind is type(None):
            raise invalid([FieldError(name, "This parameter does not exist.") for name in value] + faults)
        query, others = self._converted(value)
        if faults := faults + [each for each in others if field_of(each) not in bad]:
            raise invalid(faults)
        return query

    def _converted(self, value: Mapping[str, Any]) -> tuple[Any, list[FieldError]]:
        try:
            return broken_rules(self.kind, msgspec.convert(value, self.kind, strict=False), "")
        except msgspec.ValidationError as error:
            return None, validation_errors(value, self.kind, "", strict=False) or [detail_of(error, "")]


def defaults_of(kind: type) -> list[tuple[str, Any]]:
    """Return the defaults of a Struct's fields by their names here; none if a field may get any value of itself."""
    if hasattr(kind, "__post_init__"):
        return []
    optional = [field for field in fields_of(kind) if not field.required]
    return [(each.name, each.default) for each in optional if each.default is not msgspec.NODEFAULT] + [
        (each.name, each.default_factory()) for each in optional if each.default_factory in (list, dict, set)
    ]


def malformed(error: Exception) -> Problem:
    """Return the problem that names the position of a syntax error."""
    if isinstance(error, RecursionError):
        said = "it is nested too deeply"
    elif isinstance(error, UnicodeDecodeError):  # its position is in its own text
        said = "it is not UTF-8"
    else:
        said = str(error).removeprefix("JSON is malformed: ")
    return Problem(REQUEST_MALFORMED, f"The body is not JSON: {said}.")


def field_of(fault: FieldError) -> str:
    """Return the field at the top that a fault is in."""
    return re.split(r"[.\[]", fault.field, maxsplit=1)[0]


def unstorable_times(kind: Any, value: Any, path: str) -> list[FieldError]:
    """Return the faults of well-formed times that are too near to the ends of the range."""
    given = ((_joined(path, shown), getattr(value, name)) for name, shown in times_of(kind))
    return [
        FieldError(place, NO_SUCH_TIME)
        for place, time in ((path, value), *given)
        if isinstance(time, datetime) and not in_reach(time)
    ]


def check_period(since: datetime | None, until: datetime | None, names: tuple[str, str] = ("from", "to")) -> None:
    """Raise Problem(REQUEST_INVALID) unless the first of two times of a query, of these names, is before the second."""
    if since is not None and until is not None and since >= until:
        raise invalid([FieldError(names[0], f"must be before {names[1]}")])


def in_reach(time: datetime) -> bool:
    """Whether a span can be added to a time, which has a zone or is UTC."""
    return FIRST_TIME <= (time if time.tzinfo else time.replace(tzinfo=UTC)) <= LAST_TIME


def invalid(details: Sequence[FieldError]) -> Problem:
    """Return the problem that names these faults, the first of each field."""
    return Problem(REQUEST_INVALID, details=first_faults(details)[:MAX_DETAILS])


def first_faults(faults: Sequence[FieldError]) -> tuple[FieldError, ...]:
    """Return the first fault of each field, in order."""
    first = {each.field: each for each in reversed(faults)}
    return tuple(reversed(first.values()))


def is_list(kind: Any) -> bool:
    """Whether a field of this type takes a repeated parameter, also if None is its default."""
    if isinstance(info := inspect.type_info(kind), inspect.UnionType):
        return any(isinstance(each, inspect.ListType | inspect.VarTupleType | inspect.SetType) for each in info.types)
    return isinstance(info, inspect.ListType | inspect.VarTupleType | inspect.SetType)


def detail_of(error: msgspec.ValidationError, path: str) -> FieldError:
    """Split a message of msgspec: return its sentence, and its place appended to `path`."""
    match = PLACE.match(str(error))
    said, inner = (match["said"], match["path"] or "") if match else (str(error), "")
    return FieldError((path + inner).lstrip("."), sentence_of(said))


def validation_errors(value: Any, kind: Any, path: str, *, strict: bool) -> list[FieldError]:
    """Return every fault of `value` as a `kind`: below a Struct field by field, below a list element by element."""
    try:
        _, found = broken_rules(kind, msgspec.convert(value, kind, strict=strict, str_keys=True), path)
    except msgspec.ValidationError as error:
        found = list(inner_faults(value, kind, path, strict=strict)) or [
            detail_of(error, path) if (said := choices(value, kind, strict=strict)) is None else FieldError(path, said)
        ]
    return found[:MAX_DETAILS]


def broken_rules(kind: Any, value: Any, path: str) -> tuple[Any, list[FieldError]]:
    """Return a decoded value as its field rules convert it, and the faults that they find, and those of its times."""
    value, faults = apply_rules(kind, value)
    broken = [FieldError(_joined(path, each.path), each.message) for each in faults]
    return value, [*unstorable_times(kind, value, path), *broken]


def _joined(path: str, inner: str) -> str:
    """Return the path of an element or a field below `path`."""
    return path + inner if inner.startswith("[") else f"{path}.{inner}".strip(".")


def choices(value: Any, kind: Any, *, strict: bool) -> str | None:
    """List the valid values, where there are few and msgspec does not name them."""
    kind = plain(kind, value)
    if isinstance(value, str) and isinstance(kind, type) and issubclass(kind, Enum):
        return f"Must be one of {', '.join(str(each.value) for each in kind)}."
    if kind is bool and not strict:
        return "Must be true or false."
    return None


def inner_faults(value: Any, kind: Any, path: str, *, strict: bool) -> Iterator[FieldError]:
    """Return the faults inside of `value`; none if the value itself is the fault."""
    kind = plain(kind, value)
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for name, field in fields.items():
            place = f"{path}.{name}".lstrip(".")
            if name in value:
                yield from validation_errors(value[name], field.type, place, strict=strict)
            elif field.required:
                yield FieldError(place, "Is missing.")
        if kind.__struct_config__.forbid_unknown_fields:
            yield from (
                FieldError(f"{path}.{name}".lstrip("."), "This field does not exist.")
                for name in value
                if name not in fields
            )
    elif isinstance(value, list) and typing.get_origin(kind) in (list, tuple, set, frozenset):
        element = typing.get_args(kind)[0]
        for index, each in enumerate(value):
            yield from validation_errors(each, element, f"{path}[{index}]", strict=strict)


def repeats(raw: bytes) -> list[FieldError]:
    """Return each key of JSON that an object has twice."""
    return [FieldError(name, ONCE) for name in repeated_keys(raw)]


def nul_errors(value: Any, path: str) -> Iterator[FieldError]:
    """Return each text that contains NUL, by its path."""
    if isinstance(value, str):
        if "\0" in value:
            yield FieldError(path, NO_NUL)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if "\0" in name:
                yield FieldError(path, NO_NUL)
            else:
                yield from nul_errors(each, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from nul_errors(each, f"{path}[{index}]")
