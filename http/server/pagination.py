"""Cursors: where a list goes on, as an opaque text. Its content is the last row's sort key, and no secret."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, overload

import msgspec
from msgspec import Meta

from callboard.actors.errors import REQUEST_CURSOR_INVALID, FieldError, Problem

LONGEST = 1_000  # characters; ours have a time and an id

# What a client has tampered with must not reach PostgreSQL as a value it cannot hold.
STORABLE: dict[type, Any] = {
    int: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    datetime: Annotated[datetime, Meta(tz=True)],
}

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


def encode_cursor(*values: Any) -> str:
    """The cursor for the row with this sort key: `encode_cursor(row.created_at, row.content_id)`."""
    return urlsafe_b64encode(msgspec.json.encode(values)).rstrip(b"=").decode()


@overload
def decode_cursor(text: str, types: tuple[type[A]]) -> tuple[A]: ...
@overload
def decode_cursor(text: str, types: tuple[type[A], type[B]]) -> tuple[A, B]: ...
@overload
def decode_cursor(text: str, types: tuple[type[A], type[B], type[C]]) -> tuple[A, B, C]: ...
def decode_cursor(text: str, types: tuple[type[Any], ...]) -> tuple[Any, ...]:
    """The sort key a cursor was made of: `decode_cursor(text, (datetime, UUID))`.

    Raises Problem(REQUEST_CURSOR_INVALID) for anything that `encode_cursor` did not make of these types.
    """
    kind: Any = tuple[tuple(STORABLE.get(each, each) for each in types)]  # type: ignore[misc]  # built at run time
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        if len(text) > LONGEST or b"\\u0000" in raw:
            raise _refused()
        values: tuple[Any, ...] = msgspec.json.decode(raw, type=kind)
        return tuple(value.astimezone(UTC) if isinstance(value, datetime) else value for value in values)
    except (UnicodeError, NotBase64, msgspec.DecodeError, RecursionError, OverflowError) as error:
        raise _refused() from error


def _refused() -> Problem:
    return Problem(REQUEST_CURSOR_INVALID, details=(FieldError("cursor", "Is not one that this server gave."),))
