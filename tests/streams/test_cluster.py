"""The watch over a cluster notices within a second what clients would notice after minutes."""

from typing import Any

import pytest

from callboard.streams.cluster import BrokerLostError, compare_topics

UNKNOWN, LEADERLESS, FORBIDDEN = 3, 5, 29


@pytest.mark.parametrize(
    ("before", "now", "fault"),
    [
        ((0, 4), (0, 8), "has 8 partitions now, and had 4"),
        ((0, 4), (UNKNOWN, 0), "the broker has no topic"),
        ((0, 4), (FORBIDDEN, 0), "cannot be used now"),
        ((FORBIDDEN, 0), (0, 4), "can be used now"),
    ],
)
def test_a_topic_that_is_not_as_it_was_ends_the_watch(before: Any, now: Any, fault: str) -> None:
    known: dict[str, tuple[int, int]] = {}
    compare_topics(known, {"t": before, "u": (0, 4)})
    with pytest.raises(BrokerLostError, match=fault):
        compare_topics(known, {"t": now, "u": (0, 4)})


@pytest.mark.parametrize("same", [(0, 4), (FORBIDDEN, 0), (LEADERLESS, 0)])
def test_a_topic_that_is_as_it_was_does_not(same: Any) -> None:
    known: dict[str, tuple[int, int]] = {}
    for _ in range(3):
        compare_topics(known, {"t": same})


def test_a_topic_without_a_leader_for_a_moment_is_no_change() -> None:
    known: dict[str, tuple[int, int]] = {}
    for state in ((0, 4), (LEADERLESS, 0), (0, 4)):
        compare_topics(known, {"t": state})


def test_each_watch_sees_a_change_for_itself() -> None:
    first: dict[str, tuple[int, int]] = {}
    second: dict[str, tuple[int, int]] = {}
    for known in (first, second):
        compare_topics(known, {"t": (0, 4)})
    for known in (first, second):
        with pytest.raises(BrokerLostError):
            compare_topics(known, {"t": (0, 8)})
