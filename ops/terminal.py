"""Text of users on a terminal: unchanged, except characters that move the cursor or reverse the writing."""

import sys
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDTH = 200  # of a table that goes to a pipe or a file


def visible(text: str) -> str:
    """Return the text with invisible characters as escapes: controls, bidi marks, zero-width ones.

    A user's name with an escape sequence must not paint an operator's screen, nor hide the rest of its line.
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else _escaped(each) for each in text)


def json_line(value: object) -> str:
    """Return the value as JSON on one line, with the same characters escaped in JSON's way."""
    return visible(msgspec.json.encode(value).decode())


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def print_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows as a table with these headings; None is an empty cell."""
    table = Table(*names)
    for row in rows:
        table.add_row(*("" if cell is None else escape(visible(str(cell))) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
