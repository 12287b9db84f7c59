"""Metrics for Prometheus: requests by route, and the tree's actors by name. No label holds anything of a user's."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from callboard.runtime import System, TreeNode

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FATES = ("handled", "failed", "expired", "dropped", "dead_lettered", "returned")


class Metrics:
    """One process's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Histogram(
            "callboard_http_request_seconds",
            "Requests by method, route and status.",
            ("method", "route", "status"),
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )
        self._observers: dict[tuple[str, str, int], Callable[[float], None]] = {}  # as many as the series there are
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
        observe = self._observers.get((route, method, status))
        if observe is None:
            observe = self._observers[route, method, status] = self._requests.labels(method, route, str(status)).observe
        observe(seconds)

    def watch(self, system: System) -> None:
        """Add the actors of a tree."""
        self.registry.register(TreeCollector(system))

    def page(self) -> bytes:
        """All of it, in the text format."""
        return generate_latest(self.registry)


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
