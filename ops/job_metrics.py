"""Metrics of the job queue: the counters of this process, and the last figures of its monitor. Labels are names of
kinds.
"""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_monitor import JobDepths

KIND = ("kind",)


class JobCollector(Collector):
    """Collects on a scrape, without asking the database."""

    def __init__(self, counts: JobCounts, depths: JobDepths) -> None:
        self._counts = counts
        self._depths = depths

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        yield from self._counted()
        yield from self._seen()

    def _counted(self) -> Iterable[Metric]:
        outcomes = CounterMetricFamily("callboard_job_outcomes", "Finished attempts.", labels=("kind", "outcome"))
        for kind, counter in self._counts.outcomes.items():
            for outcome, count in counter.items():
                outcomes.add_metric((kind, outcome), count)
        yield outcomes
        for name, meaning in (
            ("claims", "Claims that returned jobs."),
            ("attempts", "Started attempts."),
            ("lost", "Lost leases that this process swept."),
        ):
            family = CounterMetricFamily(f"callboard_job_{name}", meaning, labels=KIND)
            for kind, counter in self._counts.by_kind.items():
                family.add_metric((kind,), counter[name])
            yield family
        for name, meaning in (("waited", "Seconds from a job's due time to its start."), ("run", "Seconds run.")):
            family = CounterMetricFamily(f"callboard_job_{name}_seconds", meaning, labels=KIND)
            for kind, seconds in self._counts.seconds.items():
                family.add_metric((kind,), seconds[name])
            yield family
        for name, value in (("empty", self._counts.empty_claims), ("failed", self._counts.failed_claims)):
            yield CounterMetricFamily(f"callboard_job_{name}_claims", f"Claims that were {name}.", value=value)

    def _seen(self) -> Iterable[Metric]:
        for name, meaning in (
            ("waiting", "Waiting jobs; 10001 means that many or more."),
            ("blocked", "Jobs blocked by others with their order key; 10001 means that many or more."),
            ("running", "Running jobs in all processes."),
            ("dead", "Dead letters to be decided on; 10001 means that many or more."),
        ):
            family = GaugeMetricFamily(f"callboard_jobs_{name}", meaning, labels=KIND)
            for kind, depth in self._depths.kinds.items():
                if not depth.unclaimed:
                    family.add_metric((kind,), getattr(depth, name))
            yield family
        oldest = GaugeMetricFamily(
            "callboard_jobs_oldest_seconds", "Age of the oldest due job in seconds; 0 means none.", labels=KIND
        )
        unclaimed = GaugeMetricFamily("callboard_jobs_unclaimed", "Jobs of unknown kinds.", labels=KIND)
        for kind, depth in self._depths.kinds.items():
            (unclaimed if depth.unclaimed else oldest).add_metric(
                (kind,), depth.waiting if depth.unclaimed else depth.oldest_s
            )
        yield oldest
        yield unclaimed
        alarms = GaugeMetricFamily(
            "callboard_jobs_alarm_seconds", "The age of the oldest due job at which its kind is late.", labels=KIND
        )
        for kind, seconds in self._depths.alarms.items():
            alarms.add_metric((kind,), seconds)
        yield alarms
        purged = GaugeMetricFamily(
            "callboard_retention_oldest_seconds",
            "Seconds for which the oldest expired row has been due for purging.",
            labels=("rule",),
        )
        for rule, seconds in self._depths.retention.items():
            purged.add_metric((rule,), seconds)
        yield purged
        yield GaugeMetricFamily(
            "callboard_jobs_dead_tuples", "Dead rows in the table of jobs.", value=self._depths.dead_tuples
        )
        yield GaugeMetricFamily(
            "callboard_database_oldest_snapshot_seconds",
            "Age of the oldest snapshot; vacuum keeps the rows that it may see.",
            value=self._depths.oldest_snapshot_s,
        )
