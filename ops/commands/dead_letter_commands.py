"""`callboard dlq`: dead letters of records, mails and jobs, for operators, against the running servers."""

import argparse
import base64
import sys
from collections.abc import AsyncIterator

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.dead_jobs import JobLetters
from callboard.actors.infrastructure.dead_letters import (
    DeadLetterChange,
    DeadLetterFilter,
    DeadLetters,
    DeadLetterView,
    Position,
    as_text,
)
from callboard.actors.infrastructure.dead_records import RecordLetters
from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.ops.cli import OK, CommandError
from callboard.ops.commands.context import command_context, print_problem
from callboard.ops.commands.job_commands import table
from callboard.ops.embedded.data_directory import data_folder
from callboard.ops.terminal import json_line, visible

BATCH = 100  # letters that are read, or changed, before the next ones
COLUMNS = ("id", "name", "reason", "attempts", "replays", "created_at", "state", "detail")


async def run_dead_letters(options: argparse.Namespace) -> int:
    """Run an action; return the exit status."""
    from callboard.ops.departments import declared_by, installed  # noqa: PLC0415 - they bring all handlers, and --help needs none

    async with command_context(data_folder(options.data_dir)) as at:
        queue = JobQueue(declared_by(installed()).jobs)
        sources = (RecordLetters(at.database, queue), JobLetters(JobAdmin(at.database, queue)))
        letters = DeadLetters(at.database, *sources)
        try:
            async for line in output(letters, options):
                print(line, flush=True)
        except Problem as problem:
            return print_problem(problem)
    return OK


async def output(letters: DeadLetters, options: argparse.Namespace) -> AsyncIterator[str]:
    """Run an action; yield its output. Raises Problem, CommandError."""
    match options.dlq:
        case "list":
            found = [each async for each in _pages(letters, options)]
            if not options.json:
                yield table(found, *COLUMNS)
            for each in found if options.json else ():
                yield json_line(each)
        case "show":
            letter = await letters.show(options.id)
            yield msgspec.json.format(json_line(letter), indent=2) if options.json else _shown(letter)
        case _:
            changes = [each async for each in _change(letters, options)]
            done = "replayed" if options.dlq == "replay" else "dropped"
            for change in changes if options.json else ():
                yield json_line(change)
            if not options.json:
                found_count, changed = sum(each.found for each in changes), sum(each.changed for each in changes)
                others = found_count - changed
                yield f"{changed} {done}" + (f"; {others} did not wait any more" if others else "")


async def _pages(letters: DeadLetters, options: argparse.Namespace) -> AsyncIterator[DeadLetterView]:
    left, before = options.limit, None
    while left > 0:
        page = await letters.page(_filter(options), replayed=options.all, before=before, limit=min(left, BATCH))
        for each in page:
            yield each
        left -= len(page)
        if len(page) < BATCH:
            return
        before = position_of(page[-1])


async def _change(letters: DeadLetters, options: argparse.Namespace) -> AsyncIterator[DeadLetterChange]:
    """Replay or drop, batch after batch, and tell the progress on stderr."""
    if bool(options.ids) == (options.source is not None):
        raise CommandError("give either ids, or a filter with --source")
    changed = 0
    async for ids in _batches(letters, options):
        if options.dlq == "replay":
            change = await letters.replay(ids, after=changed, per_second=options.per_second)
        else:
            change = await letters.drop(ids)
        changed += change.changed
        if len(ids) == BATCH:
            print(f"{changed} so far", file=sys.stderr, flush=True)
        yield change


async def _batches(letters: DeadLetters, options: argparse.Namespace) -> AsyncIterator[list[str]]:
    """Yield the ids that are named, or of what the filter selects now: not of what fails again meanwhile."""
    if options.ids:
        await letters.expect(options.ids)
        yield options.ids
        return
    until, left = await letters.time(), options.most
    while left > 0 and (ids := await letters.select(_filter(options), until=until, limit=min(left, BATCH))):
        yield ids
        left -= len(ids)


def position_of(letter: DeadLetterView) -> Position:
    """Return the place of a letter in the list."""
    return letter.created_at, letter.position


def _filter(options: argparse.Namespace) -> DeadLetterFilter:
    return DeadLetterFilter(options.source, options.name, options.reason, options.since)


def _shown(letter: DeadLetterView) -> str:
    """Return a letter for a terminal: its fields, its headers, and its value as text, or as base64."""
    fields = msgspec.structs.asdict(letter)
    long = ("position", "key_base64", "value", "value_base64", "headers")
    lines = [f"{name}: {value}" for name, value in fields.items() if name not in long and value is not None]
    for name, value in letter.headers:
        raw = base64.b64decode(value or "")
        text = as_text(raw, is_cut=False)
        lines.append(f"header {name}: {text}" if text is not None else f"header {name}, base64: {value}")
    lines.append(f"value: {letter.value}" if letter.value is not None else f"value, base64: {letter.value_base64}")
    return "\n".join(visible(line) for line in lines)
