"""Metrics for Prometheus: requests by route, and the tree's actors by name. No label holds user data."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from callboard.actors.figures import Figure
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.refs import Gauge, Observers
from callboard.actors.infrastructure.statements import query_type
from callboard.http.server.connection_limits import Bound
from callboard.ops.tree_metrics import TreeCollector
from callboard.runtime import System

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # the bounds of request buckets


class Metrics:
    """One process's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = RequestCollector()
        self._queries = QueryCollector()
        self.registry.register(self._requests)
        self.registry.register(self._queries)
        self._counters: dict[tuple[str, str], Counter] = {}
        self._closed = Counter(
            "callboard_connections_closed",
            "Client connections closed at a limit: of one address, of all, or of unsent bytes.",
            ("bound",),
            registry=self.registry,
        )
        self._checks = Counter(
            "callboard_limit_checks",
            "Checks of rate limits by policy and outcome: allowed, refused, or shadowed (would have been refused).",
            ("policy", "outcome"),
            registry=self.registry,
        )
        self._registered = Counter(
            "users_registered",
            "New accounts, by registration, command or import; counted by the process that reads their event.",
            registry=self.registry,
        )
        self.active_users = Gauge()
        self.registry.register(ActiveUsersCollector(self.active_users))
        self._database_errors = Counter(
            "callboard_database_errors",
            "Errors of PostgreSQL by verdict (passes, conflict, slow, unmendable) and SQLSTATE.",
            ("verdict", "state"),
            registry=self.registry,
        )

        self._mails = Counter(
            "callboard_mails",
            "Deliveries of mails by result (sent, delayed, failed, dead) and reason.",
            ("result", "reason"),
            registry=self.registry,
        )

    def count_mail(self, result: str, reason: str) -> None:
        """Count the result of one delivery of a mail."""
        self._mails.labels(result, reason).inc()

    @property
    def observers(self) -> Observers:
        """Return the counters for the departments."""
        return Observers(self.count_registrations, self.count_checks, self.count_mail, self.active_users)

    def count_closed(self, bound: Bound) -> None:
        """Count a connection that was closed for a limit."""
        self._closed.labels(bound).inc()

    def count_checks(self, policy: str, outcome: str, count: int) -> None:
        """Count checks of a rate limit."""
        counter = self._counters.get((policy, outcome))
        if counter is None:
            counter = self._counters[policy, outcome] = self._checks.labels(policy, outcome)
        counter.inc(count)

    def count_database_error(self, verdict: str, state: str) -> None:
        """Count an error of PostgreSQL."""
        self._database_errors.labels(verdict, state).inc()

    def watch_figures(self, figures: Iterable[Figure]) -> None:
        """Add figures of departments."""
        for figure in figures:
            self.registry.register(FigureCollector(figure))

    def watch_database(self, database: Database) -> None:
        """Add the connection pools and the clock."""
        self.registry.register(DatabaseCollector(database))

    def count_registrations(self, count: int) -> None:
        """Count new accounts."""
        self._registered.inc(count)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a response."""
        self._requests.timings.observe((method, route, str(status)), seconds)

    def observe_query(self, query: Any) -> None:
        """Count a statement that asyncpg reports: its `query` and the `elapsed` seconds."""
        self._queries.timings.observe((query_type(query.query),), query.elapsed)

    def watch(self, system: System) -> None:
        """Add the actors of a tree."""
        self.registry.register(TreeCollector(system))

    def page(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self.registry)


class Timings:
    """A histogram of durations by their labels, for a process with one thread that counts.

    prometheus_client's own takes a lock, and so three times as long as all other records of a request.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], list[int]] = {}  # the count of each bucket, and of all larger values
        self.seconds: dict[tuple[str, ...], float] = {}

    def observe(self, labels: tuple[str, ...], seconds: float) -> None:
        """Count one."""
        counts = self.counts.get(labels)
        if counts is None:
            counts = self.counts[labels] = [0] * (len(BOUNDS_S) + 1)
            self.seconds[labels] = 0.0
        counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds[labels] += seconds

    def without_last_label(self) -> "Timings":
        """Return the same, summed over the last label."""
        summed = Timings()
        for labels, counts in self.counts.items():
            before = summed.counts.get(labels[:-1], [0] * len(counts))
            summed.counts[labels[:-1]] = [a + b for a, b in zip(before, counts, strict=True)]
            summed.seconds[labels[:-1]] = summed.seconds.get(labels[:-1], 0.0) + self.seconds[labels]
        return summed

    def family(self, name: str, meaning: str, labels: tuple[str, ...]) -> Metric:
        """Yield the samples in Prometheus's form."""
        family = HistogramMetricFamily(name, meaning, labels=labels)
        names = [*(str(float(bound)) for bound in BOUNDS_S), "+Inf"]
        for values, counts in self.counts.items():
            family.add_metric(values, list(zip(names, accumulate(counts), strict=True)), self.seconds[values])
        return family


class RequestCollector(Collector):
    """Requests. The endpoint is the route's pattern, so no user's id becomes a label."""

    def __init__(self) -> None:
        self.timings = Timings()

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        total = CounterMetricFamily("api_requests", "Requests.", labels=("method", "endpoint", "status"))
        for labels, counts in self.timings.counts.items():
            total.add_metric(labels, sum(counts))
        by_endpoint = self.timings.without_last_label()
        yield total
        yield by_endpoint.family(
            "api_request_duration_seconds", "Duration of requests in seconds.", ("method", "endpoint")
        )
        yield self.timings.family(
            "callboard_http_request_seconds",
            "Deprecated: see api_requests_total and api_request_duration_seconds.",
            ("method", "route", "status"),
        )


class QueryCollector(Collector):
    """Statements, by PostgreSQL's time."""

    def __init__(self) -> None:
        self.timings = Timings()

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        yield self.timings.family("db_query_duration_seconds", "Duration of statements in seconds.", ("query_type",))


class DatabaseCollector(Collector):
    """Collects the connection pools on a scrape."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        help_text = "Connections to PostgreSQL by pool: open (in use or idle), in use, and the maximum."
        connections = GaugeMetricFamily("db_connection_pool_size", help_text, labels=("pool", "state"))
        for kind, pool in self._database.kinds().items():
            for state, count in pool.connections().items():
                connections.add_metric((kind, state), count)
        yield connections
        away = "1 if PostgreSQL is available, else 0."
        yield GaugeMetricFamily("callboard_database_up", away, value=float(self._database.available.is_set()))
        skew = "Seconds by which the database's clock is ahead of this process's."
        yield GaugeMetricFamily("callboard_clock_skew_seconds", skew, value=self._database.server.skew_s)


class FigureCollector(Collector):
    """Reads a figure of a department on a scrape."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        figure = self._figure
        kind = CounterMetricFamily if figure.is_counter else GaugeMetricFamily
        family = kind(figure.name, figure.meaning, labels=figure.labels)
        for labels, value in figure.read().items():
            family.add_metric(labels, value)
        yield family


class ActiveUsersCollector(Collector):
    """Shows the last count."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        if self._gauge.value is not None:
            meaning = "Users of the installation with a session used in the last 15 minutes."
            yield GaugeMetricFamily("active_users", meaning, value=self._gauge.value)
