"""No regular expression of ours backtracks for long, whatever it is given."""

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
CALLS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
LENGTH = 4_000  # more than any text that a door lets through to a pattern, but for the bodies of articles
FLAGS = {
    **dict.fromkeys(("I", "IGNORECASE"), re.IGNORECASE),
    **dict.fromkeys(("X", "VERBOSE"), re.VERBOSE),
    **dict.fromkeys(("S", "DOTALL"), re.DOTALL),
    **dict.fromkeys(("A", "ASCII"), re.ASCII),
}


def patterns() -> Iterator[tuple[str, str, int]]:
    """Every literal pattern in our code: where it stands, what it is, and its flags."""
    for folder in ("actors", "http", "streams", "ops", "runtime"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            for node in ast.walk(ast.parse(text)) if "re." in text else ():
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
                    owner, first = node.func.value, node.args[0] if node.args else None
                    if isinstance(owner, ast.Name) and owner.id == "re" and isinstance(first, ast.Constant):
                        if isinstance(first.value, bytes):
                            continue
                        names = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
                        flags = sum(FLAGS[name] for name in names & set(FLAGS))
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", str(first.value), flags


PATTERNS = list(patterns())


def hostile(pattern: str) -> Iterator[str]:
    """Repetitions of what the pattern itself is made of, with an end that does not fit."""
    letters = sorted(set(re.sub(r"\\.", "", pattern)) - set("()[]{}|?*+^$.\\")) or ["a"]
    units = [
        *letters,
        "a",
        " ",
        "\t",
        "0",
        "<",
        '"',
        "=",
        "a=",
        "a ",
        "<a ",
        "=?",
        "%",
        ",",
        "a.",
        "a@",
        "::",
        "\\",
        "é",
    ]
    for unit in dict.fromkeys(units):
        text = unit * (LENGTH // len(unit))
        yield text + "\x00"
        yield "a" + text + "!"


def test_the_patterns_are_found() -> None:
    assert len(PATTERNS) > 30, "most of what there is"


@pytest.mark.parametrize(("pattern", "flags"), [each[1:] for each in PATTERNS], ids=[each[0] for each in PATTERNS])
def test_a_pattern_never_backtracks_for_long(pattern: str, flags: int) -> None:
    compiled = re.compile(pattern, flags)
    for text in hostile(pattern):
        for ask in (compiled.search, compiled.fullmatch):
            began = time.thread_time()
            ask(text)
            assert time.thread_time() - began < 1, (ask, text[:20])
