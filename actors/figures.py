"""Figures of a department for the metrics: what they mean, and how they are read."""

from collections import Counter
from collections.abc import Callable, Mapping

from msgspec import Struct

Labels = tuple[str, ...]


class Figure(Struct, frozen=True):
    """A counter, or a gauge: `read` returns its values by the values of its labels. No label holds user data.

    `name` begins with `callboard_`; that of a counter is without `_total`.
    """

    name: str
    meaning: str
    read: Callable[[], Mapping[Labels, float]]
    labels: Labels = ()
    is_counter: bool = True


def by_label(counts: Counter[str]) -> Callable[[], dict[Labels, float]]:
    """Return a reader of counts by the values of one label."""
    return lambda: {(label,): float(count) for label, count in counts.items()}
