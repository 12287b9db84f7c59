"""A batch fits into its time, whatever the database can do."""

from callboard.streams.adaptive_batch import AdaptiveBatch


def drained(batch: AdaptiveBatch, rows: int, row_s: float, limit_s: float = 1.3) -> tuple[float, int]:
    """How long a backlog takes against a database that needs so long a row, and how often it ran out of time."""
    took_s, failures = 0.0, 0
    while rows:
        count = min(rows, batch.size)
        if count * row_s > limit_s:
            took_s, failures = took_s + limit_s, failures + 1
            assert batch.timed_out()
        else:
            took_s += count * row_s
            batch.succeeded(count, count * row_s)
            rows -= count
    return took_s, failures


def test_a_backlog_of_100000_is_drained_at_the_databases_pace() -> None:
    took_s, failures = drained(AdaptiveBatch(2000), 100_000, 0.001)
    assert took_s < 100 + 2 * 1.3
    assert failures <= 2


def test_a_database_that_needs_a_second_a_row_is_asked_for_one() -> None:
    batch = AdaptiveBatch(2000)
    drained(batch, 20, 1.0)
    assert batch.size == 1


def test_it_grows_again_when_the_database_is_quick_again() -> None:
    batch = AdaptiveBatch(2000)
    drained(batch, 20, 1.0)
    drained(batch, 20_000, 0.00001)
    assert batch.size == 2000


def test_a_part_of_a_batch_that_was_quick_does_not_shrink_it() -> None:
    batch = AdaptiveBatch(2000)
    batch.succeeded(1, 0.01)
    batch.succeeded(3, 0.4)
    assert batch.size == 2000


def test_one_is_the_smallest() -> None:
    batch = AdaptiveBatch(1)
    assert not batch.timed_out()
    assert batch.size == 1
