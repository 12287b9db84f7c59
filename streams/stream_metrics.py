"""Counts and gauges of the streams of one process, read by the metrics page and by /ready. No label holds user data."""

import time
from collections import Counter
from collections.abc import Callable

from msgspec import Struct

STALLED_AFTER_S = 30.0
_REPEAT_S = 60.0  # a reason that goes on is logged again after this time
_REASONS = 256  # that are remembered; producers choose some of the words in them


class PartitionLag(Struct):
    """How many records of a partition wait, and since when none has left (of the clock; None while none waits)."""

    records: int = 0
    stalled_since: float | None = None


class StreamMetrics:
    """The counters of this process's consumers and relay. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.dead_letters: Counter[tuple[str, str]] = Counter()  # by topic and reason
        self.published: Counter[str] = Counter()  # by topic
        self.publish_refusals: Counter[tuple[str, str]] = Counter()  # by topic and error
        self.refusing_topics: dict[str, str] = {}  # topics that take nothing just now, and why
        self.waiting_rows = 0  # rows of the outbox that were refused and are tried again later
        self.oldest_pending_s = 0.0  # the age of the oldest row that could be published
        self.relay_leads = False
        self.lag: dict[tuple[str, int], PartitionLag] = {}
        self._clock = clock
        self._reasons: dict[tuple[str, ...], float] = {}

    def is_news(self, *reason: str) -> bool:
        """Whether a reason is worth a log line: it is new, or was last logged a minute ago."""
        now = self._clock()
        if now - self._reasons.get(reason, -_REPEAT_S) < _REPEAT_S:
            return False
        self._reasons.pop(reason, None)
        if len(self._reasons) >= _REASONS:
            del self._reasons[next(iter(self._reasons))]
        self._reasons[reason] = now
        return True

    def set_lag(self, topic: str, partition: int, records: int, *, progressed: bool) -> None:
        """Records of a partition that wait, and whether some have left since the last call."""
        lag = self.lag.setdefault((topic, partition), PartitionLag())
        lag.records = records
        if records == 0:
            lag.stalled_since = None
        elif progressed or lag.stalled_since is None:
            lag.stalled_since = self._clock()

    def stalled(self) -> list[str]:
        """The partitions that have stood still for half a minute while records wait, one sentence each."""
        now = self._clock()
        return [
            f"{topic}[{partition}] stands still for {now - lag.stalled_since:.0f} s, {lag.records} records wait"
            for (topic, partition), lag in sorted(self.lag.items())
            if lag.stalled_since is not None and now - lag.stalled_since >= STALLED_AFTER_S
        ]
