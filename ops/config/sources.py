"""The reading of settings: each field of a Struct from a variable, from the file that NAME_FILE names, or from a table.

A variable goes before a table. An empty one is as good as none, and spaces and line ends around a text are no part of
it. Every fault is found and named, before anything is started.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import UNSET, Meta, Struct
from msgspec.structs import FieldInfo

from callboard.ops.config.conversion import convert, form_of

EMPTY: Mapping[str, Any] = MappingProxyType({})
MAX_FILE = 65_536  # characters of a setting in a file of its own


class ConfigError(Exception):
    """The settings that are missing or bad; `faults` has one line for each, which begins with its name."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class Declaration(Struct, frozen=True):
    """A setting, as the annotations of its field describe it: see callboard.actors.settings."""

    field: FieldInfo
    meaning: str = ""
    secret: bool = False
    private: bool = False
    formerly: str = ""

    @property
    def in_brackets(self) -> str:
        """Return the meaning, for the end of a fault."""
        return f" ({self.meaning})" if self.meaning else ""


def declarations(kind: type[Struct]) -> Iterator[Declaration]:
    """Return the settings that a Struct declares."""
    for field in msgspec.structs.fields(kind):
        metas = [each for each in form_of(field.type)[1] if isinstance(each, Meta)]
        meaning = next((each.description for each in reversed(metas) if each.description), "")
        extra = {name: value for each in metas for name, value in (each.extra or {}).items()}
        yield Declaration(
            field, meaning, extra.get("secret", False), extra.get("private", False), extra.get("formerly", "")
        )


class Reader:
    """Reads Structs from one environment, and collects the faults; those of tables begin with the name of the file."""

    def __init__(self, environ: Mapping[str, str], file: str = "") -> None:
        self.environ = environ
        self.file = file
        self.faults: list[str] = []

    def refuse(self, path: str, said: str) -> None:
        """Add a fault of what stands at a path of the file."""
        self.faults.append(f"{self.file}{': ' if self.file else ''}{path}: {said}")

    def read(
        self,
        kind: type[Struct],
        *,
        prefix: str = "",
        path: str = "",
        table: object = None,
        beside: Collection[str] = (),
    ) -> Any:
        """Return a Struct whose variables begin with `prefix`, and whose table is at `path`; None after a fault.

        Names that are neither a field's nor `beside` them are faults.
        """
        if not isinstance(table, Mapping | None):
            self.refuse(path, f"must be a table, [{path}]")
            return None
        before, table = len(self.faults), table or {}
        declared = list(declarations(kind))
        self._refuse_unknown(declared, prefix, path, table, beside)
        values = {each.field.name: self._needed(each, prefix, path, table) for each in declared}
        if len(self.faults) > before:
            return None
        try:
            return kind(**{name: value for name, value in values.items() if value is not UNSET})
        except (ValueError, TypeError) as error:  # what holds between several fields stands in __post_init__
            for line in str(error).splitlines():
                self.refuse(path, line) if path else self.faults.append(line)
            return None

    def _needed(self, declared: Declaration, prefix: str, path: str, table: Mapping[str, Any]) -> Any:
        before = len(self.faults)
        value = self.value(declared, prefix, path, table)
        if value is UNSET and declared.field.required and len(self.faults) == before:
            name = declared.field.name
            place = f"{path}.{name}:" if path else f"{prefix}{name.upper()}"
            self.faults.append(f"{place} is missing{declared.in_brackets}")
        return value

    def value(self, declared: Declaration, prefix: str = "", path: str = "", table: Mapping[str, Any] = EMPTY) -> Any:
        """Return the value of a field; UNSET without one, and after a fault."""
        field, inner = declared.field, _struct_of(declared.field)
        variable, place = f"{prefix}{field.name.upper()}", f"{path}.{field.name}"
        if inner is not None:
            given = field.name in table or any(name.startswith(f"{variable}__") for name in self.environ)
            if not given and not field.required:
                return UNSET
            return self.read(inner, prefix=f"{variable}__", path=place, table=table.get(field.name))
        text = self._text(variable, declared)
        if text is UNSET or (not text and field.name not in table):
            return UNSET
        try:
            return convert(field.type, text or table[field.name], text=bool(text))
        except ValueError as error:
            if text:
                self.faults.append(f"{variable} {error}{declared.in_brackets}")
            else:
                self.refuse(place, f"{error}{declared.in_brackets}")
        return UNSET

    def _text(self, variable: str, declared: Declaration) -> Any:
        """Return the text of a variable or of its file; "" without one, UNSET after a fault."""
        try:
            return text_of(self.environ, variable, declared.formerly)
        except ValueError as error:
            self.faults.append(f"{variable} {error}{declared.in_brackets}")
        except OSError as error:
            self.faults.append(f"{variable}_FILE cannot be read: {error.strerror}")
        return UNSET

    def _refuse_unknown(
        self, declared: Sequence[Declaration], prefix: str, path: str, table: Mapping[str, Any], beside: Collection[str]
    ) -> None:
        """Refuse names that no field has. Variables without a prefix are not looked at: others have theirs."""
        structs = {each.field.name: _struct_of(each.field) is not None for each in declared}
        said = f"is unknown; there are {', '.join(structs) or 'none'}"
        for key in table:
            if key not in {*structs, *beside}:
                self.refuse(f"{path}.{key}", said)
        for variable in sorted(self.environ) if prefix else ():
            head, below, _ = variable.removeprefix(prefix).lower().partition("__")
            known = [structs[each] is bool(below) for each in (head, head.removesuffix("_file")) if each in structs]
            if variable.startswith(prefix) and head not in beside and not any(known):
                self.faults.append(f"{variable}: {said}")


def read_setting(kind: type[Struct], name: str, environ: Mapping[str, str]) -> Any:
    """Return one setting of a Struct by the name of its field; None without one. Raises ConfigError."""
    reader = Reader(environ)
    (declared,) = (each for each in declarations(kind) if each.field.name == name)
    value = reader.value(declared)
    if reader.faults:
        raise ConfigError(reader.faults)
    return None if value is UNSET else value


def text_of(environ: Mapping[str, str], name: str, former: str = "") -> str:
    """Return a setting as it is written, without the spaces around it; "" without one.

    Raises OSError, and ValueError when the environment and a file have it.
    """
    given = environ.get(name) or (environ.get(former, "") if former else "")
    path = environ.get(f"{name}_FILE")
    if not path:
        return given.strip()
    if given:
        raise ValueError(f"must be given once, and {name}_FILE is set too")
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            text = file.read(MAX_FILE + 1)
    except UnicodeDecodeError as error:
        raise ValueError(f"must be text, and what {name}_FILE names is not UTF-8") from error
    if len(text) > MAX_FILE:
        raise ValueError(f"must have {MAX_FILE} characters at most, and what {name}_FILE names has more")
    return text.strip()


def _struct_of(field: FieldInfo) -> type[Struct] | None:
    base = form_of(field.type)[0]
    return base if isinstance(base, type) and issubclass(base, Struct) else None
