"""Cursors: the position in a list, as an opaque text. It holds the sort key of the last row, and no secret.

Each part has a fixed number of hexadecimal digits, except a text, which is the last part. So every text of the form is
a sort key: the document describes cursors by a pattern, and an invented cursor is only a position between two rows.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from callboard.actors.errors import REQUEST_CURSOR_INVALID, FieldError, Problem
from callboard.http.server.request import PageReply

FIRST = datetime.min.replace(tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
K = TypeVar("K", bound=tuple[Any, ...])
T = TypeVar("T")


class Part(msgspec.Struct, frozen=True):
    """The encoding of one type as a number of at most `digits` hexadecimal digits."""

    digits: int
    pattern: str
    write: Callable[[Any], int]
    read: Callable[[int], Any]

    def encode(self, value: Any) -> str:
        """Return the digits."""
        return f"{self.write(value):0{self.digits}x}"

    def decode(self, digits: str) -> Any:
        """Return the value of digits that match the pattern."""
        return self.read(int(digits, 16))


class TextPart(msgspec.Struct, frozen=True):
    """The encoding of a text, as the digits of its UTF-8. Bytes that are no text are read as the nearest one."""

    digits: int = 800
    pattern: str = "([0-9a-f]{2}){1,400}"

    def encode(self, value: str) -> str:
        """Return the digits."""
        return value.encode().hex()

    def decode(self, digits: str) -> str:
        """Return the text of digits that match the pattern."""
        return bytes.fromhex(digits).decode("utf-8", "replace").replace("\0", "")


PARTS: dict[type, Part | TextPart] = {
    # Microseconds, to the year 9134.
    datetime: Part(
        15, "[0-3][0-9a-f]{14}", lambda at: (at - FIRST) // MICROSECOND, lambda us: FIRST + us * MICROSECOND
    ),
    UUID: Part(32, "[0-9a-f]{32}", lambda key: int(key.int), lambda bits: UUID(int=bits)),
    # A row's number: 63 bits.
    int: Part(16, "[0-7][0-9a-f]{15}", int, int),
    # A finite IEEE 754 double of at least 0.
    float: Part(
        16,
        "[0-6][0-9a-f]{15}",
        lambda number: int.from_bytes(struct.pack(">d", number)),
        lambda bits: float(struct.unpack(">d", bits.to_bytes(8))[0]),
    ),
    str: TextPart(),
}


class CursorFormat(Generic[K]):
    """The cursors of a list sorted by values of these types; `meta` annotates the `cursor` of its query."""

    def __init__(self, *types: type) -> None:
        self._parts = [PARTS[each] for each in types]
        pattern = f"^{''.join(part.pattern for part in self._parts)}$"
        self._fits = re.compile(pattern).fullmatch
        self.meta = Meta(
            min_length=1,
            description="The next_cursor of the previous page.",
            extra_json_schema={"pattern": pattern, "maxLength": sum(part.digits for part in self._parts)},
        )

    def encode(self, *values: Any) -> str:
        """Return the cursor of the row with this sort key."""
        return "".join(part.encode(value) for part, value in zip(self._parts, values, strict=True))

    def decode(self, text: str) -> K:
        """Return the sort key in a cursor. Raises Problem(REQUEST_CURSOR_INVALID) for a text of another form."""
        if self._fits(text) is None:
            fault = FieldError("cursor", "Was not issued by this server.")
            raise Problem(REQUEST_CURSOR_INVALID, details=(fault,))
        key: list[Any] = []
        for part in self._parts:
            key.append(part.decode(text[: part.digits]))
            text = text[part.digits :]
        return tuple(key)  # type: ignore[return-value]  # of the given types

    def page(
        self,
        found: Sequence[T],
        limit: int,
        sort_key: Callable[[T], tuple[Any, ...]],
        headers: Mapping[str, str] | None = None,
        *,
        is_public: bool = False,
    ) -> PageReply[T]:
        """Return the page of a list. Its query read one row more than `limit`: it shows that there is a next page."""
        cursor = self.encode(*sort_key(found[limit - 1])) if len(found) > limit else None
        return PageReply(found[:limit], limit=limit, next_cursor=cursor, headers=headers, is_public=is_public)


BY_TIME: CursorFormat[tuple[datetime, UUID]] = CursorFormat(datetime, UUID)
BY_TIME_AND_NUMBER: CursorFormat[tuple[datetime, int]] = CursorFormat(datetime, int)
BY_NUMBER: CursorFormat[tuple[int]] = CursorFormat(int)
BY_TEXT: CursorFormat[tuple[str]] = CursorFormat(str)
BY_NUMBER_AND_TEXT: CursorFormat[tuple[int, str]] = CursorFormat(int, str)
BY_RANK: CursorFormat[tuple[float, UUID]] = CursorFormat(float, UUID)
