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
BEGUN_ANEW = SimpleNamespace(topics=[("t", [(0, 0, 2, 2, 0, [], -1, b"x")])])
OUT_OF_RANGE = SimpleNamespace(topics=[("t", [(0, 1, -1, -1, 0, [], -1, b"")])])
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
        self.lost: list[TopicPartition] = []
        self.resets: list[int] = []
        nothing = {"pause": lambda: None, "resume": lambda: None, "await_reset": self.resets.append}
        self.state = SimpleNamespace(has_valid_position=True, position=5, **nothing)

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


def reader_of(wire: Wire, pause_s: float = 0.001) -> FetchReader:
    fetcher = wire.fetcher = SimpleNamespace(
        _client=wire,
        _fetcher_timeout=0.2,
        _fetch_max_wait_ms=wire.wait_ms,
        _retry_backoff=0.0,
        _prefetch_backoff=0.0,
        _default_reset_strategy=-2,
        _records={},
    )
    return FetchReader(fetcher, FetchWake(), pause_s, on_refused=lambda *_: None, on_lost=wire.lost.append)


async def fetched(wire: Wire, pause_s: float = 0.001, reader: FetchReader | None = None) -> bool:
    assignment = SimpleNamespace(active=True, tps={TP}, state_value=lambda _: wire.state)
    request = FetchRequest(1, 1, 1 << 20, 1, [("t", [(0, 5, 1 << 20)])])
    return await (reader or reader_of(wire, pause_s)).fetch(assignment, 0, request)


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


@pytest.mark.parametrize(("answer", "pause_s"), [(BEGUN_ANEW, 0.001), (OUT_OF_RANGE, 0.0)])
async def test_a_partition_that_lost_what_was_read_is_read_no_more_and_one_that_begins_so_is_read_from_its_beginning(
    answer: Any, pause_s: float
) -> None:
    """Seen to fail without it: what came after the loss was read before what was lost was published again."""
    fresh = Wire(answer)
    assert not await fetched(fresh, pause_s)
    assert (len(fresh.resets), fresh.lost) == (1, [])
    wire = Wire(*(NOTHING, b"6", answer) if pause_s else (NOTHING, answer))
    reader = reader_of(wire, pause_s)
    for _ in range(1 if pause_s else 2):
        assert not await fetched(wire, pause_s, reader)
    assert (wire.resets, wire.lost) == ([], [TP])
