"""`callboard config`: check and show the settings; change them in a running process, and let it read them again."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from callboard.ops.application import NOWHERE, dry_run
from callboard.ops.cli import FAILED, OK, USAGE
from callboard.ops.commands.operator_client import client_of
from callboard.ops.config import file as config_file
from callboard.ops.config import tables
from callboard.ops.config.configuration import Configuration, load
from callboard.ops.config.departments import variables_of_packages
from callboard.ops.config.names import warnings
from callboard.ops.config.sources import ConfigError
from callboard.ops.start import complain
from callboard.ops.terminal import json_line, print_table


def load_all(environ: Mapping[str, str]) -> Configuration:
    """Read everything. Raises ConfigError with every fault of the environment and of the file together."""
    configuration = load_or_explain(environ)
    if faults := _faults_of_tables(environ):
        raise ConfigError(faults)
    return configuration


def load_or_explain(environ: Mapping[str, str]) -> Configuration:
    """Read the settings; the tables of the file are checked only if there is a fault, which is then not the only one.

    Raises ConfigError with every fault.
    """
    try:
        return load(environ)
    except ConfigError as error:
        raise ConfigError(list(dict.fromkeys([*error.faults, *_faults_of_tables(environ)]))) from error


def _faults_of_tables(environ: Mapping[str, str]) -> list[str]:
    """Return the faults of [pools], [limits] and [mail_producers]."""
    try:
        path = config_file.file_of(environ)
        found = config_file.read(path)
        parts = dry_run(variables_of_packages(environ))
    except ConfigError:
        return []  # `load` has named them
    return [f"{path}: {fault}" for fault in tables.plan(parts, found).faults]


async def run_config(options: argparse.Namespace) -> int:
    """Run an action; return the exit status."""
    match options.config:
        case "check":
            return _check(options)
        case "show":
            return _show(options)
        case "set":
            return _changed(options, {options.name: _value(options.name, options.value)})
        case "unset":
            return _changed(options, {options.name: None})
        case _:
            return _changed(options, None)


def _check(options: argparse.Namespace) -> int:
    """Check the environment and the file, or a file alone."""
    if not options.file:
        for warning in warnings(os.environ):
            complain(f"callboard: {warning}")
    try:
        configuration = load_all(_alone(options.file) if options.file else os.environ)
    except ConfigError as error:
        if options.json:
            print("\n".join(json_line({"fault": each}) for each in error.faults))
            return USAGE
        raise
    if not options.json:
        good = [configuration.file] if options.file else ["the environment", *filter(None, [configuration.file])]
        print("\n".join(f"{each} is good" for each in good))
    return OK


def _alone(path: str) -> Mapping[str, str]:
    """Return an environment for a file alone, with what it leaves to the real one. Raises ConfigError."""
    given = config_file.read(path)
    needed = {name: value for name, value in NOWHERE.items() if name.lower() not in given}
    return {**needed, **variables_of_packages(os.environ), "CALLBOARD_CONFIG": path}


def _show(options: argparse.Namespace) -> int:
    """Print every setting with its origin: those of the environment and the file, or those in force in a process."""
    if options.live:
        found: Sequence[dict[str, Any]] = client_of(options).call("GET", "/ops/v1/settings")
    else:
        described = load_all(os.environ).described()
        found = [{"name": each.name, "value": each.value, "origin": each.origin} for each in described]
    if options.json:
        print("\n".join(map(json_line, found)))
    else:
        print_table(("setting", "value", "from"), ((each["name"], each["value"], each["origin"]) for each in found))
    return OK


def _value(name: str, text: str) -> Any:
    """Return the value of an argument: a setting's text, or TOML's kind of value for a path like pools.mail.size."""
    if "." not in name:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _changed(options: argparse.Namespace, change: Mapping[str, Any] | None) -> int:
    """Change settings of the process, or let it read them again; print what has changed, and what needs a restart."""
    client = client_of(options)
    if change is None:
        reloaded = client.call("POST", "/ops/v1/config/reload", {})
    else:
        reloaded = client.call("PATCH", "/ops/v1/config", {"settings": change})
    if options.json:
        print(json_line(reloaded))
    else:
        for each in reloaded["changes"]:
            print(f"{each['name']} was {each['old']}, is {each['new']}")
        for name in reloaded["restart"]:
            print(f"{name} needs a restart")
        if not reloaded["changes"] and not reloaded["restart"]:
            print("nothing has changed")
    return FAILED if change and reloaded["restart"] and not reloaded["changes"] else OK
