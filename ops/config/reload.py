"""The TOML file that CALLBOARD_CONFIG names: settings of pools and limits, read at the start and on SIGHUP, or checked.

    [pools.mail]                # see callboard.runtime.settings
    size = 5

    [limits.login]              # one of the policies that the tree declares
    limit = 10                  # requests ...
    window_s = 60               # ... in so many seconds
    shadow = false              # true: only counted, nobody is refused

    [polls]                     # a department of a package: see callboard.ops.config.departments

    [mail_producers]            # instead of MAIL_PRODUCERS
    "/shop" = "500/hour example.org,*.example.net"

What it does not name stays as it is.
"""

import logging
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from callboard.actors.delivery.mail_producers import MailProducer, MailProducers, parse_mail_producer
from callboard.actors.department import AnyDepartment
from callboard.actors.errors import Problem
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.audit_actions import SETTINGS_CHANGED
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.rate_limiter import Policy
from callboard.ops.config.conversion import convert
from callboard.ops.config.departments import read_packages
from callboard.ops.config.sources import ConfigError, Reader
from callboard.runtime import Entities, Pool, SettingsError, apply_pools, plan_pools

log = logging.getLogger(__name__)

RENAMED_POOLS = {"petitions": "email_requests"}  # old names, for one release
TABLES = ("pools", "limits", "mail_producers")  # every other one is a department's
MAX_CHANGES, MAX_CHANGE = 20, 100  # of one reload in the audit log, and characters of each
MAX_FILE = 1 << 20  # characters


class Reloadable(Protocol):
    """The parts of a system that the file configures: pools and policies of limits, by name."""

    @property
    def pools(self) -> Mapping[str, Pool[Any] | Entities[Any]]:
        """All there are, also those that do not run in this role."""

    @property
    def policies(self) -> dict[str, Policy]:
        """As the limiter sees them."""

    @property
    def packages(self) -> Sequence[AnyDepartment]:
        """The departments of packages, whose tables are read at the start and checked here."""

    @property
    def mail_producers(self) -> MailProducers:
        """The programs that may have mails sent."""


def read(path: str) -> dict[str, Any]:
    """The file's tables. Raises ConfigError when it cannot be read."""
    try:
        tables = tomllib.loads(_text(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{path} cannot be read: {why}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: TOML: {error}"]) from error
    return _renamed(tables)


def _text(path: str) -> str:
    """The text of a file. A running process reads it: what is no file could keep it waiting for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError([f"{path} cannot be read: it is not a file"])
    with open(descriptor, encoding="utf-8") as file:  # noqa: PTH123 - Path has no way to open without waiting
        text = file.read(MAX_FILE + 1)
    if len(text) > MAX_FILE:
        raise ConfigError([f"{path} must have {MAX_FILE} characters at most"])
    return text


def department_tables(path: str) -> dict[str, Any]:
    """The tables of departments in a file. Raises ConfigError when it cannot be read."""
    return {name: table for name, table in read(path).items() if name not in TABLES}


def _renamed(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables with the names that pools have now; old ones work for one release."""
    pools = tables.get("pools")
    if isinstance(pools, dict):
        for old, new in RENAMED_POOLS.items():
            if old in pools and new not in pools:
                log.warning("[pools.%s] is deprecated: the pool is called %s", old, new)
                pools[new] = pools.pop(old)
    return tables


def check(tuned: Reloadable, path: str) -> None:
    """Hold a file against what it is about. Raises ConfigError that names every fault."""
    _checked(tuned, path)


def _checked(tuned: Reloadable, path: str) -> tuple[dict[str, Any], dict[str, Policy], tuple[MailProducer, ...] | None]:
    """The pools' tables, the policies that differ, and the mail producers if there are any in it."""
    source = read(path)
    pools = {"pools": source.pop("pools", {})}
    faults: list[str] = []
    try:
        plan_pools(tuned.pools, pools)
    except SettingsError as error:
        faults += error.faults
    policies = plan_limits(tuned.policies, source.pop("limits", {}), faults)
    producers = plan_mail_producers(source.pop("mail_producers", None), faults)
    reader = Reader(os.environ, path)
    read_packages(tuned.packages, source, reader)
    if faults := [*(f"{path}: {fault}" for fault in faults), *reader.faults]:
        raise ConfigError(faults)
    return pools, policies, producers


async def configure(tuned: Reloadable, path: str) -> list[str]:
    """Apply a file; what has changed. Raises ConfigError that names every fault, and then nothing has changed."""
    pools, policies, producers = _checked(tuned, path)
    changes = [
        f"pools.{change.pool}.{change.field} was {change.before}, is {change.after}"
        for change in await apply_pools(tuned.pools, pools)
    ]
    for name, policy in policies.items():
        before = tuned.policies[name]
        tuned.policies[name] = policy
        changes += [
            f"limits.{name}.{field} was {getattr(before, field)}, is {getattr(policy, field)}"
            for field in FIELDS
            if getattr(before, field) != getattr(policy, field)
        ]
    if producers is not None and producers != tuned.mail_producers.named:
        changes.append(f"mail_producers: {', '.join(producer.source for producer in producers) or 'none'}")
        tuned.mail_producers.replace(producers)
    for change in changes:
        log.info("%s", change)
    return changes


async def reload(tuned: Reloadable, path: str, database: Database | None = None) -> None:
    """Apply a file to the running tree, or log each of its faults and change nothing. Changes are security events."""
    try:
        changes = await configure(tuned, path)
    except ConfigError as error:
        for fault in error.faults:
            log.error("%s; nothing has changed", fault)  # noqa: TRY400 - the operator's slip, with no trace to read
    except Exception:  # a start hook may raise anything
        log.exception("a worker did not start; no setting has changed")
    else:
        log.info("%s is in force", path)
        if changes and database is not None:
            await _record(database, changes)


async def _record(database: Database, changes: list[str]) -> None:
    try:
        async with database.transaction() as connection:
            shown = [change[:MAX_CHANGE] for change in changes[:MAX_CHANGES]]
            await audit.record(connection, SETTINGS_CHANGED, by=audit.OPERATOR, changes=shown, count=len(changes))
    except Problem as problem:  # they are in force all the same, and stand in the log
        log.error("a change of the settings could not be written to the audit log: %s", problem)  # noqa: TRY400 - the reason is known


# Limits --------------------------------------------------------------------------------------------------------------


FIELDS = {each.name: each.type for each in msgspec.structs.fields(Policy)}


def plan_limits(policies: Mapping[str, Policy], tables: Any, faults: list[str]) -> dict[str, Policy]:
    """The policies that the tables below `limits` change, as they will be. Adds to `faults` each with its path."""
    if not isinstance(tables, Mapping):
        faults.append("limits: must be a table, [limits.NAME]")
        return {}
    planned = {}
    for name, table in tables.items():
        if name not in policies:
            faults.append(f"limits.{name}: is unknown; there are {', '.join(policies)}")
        elif not isinstance(table, Mapping):
            faults.append(f"limits.{name}: must be a table, [limits.{name}]")
        else:
            policy = msgspec.structs.replace(policies[name], **dict(_values(name, table, faults)))
            if policy != policies[name]:
                planned[name] = policy
    return planned


def _values(name: str, table: Mapping[str, Any], faults: list[str]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        try:
            if key not in FIELDS:
                raise ValueError(f"is unknown; there are {', '.join(FIELDS)}")  # noqa: TRY301 - one way for all faults
            yield key, convert(FIELDS[key], value, text=False)
        except ValueError as error:
            faults.append(f"limits.{name}.{key}: {error}")


# Mail producers ------------------------------------------------------------------------------------------------------


def plan_mail_producers(table: Any, faults: list[str]) -> tuple[MailProducer, ...] | None:
    """The producers that the table names; None without a table. Adds to `faults` each with its path."""
    if table is None:
        return None
    if not isinstance(table, Mapping):
        faults.append("mail_producers: must be a table, [mail_producers]")
        return None
    planned: list[MailProducer] = []
    for source, rule in table.items():
        try:
            if not isinstance(rule, str):
                raise ValueError("must be a text such as '500/hour example.org'")  # noqa: TRY004, TRY301 - one way for all faults
            planned.append(parse_mail_producer(source, rule))
        except ValueError as error:
            faults.append(f"mail_producers.{source}: {error}")
    return tuple(planned)
