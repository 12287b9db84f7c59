"""Counts and gauges of the streams of one process, read by the metrics page and by /ready. No label holds user data."""

import time
from collections import Counter
from collections.abc import Callable

from msgspec import Struct

STALLED_AFTER_S = 30.0
_REPEAT_S = 60.0  # a reason that persists is logged again after this time
_REASONS = 256  # reasons that are remembered; producers choose some of the words in them


class PartitionLag(Struct):
    """The number of records that wait in a partition (None: it is not known), and since when (of the clock) its group
    stands still although some wait or the number is not known; None if it does not.
    """

    records: int | None = 0
    position: int = 0
    stalled_since: float | None = None


class StreamMetrics:
    """The counters of this process's consumers and relay. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.dead_letters: Counter[tuple[str, str]] = Counter()  # by topic and reason
        self.replays: Counter[tuple[str, str]] = Counter()  # of dead letters, by topic and outcome: done or dead
        self.published: Counter[str] = Counter()  # by topic
        self.publish_refusals: Counter[tuple[str, str]] = Counter()  # by topic and error
        self.refusing_topics: dict[str, str] = {}  # topics that accept nothing now, with the reason
        self.waiting_rows = 0  # refused rows of the outbox that are retried later
        self.oldest_pending_s = 0.0  # the age of the oldest row that could be published
        self.relay_leads = False
        self.lag: dict[tuple[str, int], PartitionLag] = {}
        self._clock = clock
        self._reasons: dict[tuple[str, ...], float] = {}

    def is_news(self, *reason: str) -> bool:
        """Whether a reason is to be logged: it is new, or was last logged a minute ago."""
        now = self._clock()
        if now - self._reasons.get(reason, -_REPEAT_S) < _REPEAT_S:
            return False
        self._reasons.pop(reason, None)
        if len(self._reasons) >= _REASONS:
            del self._reasons[next(iter(self._reasons))]
        self._reasons[reason] = now
        return True

    def set_lag(self, topic: str, partition: int, records: int | None, position: int) -> None:
        """Note a partition's waiting records, and the group's position in it."""
        lag = self.lag.setdefault((topic, partition), PartitionLag(position=position))
        moved = records is not None and position != lag.position
        if records == 0:
            lag.stalled_since = None
        elif moved or lag.stalled_since is None:
            lag.stalled_since = self._clock()
        lag.records, lag.position = records, position

    def stalled_s(self) -> dict[tuple[str, int], float]:
        """Return for each partition how long its group has stood still while records wait."""
        now = self._clock()
        return {
            place: 0.0 if lag.stalled_since is None else now - lag.stalled_since
            for place, lag in sorted(self.lag.items())
        }

    def stalled(self) -> list[str]:
        """List the partitions that have stood still for half a minute while records wait, one sentence each."""
        told = []
        for (topic, partition), seconds in self.stalled_s().items():
            if seconds >= STALLED_AFTER_S:
                records = self.lag[topic, partition].records
                count = "an unknown number of" if records is None else records
                told.append(f"{topic}[{partition}] stands still for {seconds:.0f} s, {count} records wait")
        return told
