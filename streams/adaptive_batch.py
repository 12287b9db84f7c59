"""The size of the next batch, found by trial: nobody knows how many rows a statement can handle in its time."""

TARGET_S = 0.4  # of a batch: a third of a statement's limit, and short enough for others to run in between


class AdaptiveBatch:
    """Between 1 and `most`: halved when a batch ran out of time, at most doubled when one took less than the target.

    The size follows the last batch, so a slow database is not asked again and again for too much.
    """

    def __init__(self, most: int, *, target_s: float = TARGET_S) -> None:
        self.size = most
        self._most = most
        self._target_s = target_s

    def succeeded(self, count: int, took_s: float) -> None:
        """Note that a batch of `count` took this long. A fast partial batch does not lower the size."""
        if count < self.size and took_s <= self._target_s:
            return
        fitting = max(1, int(count * self._target_s / max(took_s, 1e-6)))
        self.size = min(self._most, max(1, self.size // 2, min(fitting, self.size * 2)))

    def timed_out(self) -> bool:
        """Note that a batch of this size ran out of time. Return False if no smaller one is possible: the size is 1."""
        if self.size == 1:
            return False
        self.size //= 2
        return True
