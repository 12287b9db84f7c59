"""The times of statements by the product's own metric, `db_query_duration_seconds`."""

import re
from typing import NamedTuple

from kit.running import Up, request

BUCKET = re.compile(r'^db_query_duration_seconds_bucket\{.*le="([^"]+)".*\} (\S+)$', re.MULTILINE)


class SqlTimes(NamedTuple):
    """Statements so far by the upper bounds of their seconds, each bucket with those below it."""

    counts: dict[float, float]

    def since(self, before: "SqlTimes") -> "SqlTimes":
        """Return those after an earlier look."""
        return SqlTimes({bound: count - before.counts.get(bound, 0.0) for bound, count in self.counts.items()})


def read_times(up: Up) -> SqlTimes:
    """Read the metric; the kinds of statements are summed."""
    page = request("GET", f"{up.operators}/metrics").body.decode()
    counts: dict[float, float] = {}
    for bound, count in BUCKET.findall(page):
        counts[float(bound)] = counts.get(float(bound), 0.0) + float(count)
    return SqlTimes(counts)


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
