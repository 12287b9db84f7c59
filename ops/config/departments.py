"""The configuration of departments. Each setting of ours is the variable of its name: `SMTP_HOST`. A package's has a
prefix, and may stand in the file that CALLBOARD_CONFIG names, with the limits, flags and retention rules:

    [polls]                     # CALLBOARD_POLLS__MAX_OPTIONS=5
    max_options = 5
    [polls.limits.vote]         # CALLBOARD_POLLS__LIMITS__VOTE__LIMIT=3
    limit = 3
    [polls.flags]               # CALLBOARD_POLLS__FLAGS__ANONYMOUS=true, until an admin sets the flag
    anonymous = true
    [polls.retention]           # CALLBOARD_POLLS__RETENTION__VOTES=30, days
    votes = 30
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from callboard.actors.department import AnyDepartment
from callboard.actors.infrastructure.feature_flags import FeatureFlag
from callboard.actors.infrastructure.rate_limiter import Policy, RateLimit
from callboard.actors.infrastructure.retention import Retain, RetentionRule
from callboard.actors.settings import Days
from callboard.ops.config.sources import Reader

PREFIX = "CALLBOARD_"
RESERVED = ("limits", "flags", "retention")


class Configured(Struct, frozen=True):
    """A department's settings, and its limits, flags and retention rules as configured."""

    settings: Any
    limits: Sequence[RateLimit] = ()
    flags: Sequence[FeatureFlag] = ()
    retention: Sequence[Retain | RetentionRule] = ()


def prefix_of(name: str) -> str:
    """Return the beginning of the variables of a package's department."""
    return f"{PREFIX}{name.upper()}__"


def variables_of_packages(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for departments of packages."""
    return {name: environ[name] for name in sorted(environ) if name.startswith(PREFIX) and "__" in name}


def read_ours(department: AnyDepartment, reader: Reader) -> Configured:
    """Return one of our departments as its variables configure it."""
    settings = reader.read(department.settings)
    if settings is None:
        return Configured(None)
    return Configured(
        settings,
        [replace(each, limit=_set(settings, each, each.limit)) for each in department.limits],
        department.flags,
        [
            replace(each, days=_set(settings, each, each.days)) if isinstance(each, Retain) else each
            for each in department.retention
        ],
    )


def read_packages(departments: Sequence[AnyDepartment], tables: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """Return the departments of packages as configured, by their names. Tables and variables of none are faults."""
    names = [each.name for each in departments]
    there = ", ".join(names) or "none"
    for name in tables:
        if name not in names:
            reader.refuse(name, f"no package has the department {name}; there are {there}")
    for variable in variables_of_packages(reader.environ):
        name = variable.removeprefix(PREFIX).partition("__")[0].lower()
        if name not in names:
            reader.faults.append(f"{variable}: no package has the department {name}; there are {there}")
    return {each.name: _read_package(each, tables.get(each.name, {}), reader) for each in departments}


def _set(settings: Any, declared: RateLimit | Retain, usual: int) -> int:
    """Return the number that a setting of the department gives, if the declaration names one."""
    number: int = getattr(settings, declared.setting) if declared.setting else usual
    return number


def _read_package(department: AnyDepartment, table: Any, reader: Reader) -> Configured:
    path, prefix = department.name, prefix_of(department.name)
    settings = reader.read(department.settings, prefix=prefix, path=path, table=table, beside=RESERVED)
    if not isinstance(table, Mapping):
        return Configured(None)
    inner = {
        name: reader.read(kind, prefix=f"{prefix}{name.upper()}__", path=f"{path}.{name}", table=table.get(name))
        for name, kind in _declared(department)
    }
    if settings is None or None in inner.values():
        return Configured(None)
    limits, flags, retention = (inner[name] for name in RESERVED)
    return Configured(
        settings,
        [replace(each, **msgspec.structs.asdict(getattr(limits, _short(each)))) for each in department.limits],
        [replace(each, default=getattr(flags, _short(each))) for each in department.flags],
        [
            replace(each, days=getattr(retention, _short(each))) if isinstance(each, Retain) else each
            for each in department.retention
        ],
    )


def _short(declared: RateLimit | FeatureFlag | Retain) -> str:
    return declared.name.partition(".")[2]


def _declared(department: AnyDepartment) -> Iterable[tuple[str, type[Struct]]]:
    """Structs of the limits, flags and retention rules, whose defaults are as declared."""
    limits = [
        (_short(each), kind := msgspec.defstruct("RateLimit", _limit_fields(each), frozen=True), kind())
        for each in department.limits
    ]
    flags = [(_short(each), bool, each.default) for each in department.flags]
    retention = [(_short(each), Days, each.days) for each in department.retention if isinstance(each, Retain)]
    for name, fields in zip(RESERVED, (limits, flags, retention), strict=True):
        yield name, msgspec.defstruct(name, fields, frozen=True)  # type: ignore[arg-type]


def _limit_fields(limit: RateLimit) -> list[tuple[str, Any, Any]]:
    kinds = {each.name: each.type for each in msgspec.structs.fields(Policy)}
    return [(name, kinds[name], getattr(limit, name)) for name in ("limit", "window_s")]
