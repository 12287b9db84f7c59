"""The reload of the settings of a running process: all that can change does, and the rest is named.

A reload reads the environment's files, the file and the values from the operator plane, and checks everything first: a
fault changes nothing. Settings that no running part can adopt wait for a restart.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.audit_actions import SETTINGS_CHANGED
from callboard.actors.infrastructure.database import Database
from callboard.ops.config import file as config_file
from callboard.ops.config import tables
from callboard.ops.config.configuration import Configuration, load
from callboard.ops.config.fleet import FleetChange, FleetLink
from callboard.ops.config.sources import ConfigError, Secret
from callboard.ops.config.tables import Change, Reloadable
from callboard.runtime import Context, Pool, use_context

MAX_CHANGES, MAX_TEXT = 100, 200  # entries of one reload in the audit log, and characters of a value

log = logging.getLogger(__name__)


class Live(Protocol):
    """The parts of a process that adopt settings while they run."""

    @property
    def live(self) -> Mapping[str, Mapping[str, Any]]:
        """The functions that adopt the settings of a department, by the names of its fields; "" is the process."""


class Process(Reloadable, Live, Protocol):
    """The parts of a process that a reload changes."""


class Reloaded(msgspec.Struct, frozen=True):
    """The result of a reload: what has changed, and the settings that differ and need a restart."""

    changes: list[Change]
    restart: list[str]


class Reloader:
    """Holds the settings in force. One reload follows another."""

    def __init__(self, process: Process, configuration: Configuration, database: Database | None = None) -> None:
        self.configuration = configuration
        self.overrides: dict[str, Any] = {}  # from the operator plane, by name, until the process ends
        self.fleet = FleetLink(configuration.environ)
        self._process = process
        self._database = database
        self._turn = asyncio.Lock()
        self.read_version = config_file.version_of(configuration.file)  # of the file, good or bad

    def live_names(self) -> set[str]:
        """Return the names of the settings that change without a restart."""
        prefixes = {"": "", **dict(self.configuration.prefixes())}
        return {f"{prefixes[part]}{name.upper()}" for part, names in self._process.live.items() for name in names}

    async def start(self) -> None:
        """Apply the tables of the file to a tree that has not been started. Raises ConfigError."""
        planned = self._plan(self.overrides)
        if planned.faults:
            raise ConfigError(planned.faults)
        for change in await tables.apply(self._process, planned):
            log.info("%s", change)

    async def change(self, overrides: Mapping[str, Any]) -> Reloaded:
        """Reload with these values here, and then in the other processes of a fleet. Raises as `reload` does."""
        reloaded = await self.reload(overrides=overrides)
        adopted = {name: value for name, value in overrides.items() if name not in reloaded.restart}
        if adopted or not overrides:
            self.fleet.tell(FleetChange(settings=adopted))
        return reloaded

    async def adopt(self, change: FleetChange) -> None:
        """Adopt a change of another process, which has recorded it. Faults are logged."""
        for name, size in change.pools.items():
            try:
                if isinstance(pool := self._process.pools.get(name), Pool):
                    await pool.resize(size)
            except Exception:  # a start hook may raise anything
                log.exception("a worker did not start; %s keeps its size", name)
        if change.settings or not change.pools:
            await self.reload_or_log("another process", overrides=change.settings, is_recorded=True)

    async def reload(
        self,
        *,
        overrides: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Secret] | None = None,
        is_recorded: bool = False,
    ) -> Reloaded:
        """Read everything again, with these values of the operator plane and secrets, or the last ones; apply what
        differs, and record each change unless it is recorded.

        Raises ConfigError with every fault, and the error of a worker that does not start: then nothing has changed.
        """
        async with self._turn:
            self.read_version = config_file.version_of(self.configuration.file)
            wanted = {**self.overrides, **(overrides or {})}
            wanted = {name: value for name, value in wanted.items() if value is not None}
            before, faults = self.configuration, list[str]()
            settings = {name: value for name, value in wanted.items() if "." not in name}
            found = None
            try:
                found = load(
                    before.environ,
                    before.departments,
                    overrides=settings,
                    secrets=before.secrets if secrets is None else secrets,
                )
            except ConfigError as error:
                faults += error.faults
            planned = self._plan(wanted)
            if found is None or planned.faults:
                raise ConfigError(list(dict.fromkeys([*faults, *planned.faults])))
            changes = await tables.apply(self._process, planned)
            adopted, restart = self._adopt(found)
            changes += adopted
            self.overrides = {name: value for name, value in wanted.items() if name not in restart}
        for change in changes:
            log.info("%s", change)
        if changes and self._database is not None and not is_recorded:
            await _record(self._database, changes)
        return Reloaded(changes, restart)

    async def reload_or_log(
        self,
        why: str,
        secrets: Mapping[str, Secret] | None = None,
        *,
        overrides: Mapping[str, Any] | None = None,
        is_recorded: bool = False,
    ) -> None:
        """Reload for a reason that nobody waits for. Faults are logged, and nothing has changed then."""
        with use_context(Context(baggage=audit.CommandLine(why))):
            try:
                reloaded = await self.reload(overrides=overrides, secrets=secrets, is_recorded=is_recorded)
            except ConfigError as error:
                for fault in error.faults:
                    log.error("%s; nothing has changed", fault)  # noqa: TRY400 - the operator's slip, with no trace to read
            except Exception:  # a start hook may raise anything
                log.exception("a worker did not start; no setting has changed")
            else:
                restart = f"; {', '.join(reloaded.restart)} need a restart" if reloaded.restart else ""
                log.info("%s: %s is in force%s", why, self.configuration.file or "the environment", restart)

    def _plan(self, overrides: Mapping[str, Any]) -> tables.Plan:
        """Plan the tables of the file, with those of the operator plane. Raises ConfigError for an unreadable file."""
        path = self.configuration.file
        found = config_file.read(path) if path else {}
        merged = {name: found.get(name, {}) for name in config_file.TABLES if name in found}
        for name, value in overrides.items():
            if "." in name:
                _put(merged, name.split("."), value)
        planned = tables.plan(self._process, merged)
        prefix = f"{path}: " if path else ""
        return msgspec.structs.replace(planned, faults=[f"{prefix}{fault}" for fault in planned.faults])

    def _adopt(self, found: Configuration) -> tuple[list[Change], list[str]]:
        """Let the running parts adopt what they can; return the changes, and the names that need a restart."""
        before, live = self.configuration, self._process.live
        shown, wanted = before.redacted(), found.redacted()
        changes, restart, origins = list[Change](), list[str](), dict(before.origins)
        process, configured = before.process, dict(before.configured)
        for part, prefix, old, new in _parts(before, found):
            differing = [name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)]
            adoptable = {name: getattr(new, name) for name in differing if name in live.get(part, {})}
            restart += [f"{prefix}{name.upper()}" for name in differing if name not in adoptable]
            names = [f"{prefix}{name.upper()}" for name in adoptable]
            changes += [Change(name, shown[name], wanted[name]) for name in names]
            for name in names:
                origins.pop(name, None)  # a default has none
            origins |= {name: found.origins[name] for name in names if name in found.origins}
            if not adoptable:
                continue
            adopted = msgspec.structs.replace(old, **adoptable)
            for adopt in dict.fromkeys(live[part][name] for name in adoptable):
                adopt(adopted)
            if part:
                configured[part] = msgspec.structs.replace(configured[part], settings=adopted)
            else:
                process = adopted
        self.configuration = Configuration(
            process, before.departments, configured, before.environ, origins, found.secrets, before.file
        )
        return changes, restart


def _parts(before: Configuration, found: Configuration) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield the Structs of the process and of each department: as they are, and as they are wanted."""
    yield "", "", before.process, found.process
    for name, prefix in before.prefixes():
        yield name, prefix, before.configured[name].settings, found.configured[name].settings


def _put(tables: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value at a path of tables; a table that is in the way is replaced by one."""
    for name in path[:-1]:
        inner = tables.get(name)
        tables[name] = tables = dict(inner) if isinstance(inner, Mapping) else {}
    tables[path[-1]] = value


async def _record(database: Database, changes: Sequence[Change]) -> None:
    try:
        async with database.transaction() as connection:
            for each in changes[:MAX_CHANGES]:
                await audit.record(
                    connection, SETTINGS_CHANGED, name=each.name, old=_text(each.old), new=_text(each.new)
                )
    except Problem as problem:  # they are in force all the same, and stand in the log
        log.error("a change of the settings could not be written to the audit log: %s", problem)  # noqa: TRY400 - the reason is known


def _text(value: object) -> str:
    return str(value)[:MAX_TEXT]
