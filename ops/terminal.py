"""Text of users on a terminal: shown as it is, but for what moves the cursor or turns the writing around."""

import msgspec


def visible(text: str) -> str:
    """The text with every character that shows nothing as its escape: controls, bidi marks, zero-width ones.

    A user's name with an escape sequence in it must not paint an operator's screen, nor hide the rest of its line.
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else _escaped(each) for each in text)


def json_line(value: object) -> str:
    """The value as JSON on one line, with the same characters escaped as JSON has it."""
    return visible(msgspec.json.encode(value).decode())


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
