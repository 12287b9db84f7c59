"""What a client is told of a fault is a sentence of its own words."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from callboard.http.server.validation import validation_errors


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        ("x", int, "Must be a whole number."),
        (4, str | None, "Must be text or null."),
        ({}, list[int], "Must be a list."),
        (0, Annotated[int, Meta(ge=1)], "Must be at least 1."),
        (9, Annotated[float, Meta(lt=3)], "Must be less than 3."),
        ("xxxx", Annotated[str, Meta(max_length=3)], "Must have at most 3 characters."),
        ("", Annotated[str, Meta(min_length=1)], "Must have at least 1 character."),
        ([1, 2, 3], Annotated[list[int], Meta(max_length=2)], "Must have at most 2 entries."),
        ("z", UUID, "Must be a UUID."),
        ("soon", datetime, "Must be a time, such as 2026-03-01T12:00:00Z."),
        ("2026-03-01T12:00:00", Annotated[datetime, Meta(tz=True)], "Must be a time with its offset from UTC, or Z."),
    ],
)
def test_a_fault_is_told_in_a_sentence_without_the_words_of_python(value: Any, kind: Any, told: str) -> None:
    body = msgspec.defstruct("Body", [("field", kind)])
    (fault,) = validation_errors({"field": value}, body, "", strict=True)
    assert (fault.field, fault.message) == ("field", told)
