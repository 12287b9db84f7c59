"""The times of documents that are made of many rows, for If-Modified-Since: feeds and the sitemap.

No row has the time at which an article left a feed, or its author got another name. So a process remembers, by the
database's clock, when it first saw a document as it is. Another process has seen it at another time, which costs a
client at most one response that it could have been spared.
"""

from collections.abc import Callable
from datetime import datetime

MOST = 1_000  # documents that are remembered, those that were read last


class DocumentTimes:
    """The documents' times in one process, given its clock of the database."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self._seen: dict[str, tuple[str, datetime]] = {}

    def modified(self, path: str, tag: str, began: datetime) -> datetime | None:
        """Return the time of the last change of the document whose reading `began` then and found this tag. It is None
        in the second of the change, since times of HTTP have seconds: the document may change again within it.
        """
        known, at = self._seen.pop(path, ("", began))
        if known != tag:
            at = self.now()
        self._seen[path] = tag, at
        if len(self._seen) > MOST:
            del self._seen[next(iter(self._seen))]
        return at if at.replace(microsecond=0) < began.replace(microsecond=0) else None
