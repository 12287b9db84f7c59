"""Preconditions of requests: If-Match, If-None-Match, If-Unmodified-Since and If-Modified-Since, evaluated here for
every tagged resource and every method (RFC 9110, 13).

A route that reads returns its tag in its reply, and the time of its last change if it has one: the condition is checked
against these. A route that changes declares a function that reads its resource's current tag, with that time if it has
one (`Route.current`); the condition is checked before its handler is called. The handler gets the tag that satisfied
the condition, and its UPDATE is guarded by that tag: a change by another client in between makes it fail like an unmet
condition.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from multidict import CIMultiDictProxy, istr

from callboard.actors.errors import REQUEST_INVALID, REQUEST_STALE, ErrorCode, ErrorKind, FieldError, Problem
from callboard.http.server.headers import joined, parse_date

IF_MATCH, IF_NONE_MATCH = istr("If-Match"), istr("If-None-Match")
IF_MODIFIED, IF_UNMODIFIED = istr("If-Modified-Since"), istr("If-Unmodified-Since")

TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\U0010ffff]*"'
# Possessive: a list that is malformed at its end is read once, and not once for each of its spaces.
TAGS = re.compile(rf"[ \t,]*+(?:{TAG}[ \t]*+(?:,[ \t,]*+|\Z))*+")
ONE_TAG = re.compile(TAG)
MAX_TAGS = 100
REPEATED = ("ETag", "Cache-Control", "Content-Location", "Last-Modified", "Vary")
ANY = "*"
WEAK = "W/"


class Validators(NamedTuple):
    """The current tag of a resource, without its quotes, and the time of its last change."""

    tag: str
    modified: datetime | None = None


class Condition(NamedTuple):
    """A request's preconditions: for each header its tags, unchanged; `("*",)` for any, None without the header.

    `modified_since` and `unmodified_since` are None without their headers, and beside If-None-Match and If-Match, which
    go before them.
    """

    match: tuple[str, ...] | None
    none_match: tuple[str, ...] | None
    modified_since: datetime | None = None
    unmodified_since: datetime | None = None

    def holds_for(self, tag: str, modified: datetime | None = None) -> bool:
        """Whether a change is allowed to the resource with this strong tag, given without its quotes."""
        return self.matches(tag, modified) and not self.is_known(tag)

    def matches(self, tag: str, modified: datetime | None = None) -> bool:
        """Whether If-Match holds: by the strong comparison, so a weak tag matches nothing. In its place
        If-Unmodified-Since.
        """
        if self.match is not None:
            return self.match == (ANY,) or f'"{tag}"' in self.match
        if self.unmodified_since is None or modified is None:
            return True
        return modified.replace(microsecond=0) <= self.unmodified_since

    def is_known(self, tag: str) -> bool:
        """Whether If-None-Match fails: by the weak comparison."""
        if self.none_match is None:
            return False
        return self.none_match == (ANY,) or f'"{tag}"' in [each.removeprefix(WEAK) for each in self.none_match]

    def is_unchanged(self, tag: str, modified: datetime | None) -> bool:
        """Whether the client of a read has this representation already. Times are sent, and compared, in seconds."""
        if self.modified_since is not None and modified is not None:
            return modified.replace(microsecond=0) <= self.modified_since
        return self.is_known(tag)


def condition_of(headers: CIMultiDictProxy[str]) -> Condition | None:
    """Return the preconditions of a request; None without any. Raises Problem(REQUEST_INVALID) for a header that is no
    list of tags; a time that is none is ignored (RFC 9110, 13.1.3).
    """
    if not (IF_MATCH in headers or IF_NONE_MATCH in headers or IF_MODIFIED in headers or IF_UNMODIFIED in headers):
        return None
    match, none_match = _tags(headers, IF_MATCH), _tags(headers, IF_NONE_MATCH)
    return Condition(
        match,
        none_match,
        _time(headers, IF_MODIFIED) if none_match is None else None,
        _time(headers, IF_UNMODIFIED) if match is None else None,
    )


def stale_code(errors: tuple[ErrorCode, ...]) -> ErrorCode:
    """Return the code of a failed precondition: a route's own, if it declares one."""
    return next((each for each in errors if each.kind is ErrorKind.STALE), REQUEST_STALE)


def _tags(headers: CIMultiDictProxy[str], name: str) -> tuple[str, ...] | None:
    sent = joined(headers, name)
    if sent is None:
        return None
    if sent.strip(" \t") == ANY:
        return (ANY,)
    tags = tuple(ONE_TAG.findall(sent)) if TAGS.fullmatch(sent) else ()
    if not 0 < len(tags) <= MAX_TAGS:
        raise Problem(REQUEST_INVALID, details=(FieldError(str(name), 'Must be ETags in quotes, such as "3", or *.'),))
    return tags


def _time(headers: CIMultiDictProxy[str], name: str) -> datetime | None:
    sent = joined(headers, name)
    return None if sent is None else parse_date(sent)


def repeated_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a 304 repeats (RFC 9110, 15.4.5)."""
    return {name: headers[name] for name in REPEATED if name in headers}
