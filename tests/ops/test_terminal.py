"""Text of users on an operator's terminal moves no cursor, turns no writing around and hides nothing."""

import json
import unicodedata

import pytest

from callboard.ops.terminal import json_line, visible

HOSTILE = [
    "\x1b[2J",
    "\x9b31m",
    "a\rb",
    "a\u202eb",
    "\u200b",
    "\u2066x",
    "\x07",
    "\x7f",
    "\U000e0041",
    "\ufeff",
    "a\nb",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_shows_nothing_is_shown_as_its_escape(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(each).startswith("C") for each in shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_json_for_a_terminal_is_the_same_value(text: str) -> None:
    line = json_line({"full_name": text})
    assert line.isprintable()
    assert json.loads(line) == {"full_name": text}


@pytest.mark.parametrize("text", ["", "Ada Lovelace", "東京", "Zoë [bold]", "a\u00a0b".replace("\u00a0", " ")])
def test_what_can_be_read_stays_as_it_is(text: str) -> None:
    assert visible(text) == text
