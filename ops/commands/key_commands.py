"""`callboard keys`: the keys of producers, against the running servers."""

import argparse
import os
import sys
from collections.abc import AsyncIterator

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callboard.actors.errors import Problem
from callboard.actors.ingestion.department import IngestionSettings
from callboard.actors.ingestion.producer_keys import (
    CreateKey,
    HourlyBytes,
    HourlyEvents,
    KeyName,
    ListKeys,
    ProducerKey,
    ProducerKeys,
    RevokeKey,
    Source,
)
from callboard.ops.cli import OK, CommandError
from callboard.ops.commands.context import command_context, print_problem
from callboard.ops.config.lookup import read_setting
from callboard.ops.embedded.data_directory import data_folder
from callboard.ops.terminal import json_line, visible
from callboard.streams.field_rules import apply_rules

PAGE = 100


class KeyArguments(msgspec.Struct, frozen=True):
    """The arguments of a new key, with the rules of the same body over HTTP."""

    name: KeyName
    sources: tuple[Source, ...]
    hourly_events: HourlyEvents | None
    hourly_bytes: HourlyBytes | None


async def run_keys(options: argparse.Namespace) -> int:
    """Run an action; return the exit status."""
    limits = {
        "max_keys": read_setting(IngestionSettings, "producer_max_keys", os.environ),
        "hourly_events": read_setting(IngestionSettings, "producer_events_per_hour", os.environ),
        "hourly_bytes": read_setting(IngestionSettings, "producer_bytes_per_hour", os.environ),
    }
    given = _parsed(options) if options.keys == "add" else None
    async with command_context(data_folder(options.data_dir)) as at:
        keys = ProducerKeys(at.database, **{name: limit for name, limit in limits.items() if limit is not None})
        try:
            if given is not None:
                created = await keys.create(given)
                print(json_line(created) if options.json else created.key)
            elif options.keys == "revoke":
                await keys.revoke(RevokeKey(options.key_id))
                print(json_line({"key_id": options.key_id, "result": "revoked"}) if options.json else "revoked")
            else:
                await _list(keys, as_json=options.json)
        except Problem as problem:
            return print_problem(problem)
    return OK


def _parsed(options: argparse.Namespace) -> CreateKey:
    """Return the message of a new key. Raises CommandError for an argument that a body may not have either."""
    values = {
        "name": options.name,
        "sources": options.source,
        "hourly_events": options.hourly_events,
        "hourly_bytes": options.hourly_bytes,
    }
    try:
        arguments, faults = apply_rules(KeyArguments, msgspec.convert(values, KeyArguments))
    except msgspec.ValidationError as error:
        raise CommandError(visible(str(error))) from None
    if faults:
        raise CommandError(f"{faults[0].path} {faults[0].message}")
    return CreateKey(
        arguments.name, tuple(options.type), arguments.sources, arguments.hourly_events, arguments.hourly_bytes
    )


async def _list(keys: ProducerKeys, *, as_json: bool) -> None:
    table = Table("id", "name", "types", "sources", "events/h", "bytes/h", "last used", "revoked")
    async for key in _every(keys):
        if as_json:
            print(json_line(key))
        else:
            table.add_row(*(escape(visible(cell)) for cell in _cells(key)))
    if not as_json:
        Console(width=None if sys.stdout.isatty() else 200).print(table)


async def _every(keys: ProducerKeys) -> AsyncIterator[ProducerKey]:
    page = await keys.list_keys(ListKeys(PAGE))
    while page:
        for key in page:
            yield key
        page = await keys.list_keys(ListKeys(PAGE, page[-1].created_at, page[-1].key_id))


def _cells(key: ProducerKey) -> tuple[str, ...]:
    moments = ("" if moment is None else f"{moment:%Y-%m-%d %H:%M}" for moment in (key.used_at, key.revoked_at))
    limits = (str(key.hourly_events), str(key.hourly_bytes))
    return (str(key.key_id), key.name, ", ".join(key.types), ", ".join(key.sources), *limits, *moments)
