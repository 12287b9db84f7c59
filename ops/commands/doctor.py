"""`callboard doctor`: what is wrong around a process, and how to mend it, one line each."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping

from msgspec import structs

from callboard.ops.cli import FAILED, OK, CommandError
from callboard.ops.commands.migration_commands import database_url, named
from callboard.ops.commands.operator_client import OperatorError, client_of
from callboard.ops.config.configuration import load
from callboard.ops.config.names import warnings
from callboard.ops.config.sources import ConfigError
from callboard.ops.doctor.findings import Check, Finding, Surroundings
from callboard.ops.doctor.indexes import report_indexes
from callboard.ops.doctor.machine import check_machine, check_vault
from callboard.ops.doctor.postgres import check_postgres
from callboard.ops.doctor.servers import check_kafka, check_mail, check_redis
from callboard.ops.embedded.data_directory import data_folder, read_running
from callboard.ops.logs import silence
from callboard.ops.terminal import json_line, visible

LONGEST_S = 20.0  # for one server
LOUD = ("aiokafka", "callboard", "asyncio")  # a command has one line for each fault


async def run_doctor(options: argparse.Namespace) -> int:
    """Run every check; return 1 if one of them finds a fault."""
    if options.indexes:
        url = database_url(options)
        with named(url):
            return await report_indexes(url, as_json=options.json)
    silence(*LOUD)
    environ = surroundings_of(options)
    around = Surroundings(environ)

    async def check_process(_around: Surroundings) -> AsyncIterator[Finding]:
        yield await asyncio.to_thread(_process, options)

    servers = (check_vault, check_postgres, check_redis, check_kafka, check_mail)
    checks = (_settings, *servers, check_machine, check_process)
    found = [each for several in await asyncio.gather(*(_all(check, around) for check in checks)) for each in several]
    for each in found:
        if options.json:
            print(json_line({**structs.asdict(each), "is_fault": each.is_fault}))
        else:
            print(visible(f"FAULT  {each.found}: {each.mend}" if each.is_fault else f"ok     {each.found}"))
    faults = sum(each.is_fault for each in found)
    print(f"{faults or 'no'} fault{'' if faults == 1 else 's'}", file=sys.stderr)
    return FAILED if faults else OK


def surroundings_of(options: argparse.Namespace) -> Mapping[str, str]:
    """Return the environment, and below it the addresses of the running `callboard up`, if there is one."""
    facts = read_running(data_folder(options.data_dir)) or {}
    return {**{name: str(value) for name, value in facts.items() if name.isupper()}, **os.environ}


async def _all(check: Check, around: Surroundings) -> list[Finding]:
    """Return the findings of one check. What hangs, or fails in an unforeseen way, is a finding too."""
    found: list[Finding] = []
    try:
        async with asyncio.timeout(LONGEST_S):
            async for each in check(around):
                found.append(each)  # noqa: PERF401 - those before an error count
    except Exception as error:  # noqa: BLE001 - whatever a server has answered
        said = f"{check.__name__.removeprefix('check_')}: the check failed: {str(error) or type(error).__name__}"
        found.append(Finding(check.__name__.removeprefix("check_"), said, "mend what it names, and run this again"))
    return found


async def _settings(around: Surroundings) -> AsyncIterator[Finding]:
    try:
        configuration = load(around.environ)
    except ConfigError as error:
        for fault in error.faults:
            yield Finding("settings", fault, "correct it: ops/SETTINGS.md has every setting")
        return
    cautions = [*warnings(around.environ), *configuration.cautions]
    for each in cautions:
        yield Finding("settings", each, "correct it, or leave it if it is meant")
    if not cautions:
        yield Finding("settings", "every setting is good")


def _process(options: argparse.Namespace) -> Finding:
    """Ask the running process whether it is ready."""
    try:
        client = client_of(options)
        checks = client.call("GET", "/ready")["checks"]
    except OperatorError as error:
        return Finding("process", f"the process is not ready: {error}", "mend what it names")
    except CommandError as error:
        return Finding("process", f"not asked: {error}")
    except ConfigError as error:
        return Finding("process", f"not asked: {'; '.join(error.faults)}")
    return Finding("process", f"the process is ready ({len(checks)} checks)")
