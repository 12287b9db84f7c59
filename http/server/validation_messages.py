"""The faults that msgspec finds, in the words of a client: it knows no `str` and no `array`, and reads sentences."""

import re

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "uuid": "a UUID",
    "datetime": "a time",
    "null": "null",
}
_KNOWN = {
    "Invalid UUID": "Must be a UUID.",
    "Invalid RFC3339 encoded datetime": "Must be a time, such as 2026-03-01T12:00:00Z.",
    "Expected `datetime` with a timezone component": "Must be a time with its offset from UTC, or Z.",
}
_TYPE = re.compile(r"Expected `([^`]+)`, got `[^`]+`")
_LENGTH = re.compile(r"Expected `(\w+)` of length (<=|>=) (\d+)")
_BOUND = re.compile(r"Expected `\w+` (<=|>=|<|>) (\S+)")
_BOUNDS = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}


def sentence_of(said: str) -> str:
    """Return the sentence for a message of msgspec without its place; an unknown one stays as it is."""
    if found := _TYPE.fullmatch(said):
        return f"Must be {' or '.join(_WORDS.get(each, each) for each in found[1].split(' | '))}."
    if found := _LENGTH.fullmatch(said):
        one, many = ("character", "characters") if found[1] == "str" else ("entry", "entries")
        return f"Must have {_BOUNDS[found[2]]} {found[3]} {one if found[3] == '1' else many}."
    if found := _BOUND.fullmatch(said):
        return f"Must be {_BOUNDS[found[1]]} {found[2].removesuffix('.0')}."
    return _KNOWN.get(said, said)
