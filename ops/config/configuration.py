"""The configuration of a process: its own settings and those of its departments, loaded, shown and judged together."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from callboard.actors.department import AnyDepartment
from callboard.ops.config import file as config_file
from callboard.ops.config.departments import Configured, prefix_of, read_ours, read_packages
from callboard.ops.config.settings import LOOPBACK, Config
from callboard.ops.config.sources import ConfigError, Declaration, Reader, Secret, declarations
from callboard.ops.config.vault import Vault, secrets_of, settings_of, wanted
from callboard.ops.departments import OURS, installed

REDACTED = "***"
EVERYWHERE = {"0.0.0.0/0", "::/0"}

S = TypeVar("S")


class Setting(Struct, frozen=True):
    """A setting as operators see it: its name in the environment, its value, and where that came from."""

    name: str
    value: Any
    origin: str


@dataclass(frozen=True, repr=False)
class Configuration:
    """The settings of a process, and its departments as configured. Some are secret: no repr shows them."""

    process: Config
    departments: Sequence[AnyDepartment]
    configured: Mapping[str, Configured]
    environ: Mapping[str, str] = field(compare=False)
    origins: Mapping[str, str]  # by names in the environment; others are defaults
    secrets: Mapping[str, Secret]  # those of Vault
    file: str

    @property
    def is_reloadable(self) -> bool:
        """Whether a hang-up has something to read again."""
        return bool(self.file or self.process.vault_url)

    def prefixes(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each department, and the prefix of its variables."""
        yield from ((each.name, "" if each in OURS else prefix_of(each.name)) for each in self.departments)

    def described(self) -> list[Setting]:
        """Return every setting with its value, without secrets, and its origin."""
        return [Setting(name, value, self.origins.get(name, "default")) for name, value in self.redacted().items()]

    def settings(self, kind: type[S]) -> S:
        """Return the settings of the department that declares this type."""
        (found,) = (each.settings for each in self.configured.values() if isinstance(each.settings, kind))
        return found

    def redacted(self) -> dict[str, object]:
        """Return every setting by its name in the environment, without secrets."""
        return {name: _shown(declared, value) for name, declared, value in self._all()}

    @property
    def cautions(self) -> list[str]:
        """Return a sentence for each setting that works and is probably a mistake."""
        values: dict[str, Any] = {name: value for name, _, value in self._all()}
        said = []
        name = "MAIL_LINK_URL" if values["MAIL_LINK_URL"] else "PUBLIC_URL"
        if urlsplit(values[name]).hostname in LOOPBACK:
            said.append(f"{name} is an address of this machine: links in mails work nowhere else")
        if EVERYWHERE & set(values["TRUSTED_PROXIES"]):
            said.append("TRUSTED_PROXIES has every address: each client can say that it comes from anywhere")
        if values["SMTP_USERNAME"] and values["SMTP_TLS"] == "none":
            said.append("SMTP_TLS is none: SMTP_PASSWORD is sent in clear")
        return said

    def _all(self) -> Iterator[tuple[str, Declaration, Any]]:
        parts = [("", self.process)]
        parts += [(prefix, self.configured[name].settings) for name, prefix in self.prefixes()]
        for prefix, settings in parts:
            for declared in declarations(type(settings)):
                name = declared.field.name
                yield f"{prefix}{name.upper()}", declared, getattr(settings, name)


def load(
    environ: Mapping[str, str],
    departments: Sequence[AnyDepartment] | None = None,
    *,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    secrets: Mapping[str, Secret] | None = None,
    file: str | None = None,
) -> Configuration:
    """Read the settings of a process and its departments, all installed ones unless others are given.

    `overrides` are the operator plane's; without `secrets` those of Vault are read. `file` "" reads none.

    Raises ConfigError that names every fault.
    """
    departments = installed() if departments is None else departments
    faults, tables = list[str](), dict[str, Any]()
    try:
        file = config_file.file_of(environ) if file is None else file
        tables = config_file.read(file)
    except ConfigError as error:
        faults += error.faults
    reader = Reader(
        environ, file or "", settings=config_file.settings_in(tables), overrides=overrides, secrets=secrets or {}
    )
    reader.faults += faults
    declared = list(_declared(departments))
    if secrets is None:
        reader.secrets = secrets_of(reader, declared)
    process = reader.read(Config)
    configured = {each.name: read_ours(each, reader) for each in departments if each in OURS}
    packages = [each for each in departments if each not in OURS]
    ours = {each.field.name for prefix, each in declared if not prefix} - {"callboard_config"}
    others = {name: table for name, table in reader.settings.items() if name not in ours}
    known = [each.name for each in packages]
    _refuse_unknown(reader, others, ours, known)
    inner = {name: table for name, table in others.items() if name in known or isinstance(table, Mapping)}
    configured |= read_packages(packages, inner, reader)
    names = {f"{prefix}{each.field.name.upper()}" for prefix, each in declared}
    reader.faults += [f"{name}: there is no such setting" for name in overrides if name not in names]
    if reader.faults:
        raise ConfigError(list(dict.fromkeys(reader.faults)))
    if file:
        process = msgspec.structs.replace(process, callboard_config=file)
    return Configuration(
        process, departments, MappingProxyType(configured), environ, reader.origins, reader.secrets, file or ""
    )


def vault_of(configuration: Configuration) -> Vault | None:
    """Return a client for the secrets that nothing else gives; None without VAULT_URL."""
    file = configuration.file
    reader = Reader(configuration.environ, file, settings=config_file.settings_in(config_file.read(file)))
    settings = settings_of(reader)
    return None if settings is None else Vault(settings, wanted(reader, _declared(configuration.departments)))


def _declared(departments: Sequence[AnyDepartment]) -> Iterator[tuple[str, Declaration]]:
    """Yield every setting, with the prefix of its variable."""
    yield from (("", each) for each in declarations(Config))
    for department in departments:
        prefix = "" if department in OURS else prefix_of(department.name)
        kind: type[Struct] = department.settings
        yield from ((prefix, each) for each in declarations(kind))


def _refuse_unknown(reader: Reader, others: Mapping[str, Any], ours: Collection[str], packages: Sequence[str]) -> None:
    """Refuse the values of the file that are no setting's; tables of no department are refused with the packages."""
    for name, value in others.items():
        if name not in packages and not isinstance(value, Mapping):
            near = get_close_matches(name, ours, n=1)
            reader.refuse(name, f"is no setting{f': did you mean {near[0]}?' if near else ''}")


def _shown(declared: Declaration, value: Any) -> object:
    if declared.secret:
        return REDACTED if value else ""
    if declared.private:
        parts = urlsplit(value)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{REDACTED}@{host}" if "@" in parts.netloc else host, query=""))
    return sorted(value) if isinstance(value, frozenset) else value
