"""The watch over a cluster notices within a second what clients would notice after minutes."""

from typing import Any

import pytest

from callboard.streams.cluster import BrokerLostError, compare_topics
from callboard.streams.topic_metadata import TopicState

UNKNOWN, LEADERLESS, FORBIDDEN = 3, 5, 29


@pytest.mark.parametrize(
    ("before", "now", "fault"),
    [
        ((0, 4), (0, 8), "has 8 partitions now, and had 4"),
        ((0, 4), (UNKNOWN, 0), "the broker has no topic"),
        ((0, 4), (FORBIDDEN, 0), "cannot be used now"),
        ((FORBIDDEN, 0), (0, 4), "can be used now"),
        ((0, 4, bytes(15) + b"1"), (0, 4, bytes(15) + b"2"), "was deleted and created again"),
    ],
)
def test_a_topic_that_is_not_as_it_was_ends_the_watch(before: Any, now: Any, fault: str) -> None:
    known: dict[str, TopicState] = {}
    compare_topics(known, {"t": TopicState(*before), "u": TopicState(0, 4)})
    with pytest.raises(BrokerLostError, match=fault):
        compare_topics(known, {"t": TopicState(*now), "u": TopicState(0, 4)})


@pytest.mark.parametrize("same", [(0, 4), (FORBIDDEN, 0), (LEADERLESS, 0), (0, 4, bytes(15) + b"1")])
def test_a_topic_that_is_as_it_was_does_not(same: Any) -> None:
    known: dict[str, TopicState] = {}
    for _ in range(3):
        compare_topics(known, {"t": TopicState(*same)})


def test_a_topic_without_a_leader_for_a_moment_is_no_change() -> None:
    known: dict[str, TopicState] = {}
    for state in ((0, 4), (LEADERLESS, 0), (0, 4)):
        compare_topics(known, {"t": TopicState(*state)})


def test_each_watch_sees_a_change_for_itself() -> None:
    first: dict[str, TopicState] = {}
    second: dict[str, TopicState] = {}
    for known in (first, second):
        compare_topics(known, {"t": TopicState(0, 4)})
    for known in (first, second):
        with pytest.raises(BrokerLostError):
            compare_topics(known, {"t": TopicState(0, 8)})
