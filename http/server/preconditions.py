"""Preconditions of requests: If-Match and If-None-Match, evaluated here for every tagged resource and every method (RFC
9110, 13).

A route that reads returns its tag in its reply, and the condition is checked against that. A route that changes
declares a function that reads its resource's current tag (`Route.current`); the condition is checked before its handler
is called. The handler gets the tag that satisfied the condition, and its UPDATE is guarded by that tag: a change by
another client in between makes it fail like an unmet condition.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from multidict import CIMultiDictProxy, istr

from callboard.actors.errors import REQUEST_INVALID, REQUEST_STALE, ErrorCode, ErrorKind, FieldError, Problem
from callboard.http.server.headers import joined

IF_MATCH, IF_NONE_MATCH = istr("If-Match"), istr("If-None-Match")

TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\U0010ffff]*"'
TAGS = re.compile(rf"[ \t]*(?:{TAG})?(?:[ \t]*,[ \t]*(?:{TAG})?)*[ \t]*")
ONE_TAG = re.compile(TAG)
MAX_TAGS = 100
ANY = "*"
WEAK = "W/"


class Condition(NamedTuple):
    """A request's preconditions: for each header its tags, unchanged; `("*",)` for any, None without the header."""

    match: tuple[str, ...] | None
    none_match: tuple[str, ...] | None

    def holds_for(self, tag: str) -> bool:
        """Whether a change is allowed to the resource with this strong tag, given without its quotes."""
        return self.matches(tag) and not self.is_known(tag)

    def matches(self, tag: str) -> bool:
        """Whether If-Match holds: by the strong comparison, so a weak tag matches nothing."""
        return self.match is None or self.match == (ANY,) or f'"{tag}"' in self.match

    def is_known(self, tag: str) -> bool:
        """Whether If-None-Match fails: by the weak comparison."""
        if self.none_match is None:
            return False
        return self.none_match == (ANY,) or f'"{tag}"' in [each.removeprefix(WEAK) for each in self.none_match]


def condition_of(headers: CIMultiDictProxy[str]) -> Condition | None:
    """Return the preconditions of a request; None without any. Raises Problem(REQUEST_INVALID) for a header that is no
    list of tags.
    """
    if IF_MATCH not in headers and IF_NONE_MATCH not in headers:
        return None
    return Condition(_tags(headers, IF_MATCH), _tags(headers, IF_NONE_MATCH))


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


def repeated_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a 304 repeats (RFC 9110, 15.4.5)."""
    return {name: headers[name] for name in ("ETag", "Cache-Control", "Content-Location", "Vary") if name in headers}
