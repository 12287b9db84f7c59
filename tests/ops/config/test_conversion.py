"""Conversion: a text or a value of a file becomes what its type declares, or a fault that quotes none of it."""

from enum import IntEnum
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from callboard.actors.department import Role
from callboard.actors.settings import Parsed
from callboard.ops.config.conversion import convert


class Size(IntEnum):
    SMALL = 1
    LARGE = 3


Words = tuple[Annotated[str, Meta(pattern=r"\A[a-z]+\Z", title="small words")], ...]


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (int, "+5", 5),
        (Annotated[float, Meta(gt=0)], "0.25", 0.25),
        (bool, "TRUE", True),
        (int | None, "3", 3),
        (Words, "a, b\nc", ("a", "b", "c")),
        (frozenset[Role], "Front", {Role.FRONT}),
        (Role, "WORKERS", Role.WORKERS),
        (Literal[1, 2], "2", 2),
        (Size, "3", Size.LARGE),
    ],
)
def test_a_text_is_read_as_the_type_of_its_field_wants_it(kind: Any, given: str, value: Any) -> None:
    assert convert(kind, given, text=True) == value


@pytest.mark.parametrize(
    ("kind", "given", "must"),
    [
        (Annotated[int, Meta(ge=2)], 1, "must be a whole number, at least 2"),
        (Annotated[float, Meta(gt=0, le=5)], 6, "must be a number, more than 0, at most 5"),
        (float, float("inf"), "must be a finite number"),
        (float, "nan", "must be a number"),
        (int, True, "must be a whole number"),
        (bool, 1, "must be true or false"),
        (Words, "a", "must be a list"),
        (Words, ["a", "B"], "must be small words"),
        (Role, "kitchen", "must be front, streams or workers"),
        (Role, 3, "must be front, streams or workers"),
        (Literal[1, 2], 3, "must be 1 or 2"),
        (Size, 7, "must be 1 or 3"),
        (frozenset[Role], ["kitchen"], "must be some of front, streams, workers"),
        (Annotated[str, Parsed(int)], 3.5, "must be text"),
    ],
)
def test_a_value_of_a_file_is_held_against_the_type_and_none_is_quoted(kind: Any, given: Any, must: str) -> None:
    with pytest.raises(ValueError, match=rf"^{must}$"):
        convert(kind, given, text=False)
