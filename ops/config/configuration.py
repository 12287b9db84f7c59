"""The configuration of a process: its own settings and those of its departments, loaded, shown and judged together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from callboard.actors.department import AnyDepartment
from callboard.ops.config.departments import Configured, prefix_of, read_ours, read_packages
from callboard.ops.config.reload import department_tables
from callboard.ops.config.settings import LOOPBACK, Config
from callboard.ops.config.sources import ConfigError, Declaration, Reader, declarations
from callboard.ops.departments import OURS, installed

HIDDEN = "***"
EVERYWHERE = {"0.0.0.0/0", "::/0"}

S = TypeVar("S")


@dataclass(frozen=True, repr=False)
class Configuration:
    """The settings of a process, and its departments as configured. Some are secret: no repr shows them."""

    process: Config
    departments: Sequence[AnyDepartment]
    configured: Mapping[str, Configured]

    def settings(self, kind: type[S]) -> S:
        """Return the settings of the department that declares this type."""
        (found,) = (each.settings for each in self.configured.values() if isinstance(each.settings, kind))
        return found

    def shown(self) -> dict[str, object]:
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
        parts += [
            ("" if each in OURS else prefix_of(each.name), self.configured[each.name].settings)
            for each in self.departments
        ]
        for prefix, settings in parts:
            for declared in declarations(type(settings)):
                name = declared.field.name
                yield f"{prefix}{name.upper()}", declared, getattr(settings, name)


def load(environ: Mapping[str, str], departments: Sequence[AnyDepartment] | None = None) -> Configuration:
    """Read the settings of a process and its departments, all installed ones unless others are given.

    Raises ConfigError that names every fault.
    """
    departments = installed() if departments is None else departments
    reader = Reader(environ)
    process = reader.read(Config)
    reader.file = file = process.callboard_config if process else ""
    configured = {each.name: read_ours(each, reader) for each in departments if each in OURS}
    packages = [each for each in departments if each not in OURS]
    tables = department_tables(file) if file else {}
    known = {each.name: tables[each.name] for each in packages if each.name in tables}
    configured |= read_packages(packages, known, reader)  # `reload.check` names the tables of nobody
    if reader.faults:
        raise ConfigError(reader.faults)
    return Configuration(process, departments, MappingProxyType(configured))


def _shown(declared: Declaration, value: Any) -> object:
    if declared.secret:
        return HIDDEN if value else ""
    if declared.private:
        parts = urlsplit(value)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{HIDDEN}@{host}" if "@" in parts.netloc else host, query=""))
    return sorted(value) if isinstance(value, frozenset) else value
