"""Ranges of bytes that a client asks for (RFC 9110, 14), of a body that can be read from any byte on.

One range is answered by 206 or refused by 416. Several ranges, other units and what is malformed are answered with the
whole body, as the RFC allows: nobody can have us send the same bytes many times over in one response.
"""

import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from multidict import CIMultiDictProxy, istr

from callboard.actors.errors import REQUEST_RANGE, Problem
from callboard.http.server.headers import joined, parse_date
from callboard.http.server.response import Stream

RANGE, IF_RANGE = istr("Range"), istr("If-Range")
ONE_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,2000})-([0-9]{0,2000})[ \t]*", re.IGNORECASE)


class RangedBody:
    """A body of `size` bytes that is read while it is sent; `read(start, stop)` yields a part of it."""

    __slots__ = ("read", "size")

    def __init__(self, size: int, read: Callable[[int, int], AsyncIterator[bytes]]) -> None:
        self.size = size
        self.read = read

    def part(self, found: tuple[int, int] | None) -> Stream:
        """Return the body, or the part of a range."""
        start, stop = found or (0, self.size)
        return Stream(stop - start, self.read(start, stop))


def range_of(
    headers: CIMultiDictProxy[str], size: int, tag: str | None, modified: datetime | None
) -> tuple[int, int] | None:
    """Return the first byte that is asked for and the one after the last; None for all of them.

    Raises Problem(REQUEST_RANGE) for a range without a byte of the body.
    """
    sent = joined(headers, RANGE)
    match = None if sent is None else ONE_RANGE.fullmatch(sent.strip(" \t"))
    if match is None or not (match[1] or match[2]) or not _still_holds(headers, tag, modified):
        return None
    first, last = _number(match[1], size), _number(match[2], size)
    if match[1] and match[2] and _is_less(match[2], match[1]):
        return None
    start, stop = (first, size if not match[2] else min(last + 1, size)) if match[1] else (max(0, size - last), size)
    if start >= stop:
        raise Problem(REQUEST_RANGE, allowed=(f"bytes */{size}",))
    return start, stop


def _number(digits: str, size: int) -> int:
    """Return a number, or `size` for any that is larger: Python refuses to read very long ones."""
    digits = digits.lstrip("0")
    return size if len(digits) > len(str(size)) else min(int(digits or "0"), size)


def _is_less(left: str, right: str) -> bool:
    left, right = left.lstrip("0"), right.lstrip("0")
    return (len(left), left) < (len(right), right)


def _still_holds(headers: CIMultiDictProxy[str], tag: str | None, modified: datetime | None) -> bool:
    """Whether If-Range holds: by the strong comparison of tags, or by exactly the same time."""
    sent = joined(headers, IF_RANGE)
    if sent is None:
        return True
    sent = sent.strip(" \t")
    if sent.startswith(('"', "W/")):
        return tag is not None and sent == f'"{tag}"'
    return modified is not None and parse_date(sent) == modified.replace(microsecond=0)
