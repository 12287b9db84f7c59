"""Prometheus metrics of this process's streams. No label holds user data."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from callboard.streams.stream_metrics import StreamMetrics


class StreamCollector(Collector):
    """Collects on a scrape."""

    def __init__(self, metrics: StreamMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        met = self._metrics
        letters = CounterMetricFamily(
            "callboard_dead_letters", "Dead letters by topic and reason.", labels=("topic", "reason")
        )
        for (topic, reason), count in met.dead_letters.items():
            letters.add_metric((topic, reason), count)
        replays = CounterMetricFamily(
            "callboard_dead_letters_replayed",
            "Replays of dead letters of records by topic and outcome.",
            labels=("topic", "outcome"),
        )
        for (topic, outcome), count in met.replays.items():
            replays.add_metric((topic, outcome), count)
        published = CounterMetricFamily("callboard_events_published", "Events published by topic.", labels=("topic",))
        for topic, count in met.published.items():
            published.add_metric((topic,), count)
        refused = CounterMetricFamily(
            "callboard_events_refused", "Refusals of events by topic and error.", labels=("topic", "error")
        )
        for (topic, error), count in met.publish_refusals.items():
            refused.add_metric((topic, error), count)
        lag = GaugeMetricFamily(
            "callboard_stream_lag_records",
            "Records that the consumer group has not consumed yet, the same from every process.",
            labels=("topic", "partition"),
        )
        for (topic, partition), each in met.lag.items():
            if each.records is not None:
                lag.add_metric((topic, str(partition)), each.records)
        stalled = GaugeMetricFamily(
            "callboard_stream_stalled_seconds",
            "Time for which the consumer group has stood still while records wait, or the brokers do not say how many.",
            labels=("topic", "partition"),
        )
        for (topic, partition), seconds in met.stalled_s().items():
            stalled.add_metric((topic, str(partition)), seconds)
        return letters, replays, published, refused, lag, stalled, *self._outbox()

    def _outbox(self) -> Iterable[Metric]:
        met = self._metrics
        yield GaugeMetricFamily(
            "callboard_relay_leads", "1 if this process publishes events, else 0.", value=met.relay_leads
        )
        yield GaugeMetricFamily(
            "callboard_outbox_refused_rows", "Waiting events that no broker accepts.", value=met.waiting_rows
        )
        yield GaugeMetricFamily(
            "callboard_outbox_oldest_seconds",
            "Age of the oldest unpublished event in seconds.",
            value=met.oldest_pending_s,
        )
