"""Answers of a service that are kept for a while: fresh ones spare a request, stale ones replace a failed one."""

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

OK = 200
ENTRY_BYTES = 500  # beside the body and the path


class OutsideAnswer(Struct, frozen=True):
    """An answer of the service. A stale one was given `age_s` ago, and the service has no newer one now."""

    status: int
    content_type: str
    body: bytes
    age_s: float = 0.0
    is_stale: bool = False


class AnswerCache:
    """The last answers by path, bounded by their age and their bytes; those used least recently go first."""

    def __init__(self, fresh_s: float, stale_s: float, most_bytes: int, clock: Callable[[], float]) -> None:
        self._fresh_s = fresh_s
        self._stale_s = max(stale_s, fresh_s)
        self._most_bytes = most_bytes
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, OutsideAnswer]] = OrderedDict()
        self.bytes = 0

    def fresh(self, path: str) -> OutsideAnswer | None:
        """Return an answer that needs no confirmation."""
        return self._find(path, self._fresh_s, is_stale=False)

    def stale(self, path: str) -> OutsideAnswer | None:
        """Return an answer that is better than none."""
        return self._find(path, self._stale_s, is_stale=True)

    def _find(self, path: str, life_s: float, *, is_stale: bool) -> OutsideAnswer | None:
        if path not in self._kept:
            return None
        at, answer = self._kept[path]
        age_s = self._clock() - at
        if age_s >= life_s:
            if age_s >= self._stale_s:
                self._drop(path)
            return None
        self._kept.move_to_end(path)
        return replace(answer, age_s=age_s, is_stale=is_stale)

    def put(self, path: str, answer: OutsideAnswer) -> None:
        """Keep a successful answer; any other one replaces what was known of the path."""
        if path in self._kept:
            self._drop(path)
        if answer.status != OK or _size(path, answer) > self._most_bytes:
            return
        self._kept[path] = self._clock(), answer
        self.bytes += _size(path, answer)
        while self.bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, path: str) -> None:
        _, answer = self._kept.pop(path)
        self.bytes -= _size(path, answer)


def _size(path: str, answer: OutsideAnswer) -> int:
    return len(path) + len(answer.body) + ENTRY_BYTES
