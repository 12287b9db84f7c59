"""One setting alone, for commands that need no others: from the environment, the file, or Vault."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct

from callboard.ops.config import file as config_file
from callboard.ops.config.settings import Config
from callboard.ops.config.sources import ConfigError, Reader, declarations
from callboard.ops.config.urls import lacks_password, with_password
from callboard.ops.config.vault import secrets_of

DATABASES = ("database_url", "database_direct_url")


def read_setting(kind: type[Struct], name: str, environ: Mapping[str, str]) -> Any:
    """Return one setting of a Struct by the name of its field; None without one. Raises ConfigError."""
    file = config_file.file_of(environ)
    reader = Reader(environ, file, settings=config_file.settings_in(config_file.read(file)))
    (declared,) = (each for each in declarations(kind) if each.field.name == name)
    value = reader.value(declared)
    if value is UNSET and declared.secret and not reader.faults:
        reader.secrets = secrets_of(reader, [("", declared)])
        value = reader.value(declared)
    if reader.faults:
        raise ConfigError(reader.faults)
    if kind is Config and name in DATABASES and value is not UNSET:
        return (
            with_password(value, read_setting(Config, "database_password", environ) or "")
            if lacks_password(value)
            else value
        )
    return None if value is UNSET else value
