"""The configuration of packages' departments: a table each in the file that CALLBOARD_CONFIG names, and variables.

    [polls]                     # CALLBOARD_POLLS__MAX_OPTIONS=5
    max_options = 5
    [polls.limits.vote]         # CALLBOARD_POLLS__LIMITS__VOTE__LIMIT=3
    limit = 3
    [polls.flags]               # CALLBOARD_POLLS__FLAGS__ANONYMOUS=true, until an admin sets the flag
    anonymous = true
    [polls.retention]           # CALLBOARD_POLLS__RETENTION__VOTES=30, days
    votes = 30

The bounds in the annotations of a settings Struct are all the checking there is. A variable goes before the file.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from callboard.actors.department import AnyDepartment
from callboard.actors.infrastructure.feature_flags import FeatureFlag
from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.actors.infrastructure.retention import Retain

PREFIX = "CALLBOARD_"
RESERVED = ("limits", "flags", "retention")
Limit = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Window = Annotated[float, Meta(gt=0, le=31 * 86400.0)]
Days = Annotated[int, Meta(ge=1, le=36_500)]


class Configured(Struct, frozen=True):
    """A department's settings, and its limits, flags and retention rules as configured."""

    settings: Any
    limits: Sequence[RateLimit] = ()
    flags: Sequence[FeatureFlag] = ()
    retention: Sequence[Retain] = ()


class Variable(str):
    """A value from the environment, with the name of its variable."""

    __slots__ = ("name",)
    name: str


def read_departments(
    departments: Sequence[AnyDepartment], tables: Mapping[str, Any], environ: Mapping[str, str], faults: list[str]
) -> dict[str, Configured]:
    """The configuration of these departments by their names. Adds to `faults` each with its path or its variable."""
    merged = _merge(tables, environ)
    names = [each.name for each in departments]
    for name, table in merged.items():
        if name not in names:
            there = ", ".join(names) or "none"
            faults += [
                f"{path}: no package has the department {name}; there are {there}" for path in _paths(name, table)
            ]
    return {each.name: _department(each, merged.get(each.name, {}), faults) for each in departments}


def _merge(tables: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The tables with the environment laid over them."""
    merged: dict[str, Any] = msgspec.to_builtins(tables)
    for name in sorted(environ):
        if name.startswith(PREFIX) and "__" in name:
            *above, last = name.removeprefix(PREFIX).lower().split("__")
            table = merged
            for each in above:
                if not isinstance(table.get(each), dict):
                    table[each] = {}
                table = table[each]
            table[last] = value = Variable(environ[name])
            value.name = name
    return merged


def _paths(path: str, table: Any) -> list[str]:
    if isinstance(table, Variable):
        return [table.name]
    below = table.items() if isinstance(table, dict) else ()
    variables = [found for key, value in below for found in _paths(f"{path}.{key}", value) if found.isupper()]
    return variables or [path]


def _short(declared: RateLimit | FeatureFlag | Retain) -> str:
    return declared.name.partition(".")[2]


def _department(department: AnyDepartment, table: Any, faults: list[str]) -> Configured:
    if not isinstance(table, dict):
        faults.append(f"{department.name}: must be a table, [{department.name}]")
        return Configured(None)
    path = department.name
    settings = _read(department.settings, {key: table[key] for key in table if key not in RESERVED}, path, faults)
    declared = _declared(department)
    inner = {name: _read(kind, table.get(name, {}), f"{path}.{name}", faults) for name, kind in declared.items()}
    if settings is None or None in inner.values():
        return Configured(None)
    limits, flags, retention = (inner[name] for name in RESERVED)
    return Configured(
        settings,
        [replace(each, **msgspec.structs.asdict(getattr(limits, _short(each)))) for each in department.limits],
        [replace(each, default=getattr(flags, _short(each))) for each in department.flags],
        [replace(each, days=getattr(retention, _short(each))) for each in department.retention],
    )


def _declared(department: AnyDepartment) -> dict[str, Any]:
    """Structs of the limits, flags and retention rules, whose defaults are as declared."""
    limits = [
        (_short(each), kind := msgspec.defstruct("RateLimit", _limit_fields(each), frozen=True), kind())
        for each in department.limits
    ]
    flags = [(_short(each), bool, each.default) for each in department.flags]
    retention = [(_short(each), Days, each.days) for each in department.retention]
    fields = zip(RESERVED, (limits, flags, retention), strict=True)
    return {name: msgspec.defstruct(name, each, frozen=True) for name, each in fields}  # type: ignore[arg-type]


def _limit_fields(limit: RateLimit) -> list[tuple[str, Any, Any]]:
    return [("limit", Limit, limit.limit), ("window_s", Window, limit.window_s)]


def _read(kind: Any, table: Any, path: str, faults: list[str]) -> Any:
    """A Struct from a table; None after a fault. msgspec stops at the first fault, so each field is read alone."""
    if not isinstance(table, dict):
        faults.append(f"{path}: must be a table, [{path}]")
        return None
    before = len(faults)
    fields = {each.name: each for each in msgspec.structs.fields(kind)}
    unknown = [_paths(f"{path}.{key}", table[key])[0] for key in table if key not in fields]
    faults += [f"{each}: is unknown; there are {', '.join(fields) or 'none'}" for each in unknown]
    values = {
        name: _value(field, table[name], f"{path}.{name}", faults) for name, field in fields.items() if name in table
    }
    faults += [f"{path}.{name}: is missing" for name, each in fields.items() if each.required and name not in table]
    if len(faults) > before:
        return None
    try:  # once more as a whole: a rule over several fields stands in __post_init__
        return msgspec.convert(msgspec.to_builtins(kind(**values)), kind)
    except (ValueError, TypeError) as error:
        faults.append(f"{path}: {error}")
        return None


def _value(field: Any, given: Any, path: str, faults: list[str]) -> Any:
    if isinstance(field.type, type) and issubclass(field.type, Struct):
        return _read(field.type, given, path, faults)
    variable = isinstance(given, Variable)
    try:
        return msgspec.convert(str(given) if variable else given, field.type, strict=not variable)
    except msgspec.ValidationError as error:
        faults.append(f"{given.name if variable else path}: {error}")
        return None
