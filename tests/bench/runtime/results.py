"""What was measured, round by round, and what follows from it: medians, paired ratios, verdicts."""

import statistics
from typing import NamedTuple

from roster import BY_KEY, GOALS, LOOPS, NO_LOOP, RAW, Goal, Row

Samples = dict[str, dict[str, list[float | None]]]  # by row's title, then by figure; None for a round that failed


class Spread(NamedTuple):
    """A median with its least and greatest."""

    median: float
    least: float
    most: float


class Verdict(NamedTuple):
    """Callboard beside a goal on one loop; `reached` is None where nothing could be compared."""

    goal: Goal
    loop: str
    reached: Spread | None

    @property
    def word(self) -> str:
        """Met or not, by the median."""
        if self.reached is None:
            return "not compared"
        smaller_is_better = self.goal.peer is None and self.goal.job == "bytes"
        met = self.reached.median <= self.goal.times if smaller_is_better else self.reached.median >= self.goal.times
        return "met" if met else "not met"


class Results:
    """All samples of a run, which may have come from several processes in each round."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def rounds(self, row: Row, figure: str) -> list[float | None]:
        """The figure of each round."""
        return self.samples.get(row.title, {}).get(figure, [])

    def spread(self, row: Row, figure: str) -> Spread | None:
        """Over the rounds that succeeded."""
        return _spread([value for value in self.rounds(row, figure) if value is not None])

    def times_as_good(self, row: Row, other: Row, figure: str) -> Spread | None:
        """How many times as fast, or as small, `row` is as `other`: the ratio of each round, then their spread."""
        pairs = zip(self.rounds(row, figure), self.rounds(other, figure), strict=False)
        ratios = [a / b for a, b in pairs if a and b]
        return _spread([1 / ratio for ratio in ratios] if figure == "bytes" else ratios)

    def to_limit(self, row: Row, figure: str) -> Spread | None:
        """Beside the raw deque and future on the same loop; who has no loop stands beside the one on uvloop."""
        if row.peer.python:
            return None  # the limit was measured on another Python
        loop = LOOPS[-1] if row.loop == NO_LOOP else row.loop
        return self.times_as_good(row, Row(RAW, loop), figure)

    def verdicts(self) -> list[Verdict]:
        """Every goal, on every loop for which it is set."""
        found = []
        for goal in GOALS:
            for loop in goal.loops:
                ours = Row(BY_KEY[goal.ours], loop)
                if goal.peer is None:
                    reached = self.spread(ours, goal.job)
                else:
                    reached = self.times_as_good(ours, beside(goal.peer, loop), goal.job)
                found.append(Verdict(goal, loop, reached))
        return found


def beside(key: str, loop: str) -> Row:
    """The row of a peer on that loop, or its only one."""
    peer = BY_KEY[key]
    return Row(peer, loop if loop in peer.loops else NO_LOOP)


def _spread(values: list[float]) -> Spread | None:
    return Spread(statistics.median(values), min(values), max(values)) if values else None
