"""Imports of lines: JSON lines or CSV, in batches, each in a fenced step with the progress that its user sees."""

import csv
import io
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Generic, TypeVar, get_origin
from uuid import UUID

import anyio.to_thread
import msgspec

from callboard.actors.infrastructure.job_kinds import Job, Outcome
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.user_jobs import (
    QUERIES,
    Form,
    LineFault,
    end_user_job,
)
from callboard.streams.field_rules import NOT_A_TIME, apply_rules, is_number, times_of
from callboard.streams.json_keys import repeated_keys

T = TypeVar("T", bound=msgspec.Struct)

BATCH = 50
MAX_LINES = 10_000
MAX_FAULTS = 100  # that are kept; all are counted
MAX_FIELD = 1 << 20

csv.field_size_limit(MAX_FIELD)


class Line(msgspec.Struct, Generic[T], frozen=True):
    """A line, by its number from 1 on: a value, or its fault."""

    number: int
    value: T | None
    fault: LineFault | None = None


class Owner(msgspec.Struct, frozen=True):
    """The user whose job it is, with the role of now."""

    user_id: UUID
    email: str
    role: Role


class UnreadableError(Exception):
    """The whole input cannot be read; the text says why."""


class Applied(msgspec.Struct):
    """The result of a batch: counts by outcome, and faults of lines."""

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    faults: list[LineFault] = msgspec.field(default_factory=list)

    def refuse(self, fault: LineFault) -> None:
        """Count a line as refused."""
        self.counts["refused"] += 1
        self.faults.append(fault)


async def nothing(_owner: Owner, _lines: Sequence[Any]) -> Applied:
    """Do nothing."""
    return Applied()


async def nothing_within(_connection: Any, _owner: Owner, _lines: Sequence[Any]) -> Applied:
    """Do nothing."""
    return Applied()


class LineImport(msgspec.Struct, Generic[T], frozen=True):
    """How the lines of a kind are imported.

    `before` runs before a batch's step, and must be repeatable: its effects are recognised by ids that it derives.
    `within` runs in the transaction of the step, once.
    """

    line: type[T]
    role: Role
    before: Callable[[Owner, Sequence[Line[T]]], Awaitable[Applied]] = nothing
    within: Callable[[Any, Owner, Sequence[Line[T]]], Awaitable[Applied]] = nothing_within


async def import_lines(job: Job[Any], how: LineImport[T]) -> Outcome:
    """Import the lines that are left. A job that is cancelled meanwhile does no further step."""
    job_id = job.payload.job_id
    async with job.step() as step:
        row = await QUERIES.begin_job(step.connection, job_id=job_id, queue_id=job.job_id)
    if row is None:
        return None
    owner = Owner(row["user_id"], row["email"], Role(row["role"]))
    try:
        _check(row, owner, how.role)
        lines = await anyio.to_thread.run_sync(read_lines, row["content"], row["form"], how.line)
    except UnreadableError as error:
        async with job.finish() as connection:
            await end_user_job(connection, job_id, "failed", str(error))
        return None
    counts = Counter(msgspec.json.decode(row["counts"], type=dict[str, int]))
    run = _Run(job, how, owner, lines, Applied(counts, msgspec.json.decode(row["faults"], type=list[LineFault])))
    for start in range(row["done"], len(lines), BATCH):
        if not await run.import_batch(start):
            return None
    async with job.finish() as connection:
        await end_user_job(connection, job_id, "done")
        await QUERIES.drop_input(connection, job_id=job_id)
    return None


def _check(row: Any, owner: Owner, role: Role) -> None:
    if not row["is_active"] or not owner.role.includes(role):
        raise UnreadableError("You may not do this any more.")
    if row["content"] is None:
        raise UnreadableError("The input is not there any more.")


class _Run(Generic[T]):
    """An attempt at an import, and what became of its lines so far."""

    def __init__(
        self, job: Job[Any], how: LineImport[T], owner: Owner, lines: Sequence[Line[T]], so_far: Applied
    ) -> None:
        self.job = job
        self.how = how
        self.owner = owner
        self.lines = lines
        self.so_far = so_far

    async def import_batch(self, start: int) -> bool:
        """Import the batch that begins at this line and store the progress; False if the job was cancelled."""
        job_id, lines = self.job.payload.job_id, self.lines[start : start + BATCH]
        good = [line for line in lines if line.value is not None]
        before = await self.how.before(self.owner, good)
        async with self.job.step() as step:
            if not await QUERIES.hold_running(step.connection, job_id=job_id, queue_id=self.job.job_id):
                return False
            self._note(before)
            self._note(await self.how.within(step.connection, self.owner, good))
            for line in lines:
                if line.fault is not None:
                    self.so_far.refuse(line.fault)
            del self.so_far.faults[MAX_FAULTS:]
            done = start + len(lines)
            await QUERIES.advance(
                step.connection,
                job_id=job_id,
                done=done,
                total=len(self.lines),
                counts=msgspec.json.encode(self.so_far.counts).decode(),
                faults=msgspec.json.encode(self.so_far.faults).decode(),
            )
            step.report(done, len(self.lines))
        return True

    def _note(self, applied: Applied) -> None:
        self.so_far.counts += applied.counts
        self.so_far.faults.extend(applied.faults)


# Reading -------------------------------------------------------------------------------------------------------------


def read_lines(content: bytes, form: Form, kind: type[T]) -> list[Line[T]]:
    """Read all lines; empty ones are left out. A CSV field may go over several lines.

    Raises UnreadableError for an input that is not UTF-8, has too many lines, or no header of known columns.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"The input is not UTF-8: byte {error.start + 1} cannot be read.") from None
    lines = _csv_lines(text, kind) if form == "csv" else _json_lines(text, kind)
    if len(lines) > MAX_LINES:
        raise UnreadableError(f"The input has {len(lines)} lines; {MAX_LINES} are the maximum.")
    return lines


def _json_lines(text: str, kind: type[T]) -> list[Line[T]]:
    found: list[Line[T]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            found.append(_line(number, kind, partial(_decode, line, kind)))
    return found


def _decode(line: str, kind: type[T]) -> T:
    value = msgspec.json.decode(line, type=kind)
    if twice := repeated_keys(line.encode()):
        raise msgspec.ValidationError(f"Must be given once. - at `$.{twice[0]}`")
    return value


def _csv_lines(text: str, kind: type[T]) -> list[Line[T]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        known = {each.encode_name: each for each in msgspec.structs.fields(kind)}
        wrong = [name for name in header if name not in known or header.count(name) > 1]
        wrong += [name for name, each in known.items() if each.required and name not in header]
        if wrong:
            raise UnreadableError(
                f"The first line must name the columns, once each, among {', '.join(known)}, with "
                f"{', '.join(name for name, each in known.items() if each.required)}."
            )
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise UnreadableError(f"Line {reader.line_num} is not CSV: {str(error)[:100]}.") from None
    return [_csv_line(number, header, row, kind) for number, row in rows]


def _csv_line(number: int, header: Sequence[str], row: Sequence[str], kind: type[T]) -> Line[T]:
    if len(row) != len(header):
        fault = LineFault(number, "", f"has {len(row)} fields, and {len(header)} columns")
        return Line(number, None, fault)
    fields = dict(zip(header, row, strict=True))
    several = {each.encode_name for each in msgspec.structs.fields(kind) if _is_tuple(each.type)}
    for _, name in times_of(kind):
        if is_number(fields.get(name, "")):
            return Line(number, None, LineFault(number, name, NOT_A_TIME))
    value = {
        name: [each.strip() for each in field.split(",")] if name in several else field
        for name, field in fields.items()
        if field
    }
    return _line(number, kind, lambda: msgspec.convert(value, kind, strict=False))


def _is_tuple(of: Any) -> bool:
    """Whether a field has several values, which CSV separates by commas."""
    return get_origin(of.__origin__ if get_origin(of) is Annotated else of) is tuple


def _line(number: int, kind: type[T], read: Callable[[], T]) -> Line[T]:
    try:
        value, faults = apply_rules(kind, read())
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        return Line(number, None, LineFault(number, path.rstrip("`").lstrip("."), message[:200]))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return Line(number, None, LineFault(number, "", "is not JSON"))
    if faults:
        return Line(number, None, LineFault(number, faults[0].path, faults[0].message))
    return Line(number, value)
