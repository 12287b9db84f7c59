"""`callboard users import`: reads a file line by line, reports each bad line, and imports the others.

The file may have any length: a line may have 64 KiB, and only one batch of lines is in memory. The accounts themselves
are the only record of an import's progress.
"""

import argparse
import csv
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from callboard.actors.errors import FieldError, Problem
from callboard.actors.identity.user_import import ImportedUser, candidate_faults, import_users
from callboard.http.server.validation import ONCE, broken_rules, first_faults, validation_errors
from callboard.ops.cli import FAILED, OK, CommandError
from callboard.ops.commands.context import command_context
from callboard.ops.embedded.data_directory import data_folder
from callboard.ops.terminal import json_line, visible
from callboard.streams.field_rules import NOT_A_TIME, is_number, times_of
from callboard.streams.json_keys import repeated_keys

BATCH = 500  # lines in one transaction
MAX_LINE_BYTES = 1 << 16
CHUNK_BYTES = 1 << 13
TOLD_THERE = 20  # lines whose account is there already; an import that is made again has many

COLUMNS = ImportedUser.__struct_fields__
NEEDED = ("email", "full_name")


class ParsedLine(msgspec.Struct, frozen=True):
    """A line of a file, by its number from 1 on: an account, or its fault."""

    number: int
    candidate: ImportedUser | None = None
    faults: tuple[FieldError, ...] = ()


def read_lines(file: IO[bytes], form: str) -> Iterator[ParsedLine]:
    """Yield the lines of a file in `form`, "csv" or "jsonl"; empty ones are left out. Raises CommandError for a CSV
    file whose first line does not name its columns.
    """
    return _csv_lines(file) if form == "csv" else _json_lines(file)


def _bounded(file: IO[bytes]) -> Iterator[bytes]:
    """Yield each line without its end, which is LF, CR LF or CR; a line that is too long is cut just above
    the limit.
    """
    rest = b""
    while piece := file.read(CHUNK_BYTES):
        lines = (rest + piece).splitlines(keepends=True)
        rest = b"" if lines[-1].endswith(b"\n") else lines.pop()  # a CR may have its LF in the next piece
        if len(rest) > MAX_LINE_BYTES:
            rest = rest[: MAX_LINE_BYTES + 1] + (b"\r" if rest.endswith(b"\r") else b"")
        for line in lines:
            yield line.rstrip(b"\r\n")
    if rest:
        yield rest.rstrip(b"\r")


def _json_lines(file: IO[bytes]) -> Iterator[ParsedLine]:
    for number, line in enumerate(_bounded(file), start=1):
        if len(line) > MAX_LINE_BYTES:
            yield ParsedLine(number, faults=(FieldError("", f"has more than {MAX_LINE_BYTES} bytes"),))
        elif line.strip():
            text = line.removeprefix(b"\xef\xbb\xbf")
            try:
                value, twice = msgspec.json.decode(text), repeated_keys(text)
            except (msgspec.DecodeError, ValueError, RecursionError):
                yield ParsedLine(number, faults=(FieldError("", "is not JSON"),))
            else:
                faults = tuple(FieldError(name, ONCE) for name in twice)
                yield ParsedLine(number, faults=faults) if faults else _line(number, value, strict=True)


def _cells(line: bytes, encoding: str = "utf-8") -> list[str]:
    """Return the fields of one line of CSV. Raises ValueError with its fault.

    A record is one line: an unclosed quote spoils its own line only.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"has more than {MAX_LINE_BYTES} bytes")
    try:
        rows = list(csv.reader([line.decode(encoding)], strict=True))
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise ValueError("has a quote that is not closed: a field may not go over several lines") from None
        raise ValueError(f"is not CSV: {error}") from None
    return rows[0] if rows else []


def _csv_lines(file: IO[bytes]) -> Iterator[ParsedLine]:
    lines = enumerate(_bounded(file), start=1)
    try:
        header = _cells(next(lines, (1, b""))[1], "utf-8-sig")
    except ValueError as error:
        raise CommandError(f"the first line must name the columns, and {error}") from None
    twice = sorted({name for name in header if header.count(name) > 1})
    wrong = [f"'{visible(name)[:40]}' twice" for name in twice]
    wrong += [f"'{visible(name)[:40]}', which is none" for name in header if name not in COLUMNS][:5]
    wrong += [f"no '{name}'" for name in NEEDED if name not in header]
    if wrong:
        raise CommandError(
            f"the first line must name the columns, separated by commas: {', '.join(NEEDED)}, and any of "
            f"{', '.join(COLUMNS)}; it has {', '.join(wrong)}"
        )
    return _rows(lines, header)


def _rows(lines: Iterator[tuple[int, bytes]], header: list[str]) -> Iterator[ParsedLine]:
    for number, line in lines:
        try:
            row = _cells(line)
        except ValueError as error:
            yield ParsedLine(number, faults=(FieldError("", str(error)),))
            continue
        if row:
            yield _csv_line(number, header, row)


def _csv_line(number: int, header: list[str], row: list[str]) -> ParsedLine:
    if len(row) != len(header):
        return ParsedLine(number, faults=(FieldError("", f"has {len(row)} fields, and {len(header)} columns"),))
    fields = {name: text for name, text in zip(header, row, strict=True) if text}
    numbers = [FieldError(name, NOT_A_TIME) for _, name in times_of(ImportedUser) if is_number(fields.get(name, ""))]
    return ParsedLine(number, faults=tuple(numbers)) if numbers else _line(number, fields, strict=False)


def _line(number: int, value: Any, *, strict: bool) -> ParsedLine:
    try:
        candidate = msgspec.convert(value, ImportedUser, strict=strict)
    except msgspec.ValidationError:
        return ParsedLine(number, faults=tuple(validation_errors(value, ImportedUser, "", strict=strict)))
    candidate, broken = broken_rules(ImportedUser, candidate, "")
    faults = first_faults([*broken, *candidate_faults(candidate)])
    return ParsedLine(number, None if faults else candidate, faults)


class Import:
    """One run: its counts and its output."""

    def __init__(
        self,
        send: Callable[[list[ImportedUser]], Awaitable[list[str]]],
        errors: IO[str] | None,
        say: Callable[[str], None],
    ) -> None:
        self._send = send
        self._errors = errors
        self._say = say
        self._batch: list[tuple[int, ImportedUser]] = []
        self.made = self.there = self.bad = 0

    async def take(self, line: ParsedLine) -> None:
        """Import a line with its batch, or report its fault."""
        if line.candidate is None:
            self.bad += 1
            for fault in line.faults:
                self._tell(line.number, fault)
        else:
            self._batch.append((line.number, line.candidate))
            if len(self._batch) >= BATCH:
                await self.flush()

    async def flush(self) -> None:
        """Import the pending batch."""
        if self._batch:
            made = {email.lower() for email in await self._send([candidate for _, candidate in self._batch])}
            for number, candidate in self._batch:
                if candidate.email.lower() in made:
                    made.remove(candidate.email.lower())  # a line of the same address that follows is not made
                    self.made += 1
                else:
                    self._tell_there(number)
            self._batch = []

    def _tell_there(self, number: int) -> None:
        self.there += 1
        fault = FieldError("email", "has an account already, which is left as it is")
        self._tell(number, fault, quietly=self.there > TOLD_THERE)
        if self.there == TOLD_THERE + 1:
            self._say("more lines whose address has an account already are in the file of --errors alone")

    def _tell(self, number: int, fault: FieldError, *, quietly: bool = False) -> None:
        if not quietly:
            self._say(f"{f'line {number}: {fault.field}'.rstrip(': ')}: {fault.message}")
        if self._errors is not None:
            entry = {"line": number, "field": fault.field, "message": fault.message}
            self._errors.write(json_line(entry) + "\n")

    def __str__(self) -> str:
        return f"{self.made} imported, {self.there} there already, {self.bad} bad"


class ProgressLines:
    """Progress without a terminal: one line for each tenth of the file, once its batches are imported."""

    def __init__(self, size: int, say: Callable[[str], None]) -> None:
        self._size = size or 1
        self._say = say
        self._told = self._done = 0

    def look(self, place: int, run: Import) -> None:
        """Print the progress, if it has changed."""
        done = run.made + run.there
        if done == self._done:  # the file is read ahead of its batches
            return
        tenth, self._done = 10 * place // self._size, done
        if tenth > self._told:
            self._told = tenth
            self._say(f"{10 * tenth} %: {run}")


def form_of(path: Path) -> str:
    """Return the format of a file, by its name. Raises CommandError."""
    form = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(path.suffix.lower())
    if form is None:
        raise CommandError(f"{path.name} is neither .csv nor .jsonl: say --format csv or --format jsonl")
    return form


async def import_file(options: argparse.Namespace) -> int:
    """Import a file; return the exit status: 0 if every line is good. Raises CommandError."""
    path, errors = options.file, options.errors
    form = options.format or form_of(path)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            said = stack.enter_context(errors.open("w", encoding="utf-8")) if errors else None
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        lines = read_lines(file, form)
        async with command_context(data_folder(options.data_dir)) as at:
            if options.send_verification and not at.can_sign:
                raise CommandError("JWT_SECRET_KEY is missing: it signs the links in the mails")
            console = Console(stderr=True)
            say = partial(_say, console)

            async def send(batch: list[ImportedUser]) -> list[str]:
                return await import_users(at.database, batch, at.signer if options.send_verification else None)

            run = Import(send, said or (sys.stdout if options.json else None), say)
            is_complete = True
            try:
                await _take_all(file, lines, run, console, say)
            except Problem as problem:
                say(f"{problem.message} {run}; run it again to continue")
                is_complete = False
    if options.json:
        print(json_line({"imported": run.made, "there": run.there, "bad": run.bad, "is_complete": is_complete}))
    elif is_complete:
        print(run)
    return OK if is_complete and not run.bad else FAILED


def _say(console: Console, text: str) -> None:
    text = visible(text)
    if console.is_terminal:
        console.print(f"callboard: {text}", markup=False, highlight=False, soft_wrap=True)
    else:
        print(f"callboard: {text}", file=sys.stderr)


async def _take_all(
    file: IO[bytes], lines: Iterator[ParsedLine], run: Import, console: Console, say: Callable[[str], None]
) -> None:
    """Import every line, and show the progress; for a pipe only the number of lines."""
    size = os.fstat(file.fileno()).st_size if file.seekable() else 0
    tenths = ProgressLines(size, say)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("importing", total=size or None)
        for line in lines:
            await run.take(line)
            place = file.tell() if size else 0
            bar.update(task, completed=place, description=str(run))
            if not console.is_terminal:
                tenths.look(place, run)
        await run.flush()
        bar.update(task, description=str(run))
