"""The TOML file of the settings: CALLBOARD_CONFIG names it, or it is callboard.toml in the working directory.

smtp_host = "mail.example.org"     # a setting, by its name in lower case

[pools.mail]                       # see callboard.ops.config.tables
size = 5

[polls]                            # a department of a package: see callboard.ops.config.departments
"""

import logging
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callboard.ops.config.sources import ConfigError, text_of

USUAL = "callboard.toml"
TABLES = ("pools", "limits", "mail_producers")  # every other one is a department's
RENAMED_POOLS = {"petitions": "email_requests"}  # old names, for one release
MAX_FILE = 1 << 20  # characters

log = logging.getLogger(__name__)


def file_of(environ: Mapping[str, str]) -> str:
    """Return the path of the file; "" without one. Raises ConfigError."""
    try:
        given, _ = text_of(environ, "CALLBOARD_CONFIG")
    except (ValueError, OSError) as error:
        raise ConfigError([f"CALLBOARD_CONFIG {error}"]) from error
    return given or (USUAL if Path(USUAL).is_file() else "")


def read(path: str) -> dict[str, Any]:
    """Return the file's settings and tables; none without a path. Raises ConfigError when it cannot be read."""
    if not path:
        return {}
    try:
        tables = tomllib.loads(_text(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{path} cannot be read: {why}"]) from error
    except (ValueError, RecursionError) as error:  # a number of 4,301 digits is a ValueError, as all that is no TOML
        raise ConfigError([f"{path}: TOML: {error}"]) from error
    return _renamed(tables)


def version_of(path: str) -> tuple[int, ...] | None:
    """Return what changes whenever the file does; None while there is none. Links are followed: Kubernetes has them."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - a path of the settings
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def settings_in(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among the values of a file, and the tables of departments."""
    return {name: value for name, value in tables.items() if name not in TABLES}


def _text(path: str) -> str:
    """Return the text of a file. A running process reads it: what is no file could keep it waiting for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError([f"{path} cannot be read: it is not a file"])
    # newline="": TOML knows LF and CRLF as ends of lines, and refuses a bare CR
    with open(descriptor, encoding="utf-8-sig", newline="") as file:  # noqa: PTH123 - Path cannot open without waiting
        text = file.read(MAX_FILE + 1)
    if len(text) > MAX_FILE:
        raise ConfigError([f"{path} must have {MAX_FILE} characters at most"])
    return text


def _renamed(tables: dict[str, Any]) -> dict[str, Any]:
    """Return the tables with the names that pools have now; old ones work for one release."""
    pools = tables.get("pools")
    if isinstance(pools, dict):
        for old, new in RENAMED_POOLS.items():
            if old in pools and new not in pools:
                log.warning("[pools.%s] is deprecated: the pool is called %s", old, new)
                pools[new] = pools.pop(old)
    return tables
