"""The size of the next batch, when only trying tells how much a statement can take in its time."""

TARGET_S = 0.4  # a batch is to take as long: a third of a statement's limit, and short enough to let others in


class AdaptiveBatch:
    """Between 1 and `most`: halved when a batch ran out of time, at most doubled when one took less than the target.

    The size follows what the last batch took, so a slow database is not asked again and again for what it cannot do.
    """

    def __init__(self, most: int, *, target_s: float = TARGET_S) -> None:
        self.size = most
        self._most = most
        self._target_s = target_s

    def succeeded(self, count: int, took_s: float) -> None:
        """A batch of `count` took so long. A part of a batch that was quick says nothing against the size."""
        if count < self.size and took_s <= self._target_s:
            return
        fitting = max(1, int(count * self._target_s / max(took_s, 1e-6)))
        self.size = min(self._most, max(1, self.size // 2, min(fitting, self.size * 2)))

    def timed_out(self) -> bool:
        """A batch of this size ran out of time. False when a smaller one cannot be tried: the size is 1."""
        if self.size == 1:
            return False
        self.size //= 2
        return True
