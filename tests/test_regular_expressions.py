"""No regular expression of ours backtracks for long, whatever it is given."""

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
CALLS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
CALLED = re.compile(rf"\bre\.(?:{'|'.join(CALLS)})\(")
LENGTH = 4_000  # more than any text that a door lets through to a pattern, but for the bodies of articles
HEAD = 16_000  # a header on several lines may be as long, and longer
SLOW_S = 1.0
FLAGS = {
    **dict.fromkeys(("I", "IGNORECASE"), re.IGNORECASE),
    **dict.fromkeys(("X", "VERBOSE"), re.VERBOSE),
    **dict.fromkeys(("S", "DOTALL"), re.DOTALL),
    **dict.fromkeys(("A", "ASCII"), re.ASCII),
}
SOURCES = {
    path.relative_to(ROOT): path.read_text()
    for folder in ("actors", "http", "streams", "ops", "runtime")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def literals() -> Iterator[tuple[str, str, int]]:
    """Every literal pattern in our code: where it stands, what it is, and its flags."""
    for path, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)) if CALLED.search(text) else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
                owner, first = node.func.value, node.args[0] if node.args else None
                if isinstance(owner, ast.Name) and owner.id == "re" and isinstance(first, ast.Constant):
                    if isinstance(first.value, bytes):
                        continue
                    names = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
                    flags = sum(FLAGS[name] for name in names & set(FLAGS))
                    yield f"{path}:{node.lineno}", str(first.value), flags


def of_heads() -> Iterator[tuple[str, re.Pattern[Any], str]]:
    """Every compiled pattern of the HTTP server and its routes, however it was put together, with each of its uses."""
    for path, text in SOURCES.items():
        if path.parts[0] != "http" or path.name == "__init__.py":
            continue
        module = importlib.import_module(f"callboard.{'.'.join(path.with_suffix('').parts)}")
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern) and re.search(rf"^{name}\b.* = ", text, re.MULTILINE):
                yield from ((f"{path}:{name}.{use}", value, use) for use in sorted(CALLS) if f"{name}.{use}" in text)


LITERALS, OF_HEADS = list(literals()), list(of_heads())


def hostile(pattern: str, length: int = LENGTH) -> Iterator[str]:
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
        text = unit * (length // len(unit))
        yield text + "\x00"
        yield "a" + text + "!"
        yield f'"a",{text}!'


def ask_within(ask: Callable[..., Any], text: str | bytes) -> None:
    began = time.thread_time()
    ask(text)
    assert time.thread_time() - began < SLOW_S, (ask, text[:20])


def test_the_patterns_are_found() -> None:
    assert len(LITERALS) > 30, "most of what there is"
    assert "http/server/preconditions.py:TAGS.fullmatch" in [each[0] for each in OF_HEADS]


@pytest.mark.parametrize(("pattern", "flags"), [each[1:] for each in LITERALS], ids=[each[0] for each in LITERALS])
def test_a_pattern_never_backtracks_for_long(pattern: str, flags: int) -> None:
    compiled = re.compile(pattern, flags)
    for text in hostile(pattern):
        for ask in (compiled.search, compiled.fullmatch):
            ask_within(ask, text)


@pytest.mark.parametrize(("pattern", "use"), [each[1:] for each in OF_HEADS], ids=[each[0] for each in OF_HEADS])
def test_a_pattern_for_heads_never_backtracks_for_long(pattern: re.Pattern[Any], use: str) -> None:
    is_text = isinstance(pattern.pattern, str)
    for text in hostile(pattern.pattern if is_text else pattern.pattern.decode("latin-1"), HEAD):
        ask: Callable[..., Any] = getattr(pattern, use)
        given = text if is_text else text.encode()
        ask_within((lambda it, ask=ask: ask("", it)) if use == "sub" else ask, given)
