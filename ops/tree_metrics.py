"""Metrics of the tree: its actors by their places in the composition, and the lag of the event loop.

A pool is one actor here, and what an actor has spawned belongs to it: so labels are as many as the composition has
actors, whatever is resized, spawned or kept by a key.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from callboard.runtime import System, TreeNode

FATES = ("handled", "failed", "expired", "dropped", "dead_lettered", "returned")
ACTOR = ("actor",)


class TreeCollector(Collector):
    """Collects the tree on a scrape, so that nothing is counted in between."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._seen: dict[tuple[str, ...], tuple[float, float]] = {}  # of a counter: the last sum, and what has gone

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        messages = CounterMetricFamily("callboard_actor_messages", "Messages by outcome.", labels=("actor", "fate"))
        late = CounterMetricFamily("callboard_actor_late_replies", "Replies after the asker had gone.", labels=ACTOR)
        depth = GaugeMetricFamily("callboard_actor_mailbox_depth", "Waiting messages.", labels=ACTOR)
        age = GaugeMetricFamily(
            "callboard_actor_mailbox_age_seconds", "Seconds for which messages have waited for a handler.", labels=ACTOR
        )
        busy = CounterMetricFamily(
            "callboard_actor_handler_seconds", "Seconds in async handlers, their waits included.", labels=ACTOR
        )
        restarts = CounterMetricFamily("callboard_actor_restarts", "Restarts.", labels=ACTOR)
        for path, nodes in _actors(self._system.snapshot(), ""):
            counts = [node.counts for node in nodes if node.counts is not None]
            for fate in FATES:
                messages.add_metric(
                    (path, fate), self._total((path, fate), sum(getattr(each, fate) for each in counts))
                )
            late.add_metric((path,), self._total((path, "late"), sum(each.late for each in counts)))
            depth.add_metric((path,), sum(node.depth or 0 for node in nodes))
            age.add_metric((path,), max(node.oldest_s or 0.0 for node in nodes))
            busy.add_metric((path,), self._total((path, "busy"), sum(node.busy_s for node in nodes)))
            restarts.add_metric((path,), self._total((path, "restarts"), sum(node.restarts for node in nodes)))
        return messages, late, depth, age, busy, restarts, *self._lag()

    def _total(self, key: tuple[str, ...], now: float) -> float:
        """Return a sum over an actor's nodes as a counter: what belonged to nodes that have gone stays in it."""
        last, gone = self._seen.get(key, (0.0, 0.0))
        gone += max(0.0, last - now)
        self._seen[key] = now, gone
        return now + gone

    def _lag(self) -> Iterator[Metric]:
        stalls = self._system.stalls
        if stalls is not None:
            now, most = (
                "Current lag of the event loop in seconds.",
                "Maximum lag of the event loop in the last 30 seconds.",
            )
            yield GaugeMetricFamily("callboard_loop_lag_seconds", now, value=stalls.lag_s)
            yield GaugeMetricFamily("callboard_loop_lag_max_seconds", most, value=stalls.max_lag_s)


def _actors(node: TreeNode, above: str) -> Iterator[tuple[str, list[TreeNode]]]:
    """Yield the actors and pools by their paths, each with all nodes that belong to it."""
    path = f"{above}/{node.name}" if above else node.name
    if node.kind == "supervisor":
        for child in node.children:
            yield from _actors(child, path)
    else:
        yield path, list(_all(node))


def _all(node: TreeNode) -> Iterator[TreeNode]:
    yield node
    for child in node.children:
        yield from _all(child)
