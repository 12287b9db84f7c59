"""How the consumer waits where the broker answers no waiting fetch: it asks for ends, and fetches when they move."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.protocol.fetch import FetchRequest

from callboard.streams.fetching import FetchReader, FetchWake
from callboard.streams.raw_answers import RawAnswer

TP = TopicPartition("t", 0)
NOTHING = SimpleNamespace(topics=[("t", [(0, 0, 5, 5, 0, [], -1, b"")])])
SOMETHING = SimpleNamespace(topics=[("t", [(0, 0, 6, 6, 0, [], -1, b"x")])])
SHORT = SimpleNamespace(topics=[("t", [(0, 0, 6, 6, 0, [], -1, b"")])])
REFUSED = SimpleNamespace(topics=[("t", [(0, 3, -1, -1, 0, [], -1, b"")])])


class Wire:
    """An aiokafka client that answers by a script, of a broker whose address it does not know; `asked` says what it was
    asked for.
    """

    cluster = SimpleNamespace(broker_metadata=lambda _node: None)

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = ""
        self.wait_ms = 1
        self.fetcher: Any = None
        self.state = SimpleNamespace(has_valid_position=True, position=5, pause=lambda: None, resume=lambda: None)

    async def send(self, _node: int, request: Any) -> Any:
        self.asked += "E" if isinstance(request, RawAnswer) else "F"
        answer = self.answers.pop(0)
        return answer() if callable(answer) else answer

    def force_metadata_update(self) -> None:
        """What a stale partition asks for."""

    def sought(self) -> bytes:
        """Ends that did not move, while the consumer was sent to another offset."""
        self.state.position = 2
        return b"5"


async def fetched(wire: Wire, pause_s: float = 0.001) -> bool:
    fetcher = wire.fetcher = SimpleNamespace(
        _client=wire,
        _fetcher_timeout=0.2,
        _fetch_max_wait_ms=wire.wait_ms,
        _retry_backoff=0.0,
        _prefetch_backoff=0.0,
        _records={},
    )
    assignment = SimpleNamespace(active=True, tps={TP}, state_value=lambda _: wire.state)
    reader = FetchReader(fetcher, FetchWake(), pause_s, lambda *_: None)
    return await reader.fetch(assignment, 0, FetchRequest(1, 1, 1 << 20, 1, [("t", [(0, 5, 1 << 20)])]))


async def test_nothing_is_fetched_while_the_ends_stay_and_what_comes_is_fetched_at_once() -> None:
    wire = Wire(NOTHING, b"5", NOTHING, b"5", b"5", b"5", b"6", SOMETHING)
    assert await fetched(wire)
    assert wire.asked == "FEFEEEEF"


async def test_what_came_between_a_fetch_and_the_first_look_at_the_ends_is_fetched() -> None:
    wire = Wire(NOTHING, b"6", SOMETHING)
    assert await fetched(wire)
    assert wire.asked == "FEF"


@pytest.mark.parametrize(("answers", "asked"), [((REFUSED,), "F"), ((NOTHING, b"e", REFUSED), "FEF")])
async def test_a_refused_partition_ends_the_wait(answers: Any, asked: str) -> None:
    wire = Wire(*answers)
    assert not await fetched(wire)
    assert wire.asked == asked


async def test_a_consumer_that_is_sent_to_another_offset_does_not_wait_for_the_ends() -> None:
    wire = Wire(NOTHING, b"5", NOTHING)
    wire.answers.append(wire.sought)
    assert not await fetched(wire)
    assert wire.asked == "FEFE"


async def test_a_broker_that_holds_a_fetch_is_asked_for_nothing_else() -> None:
    wire = Wire(NOTHING)
    assert not await fetched(wire, pause_s=0.0)
    assert wire.asked == "F"


async def test_a_broker_that_has_records_and_no_time_for_them_is_given_more() -> None:
    """Seen to fail without it: with a log of some hundred records the broker gathered none in a millisecond, and the
    partition stood still for good.
    """
    wire = Wire(SHORT)
    assert not await fetched(wire)
    assert wire.asked == "F"  # the next request is made anew
    assert wire.fetcher._fetch_max_wait_ms == 2


async def test_a_broker_that_still_gives_nothing_is_not_asked_in_a_circle() -> None:
    wire = Wire(SHORT, b"6", SHORT, b"6", b"7", SOMETHING)
    wire.wait_ms = 500
    assert await fetched(wire)
    assert wire.asked == "FEFEEF"
    assert wire.fetcher._fetch_max_wait_ms == 500
