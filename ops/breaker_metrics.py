"""Metrics of the circuit breakers, by the names of their servers."""

from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from callboard.actors.infrastructure.circuit_breaker import BreakerState, CircuitBreaker

NAME = ("breaker",)


class BreakerCollector(Collector):
    """Collects on a scrape."""

    def __init__(self, breakers: Sequence[CircuitBreaker]) -> None:
        self._breakers = breakers

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        meaning = "1 for the state of a circuit breaker: closed, half_open or open."
        states = GaugeMetricFamily("callboard_breaker_state", meaning, labels=("breaker", "state"))
        opened = CounterMetricFamily("callboard_breaker_opened", "Openings, failed probes included.", labels=NAME)
        refused = CounterMetricFamily("callboard_breaker_refused", "Calls refused without a try.", labels=NAME)
        for each in self._breakers:
            now = each.state(each.clock())
            for state in BreakerState:
                states.add_metric((each.name, state), float(state is now))
            opened.add_metric((each.name,), each.opened)
            refused.add_metric((each.name,), each.refused)
        return states, opened, refused
