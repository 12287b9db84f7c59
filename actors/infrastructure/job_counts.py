"""Counters of this process's jobs, by kind. Metrics read them; no decision depends on them."""

from collections import Counter, defaultdict

OUTCOMES = ("done", "retry", "later", "dead", "cancelled", "expired", "superseded", "released", "stale")


class JobCounts:
    """Counters by kind and name, and the outcomes of attempts. Seconds waited and run are sums."""

    def __init__(self) -> None:
        self.by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.empty_claims = 0
        self.failed_claims = 0

    def add(self, kind: str, name: str, count: int = 1) -> None:
        """Count `name`: claims, attempts, lost, hints."""
        self.by_kind[kind][name] += count

    def end(self, kind: str, outcome: str, count: int = 1) -> None:
        """Count the end of an attempt, by one of OUTCOMES."""
        self.outcomes[kind][outcome] += count

    def spend(self, kind: str, name: str, seconds: float) -> None:
        """Add seconds that a job has waited or run."""
        self.seconds[kind][name] += seconds
