"""Metrics for Prometheus: requests by route, and the tree's actors by name. No label holds anything of a user's."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from callboard.runtime import System, TreeNode

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # of a request's buckets
_FATES = ("handled", "failed", "expired", "dropped", "dead_lettered", "returned")


class Metrics:
    """One process's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = RequestCollector()
        self.registry.register(self._requests)
        self._counters: dict[tuple[str, str], Counter] = {}
        self._checks = Counter(
            "callboard_limit_checks",
            "Checks of rate limits by policy and outcome: allowed, refused, or shadowed (would have been refused).",
            ("policy", "outcome"),
            registry=self.registry,
        )

    def count_checks(self, policy: str, outcome: str, count: int) -> None:
        """Count checks of a rate limit."""
        counter = self._counters.get((policy, outcome))
        if counter is None:
            counter = self._counters[policy, outcome] = self._checks.labels(policy, outcome)
        counter.inc(count)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a response."""
        self._requests.observe(route, method, status, seconds)

    def watch(self, system: System) -> None:
        """Add the actors of a tree."""
        self.registry.register(TreeCollector(system))

    def page(self) -> bytes:
        """All of it, in the text format."""
        return generate_latest(self.registry)


class RequestCollector(Collector):
    """A histogram of requests, counted where there is one thread: prometheus_client's own takes a lock, and so three
    times as long as all else that is known of a request by then.
    """

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, int], list[int]] = {}  # in each bucket, and above all
        self._seconds: dict[tuple[str, str, int], float] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one."""
        key = method, route, status
        counts = self._series.get(key)
        if counts is None:
            counts = self._series[key] = [0] * (len(BOUNDS_S) + 1)
            self._seconds[key] = 0.0
        counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._seconds[key] += seconds

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        requests = HistogramMetricFamily(
            "callboard_http_request_seconds",
            "Requests by method, route and status.",
            labels=("method", "route", "status"),
        )
        names = [*(str(float(bound)) for bound in BOUNDS_S), "+Inf"]
        for (method, route, status), counts in self._series.items():
            buckets = list(zip(names, accumulate(counts), strict=True))
            requests.add_metric((method, route, str(status)), buckets, self._seconds[method, route, status])
        yield requests


class TreeCollector(Collector):
    """Reads the tree when Prometheus asks, so that counting costs nothing in between."""

    def __init__(self, system: System) -> None:
        self._system = system

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        messages = CounterMetricFamily("callboard_actor_messages", "Messages by fate.", labels=("actor", "fate"))
        depth = GaugeMetricFamily("callboard_actor_mailbox_depth", "Messages that wait.", labels=("actor",))
        restarts = CounterMetricFamily("callboard_actor_restarts", "Restarts.", labels=("actor",))
        for path, node in _actors(self._system.dump(), ""):
            if node.counts is None:
                continue
            depth.add_metric((path,), node.depth or 0)
            restarts.add_metric((path,), node.restarts)
            for fate in _FATES:
                messages.add_metric((path, fate), getattr(node.counts, fate))
        return messages, depth, restarts, *self._lag()

    def _lag(self) -> Iterator[Metric]:
        stalls = self._system.stalls
        if stalls is not None:
            now, most = (
                "How late the event loop is: just now.",
                "How late the event loop was: the most in half a minute.",
            )
            yield GaugeMetricFamily("callboard_loop_lag_seconds", now, value=stalls.lag_s)
            yield GaugeMetricFamily("callboard_loop_lag_max_seconds", most, value=stalls.max_lag_s)


def _actors(node: TreeNode, above: str) -> Iterator[tuple[str, TreeNode]]:
    path = f"{above}/{node.name}" if above else node.name
    yield path, node
    for child in node.children:
        yield from _actors(child, path)
