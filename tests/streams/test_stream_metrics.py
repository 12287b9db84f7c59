"""What an operator sees of the streams."""

from callboard.ops.stream_metrics import StreamCollector
from callboard.streams.stream_metrics import STALLED_AFTER_S, StreamMetrics


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_partition_that_stands_still_for_half_a_minute_while_records_wait_is_named() -> None:
    clock = Clock()
    metrics = StreamMetrics(clock)
    metrics.set_lag("a.v1", 0, 5, 10)
    metrics.set_lag("a.v1", 1, 5, 10)
    metrics.set_lag("a.v1", 2, 0, 10)
    clock.now += STALLED_AFTER_S - 1
    metrics.set_lag("a.v1", 0, 9, 10)
    metrics.set_lag("a.v1", 1, 4, 11)
    assert metrics.stalled() == []
    clock.now += 1
    assert metrics.stalled() == ["a.v1[0] stands still for 30 s, 9 records wait"]
    metrics.set_lag("a.v1", 0, 0, 19)
    assert metrics.stalled() == []


def test_a_partition_of_which_no_broker_says_how_many_records_wait_counts_as_standing_still() -> None:
    clock = Clock()
    metrics = StreamMetrics(clock)
    metrics.set_lag("a.v1", 0, 0, 10)
    for _ in range(2):
        metrics.set_lag("a.v1", 0, None, 0)
        clock.now += STALLED_AFTER_S / 2
    assert metrics.stalled() == ["a.v1[0] stands still for 30 s, an unknown number of records wait"]
    metrics.set_lag("a.v1", 0, 0, 10)
    assert metrics.stalled() == []


def test_a_reason_is_news_once_a_minute_and_no_number_of_reasons_fills_the_memory() -> None:
    clock = Clock()
    metrics = StreamMetrics(clock)
    assert [metrics.is_news("a"), metrics.is_news("a"), metrics.is_news("b")] == [True, False, True]
    clock.now += 61
    assert metrics.is_news("a")
    for number in range(5000):
        metrics.is_news(str(number))
    assert len(metrics._reasons) <= 256


def test_every_count_is_on_the_metrics_page() -> None:
    metrics = StreamMetrics()
    metrics.dead_letters["a.v1", "malformed"] += 2
    metrics.published["a.v1"] += 3
    metrics.publish_refusals["b.v1", "MessageSizeTooLargeError"] += 1
    metrics.set_lag("a.v1", 0, 7, 1)
    metrics.waiting_rows = 4
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in StreamCollector(metrics).collect()
        for sample in metric.samples
    }
    assert samples["callboard_dead_letters_total", "a.v1", "malformed"] == 2
    assert samples["callboard_events_published_total", "a.v1"] == 3
    assert samples["callboard_events_refused_total", "b.v1", "MessageSizeTooLargeError"] == 1
    assert samples["callboard_stream_lag_records", "a.v1", "0"] == 7
    assert samples[("callboard_outbox_refused_rows",)] == 4
