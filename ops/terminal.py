"""Text of users on a terminal: unchanged, except characters that move the cursor or reverse the writing."""

import msgspec


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
