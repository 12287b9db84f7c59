"""The times of statements and the lag of the loop by the product's own metrics."""

import re
from typing import NamedTuple

from kit.running import Up, request

LAG = re.compile(r"^callboard_loop_lag_max_seconds (\S+)$", re.MULTILINE)
BUCKET = re.compile(r'^db_query_duration_seconds_bucket\{.*le="([^"]+)".*\} (\S+)$', re.MULTILINE)


class SqlTimes(NamedTuple):
    """Statements so far by the upper bounds of their seconds, each bucket with those below it."""

    counts: dict[float, float]

    def since(self, before: "SqlTimes") -> "SqlTimes":
        """Return those after an earlier look."""
        return SqlTimes({bound: count - before.counts.get(bound, 0.0) for bound, count in self.counts.items()})


def read_times(up: Up) -> tuple[SqlTimes, float]:
    """Read the metrics: all kinds of statements, and the worst lag of the last half minute in seconds."""
    page = request("GET", f"{up.operators}/metrics").body.decode()
    lag = LAG.search(page)
    counts: dict[float, float] = {}
    for bound, count in BUCKET.findall(page):
        counts[float(bound)] = counts.get(float(bound), 0.0) + float(count)
    return SqlTimes(counts), float(lag[1]) if lag else 0.0


def quantile(times: SqlTimes, share: float) -> float:
    """Return the seconds within which so large a share ends, as Prometheus's histogram_quantile does."""
    bounds = sorted(times.counts)
    wanted = share * times.counts[bounds[-1]]
    below, count_below = 0.0, 0.0
    for bound in bounds:
        count = times.counts[bound]
        if count >= wanted and count > count_below:
            if bound == float("inf"):
                return below
            return below + (bound - below) * (wanted - count_below) / (count - count_below)
        below, count_below = bound, count
    return below
