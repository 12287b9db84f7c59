"""The reading of settings: each field of a Struct from a variable, from the file that NAME_FILE names, or from TOML.

A variable goes before the TOML file. An empty one is as good as none, and spaces and line ends around a text are no
part of it. Every fault is found and named, before anything is started.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
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
    vault: tuple[str, ...] = ()

    def in_vault(self, prefix: str) -> tuple[str, ...]:
        """Return the names of a secret below VAULT_PATH; those of a package are below the name of its department."""
        own = self.vault or (self.field.name,)
        department = prefix.removeprefix("CALLBOARD_").partition("__")[0].lower()
        return tuple(f"{department}/{name}" for name in own) if department and not self.vault else own

    @property
    def in_brackets(self) -> str:
        """Return the meaning, for the end of a fault."""
        return f" ({self.meaning})" if self.meaning else ""


@cache
def declarations(kind: type[Struct]) -> tuple[Declaration, ...]:
    """Return the settings that a Struct declares."""
    return tuple(map(_declaration, msgspec.structs.fields(kind)))


def _declaration(field: FieldInfo) -> Declaration:
    metas = [each for each in form_of(field.type)[1] if isinstance(each, Meta)]
    meaning = next((each.description for each in reversed(metas) if each.description), "")
    extra = {name: value for each in metas for name, value in (each.extra or {}).items()}
    return Declaration(
        field,
        meaning,
        extra.get("secret", False),
        extra.get("private", False),
        extra.get("formerly", ""),
        extra.get("vault", ()),
    )


class Secret(Struct, frozen=True):
    """The text of a setting from Vault, and the path that it came from. No repr shows the text."""

    text: str
    origin: str

    def __repr__(self) -> str:
        """Without the text."""
        return f"Secret({self.origin})"


class Reader:
    """Reads Structs, and collects the faults; those of tables begin with the name of the file.

    A value of the operator plane (`overrides`, by the names of variables) goes before the environment, that before the
    file (`settings`, by the names of fields, and the tables of packages), and that before `secrets` of Vault. `origins`
    says where each value came from.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        file: str = "",
        *,
        settings: Mapping[str, Any] = EMPTY,
        overrides: Mapping[str, Any] = EMPTY,
        secrets: Mapping[str, Secret] = MappingProxyType({}),
    ) -> None:
        self.environ = environ
        self.file = file
        self.settings = settings
        self.overrides = overrides
        self.secrets = secrets
        self.faults: list[str] = []
        self.origins: dict[str, str] = {}

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
        before, table = len(self.faults), (table or {}) if path else self.settings
        declared = declarations(kind)
        self._refuse_unknown(declared, prefix, path, table if path else EMPTY, beside)
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

    def is_given(self, declared: Declaration, prefix: str = "") -> bool:
        """Whether the operator plane, the environment or the file has a setting; Vault is then not asked for it."""
        name, variable = declared.field.name, f"{prefix}{declared.field.name.upper()}"
        table = self.settings
        if prefix:
            table = self.settings.get(prefix.removeprefix("CALLBOARD_").partition("__")[0].lower(), EMPTY)
        names = (variable, f"{variable}_FILE", declared.formerly)
        return variable in self.overrides or any(self.environ.get(each) for each in names) or name in table

    def value(
        self, declared: Declaration, prefix: str = "", path: str = "", table: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the value of a field; UNSET without one, and after a fault."""
        field, inner = declared.field, _struct_of(declared.field)
        table = self.settings if table is None else table
        variable, place = f"{prefix}{field.name.upper()}", f"{path}.{field.name}" if path else field.name
        if inner is not None:
            given = field.name in table or any(name.startswith(f"{variable}__") for name in self.environ)
            if not given and not field.required:
                return UNSET
            return self.read(inner, prefix=f"{variable}__", path=place, table=table.get(field.name))
        found = self._found(declared, variable, place, table)
        if found is None:
            return UNSET
        value, origin, in_file = found
        try:
            converted = convert(field.type, value, text=isinstance(value, str) and not in_file)
        except ValueError as error:
            said = f"{error}{declared.in_brackets}"
            self.refuse(place, said) if in_file else self.faults.append(f"{variable} {said}")
            return UNSET
        self.origins[variable] = origin
        return converted

    def _found(
        self, declared: Declaration, variable: str, place: str, table: Mapping[str, Any]
    ) -> tuple[Any, str, bool] | None:
        """Return a value, its origin, and whether the file has it; None without one, and after a fault."""
        if variable in self.overrides:
            return self.overrides[variable], "operator plane", False
        text, origin = self._text(variable, declared)
        if text:
            return text, origin, False
        if text is UNSET:
            return None
        if declared.field.name in table:
            return table[declared.field.name], f"{self.file}: {place}", True
        secret = self.secrets.get(variable)
        return None if secret is None else (secret.text, secret.origin, False)

    def _text(self, variable: str, declared: Declaration) -> tuple[Any, str]:
        """Return the text of a variable or of its file, and its origin; "" without one, UNSET after a fault."""
        try:
            return text_of(self.environ, variable, declared.formerly)
        except ValueError as error:
            self.faults.append(f"{variable} {error}{declared.in_brackets}")
        except OSError as error:
            self.faults.append(f"{variable}_FILE cannot be read: {error.strerror}")
        return UNSET, ""

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


def text_of(environ: Mapping[str, str], name: str, former: str = "") -> tuple[str, str]:
    """Return a setting as it is written, without the spaces around it, and its origin; "" twice without one.

    Raises OSError, and ValueError when the environment and a file have it.
    """
    given = environ.get(name) or (environ.get(former, "") if former else "")
    path = environ.get(f"{name}_FILE")
    if not path:
        return given.strip(), f"environment {name if environ.get(name) else former}" if given.strip() else ""
    if given:
        raise ValueError(f"must be given once, and {name}_FILE is set too")
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            text = file.read(MAX_FILE + 1)
    except UnicodeDecodeError as error:
        raise ValueError(f"must be text, and what {name}_FILE names is not UTF-8") from error
    if len(text) > MAX_FILE:
        raise ValueError(f"must have {MAX_FILE} characters at most, and what {name}_FILE names has more")
    return text.strip(), f"{name}_FILE" if text.strip() else ""


def _struct_of(field: FieldInfo) -> type[Struct] | None:
    base = form_of(field.type)[0]
    return base if isinstance(base, type) and issubclass(base, Struct) else None
