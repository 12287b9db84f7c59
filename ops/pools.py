"""The pools' settings: the TOML file that CALLBOARD_CONFIG names, at the start, on SIGHUP, and checked beforehand."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callboard.ops.config import ConfigError
from callboard.runtime import Entities, Pool, SettingsError, apply_pools, plan_pools

log = logging.getLogger(__name__)

Pools = Mapping[str, Pool[Any] | Entities[Any]]


def read(path: str) -> str:
    """The file's text. Raises ConfigError when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{path} cannot be read: {why}"]) from error


def check(pools: Pools, path: str) -> None:
    """Hold a file against the pools. Raises ConfigError that names every fault."""
    try:
        plan_pools(pools, read(path))
    except SettingsError as error:
        raise ConfigError([f"{path}: {fault}" for fault in error.faults]) from error


async def configure(pools: Pools, path: str) -> None:
    """Apply a file. Raises ConfigError that names every fault, and then nothing has changed."""
    check(pools, path)
    for change in await apply_pools(pools, read(path)):
        log.info("pools.%s.%s was %s, is %s", change.pool, change.field, change.before, change.after)


async def reload(pools: Pools, path: str) -> None:
    """Apply a file to the running tree, or log each of its faults and change nothing."""
    try:
        await configure(pools, path)
    except ConfigError as error:
        for fault in error.faults:
            log.error("%s; nothing has changed", fault)  # noqa: TRY400 - the operator's slip, with no trace to read
    except Exception:  # a start hook may raise anything
        log.exception("a worker did not start; nothing has changed")
    else:
        log.info("%s is in force", path)
