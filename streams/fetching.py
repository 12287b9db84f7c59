"""Fetching: one partition's error never stops the others, and an idle topic costs little.

`FetchReader.fetch` replaces aiokafka's handling of responses: `FetchedRecords` reads the records, and a topic that
refuses us pauses its own partitions only. If a broker does not answer a waiting fetch when a record arrives, the client
waits instead: it can be woken, and an `EndsWatch` looks at intervals for new end offsets, which costs next to nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import (
    KafkaError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.offset import OffsetRequest

from callboard.streams.ends_watch import EndsWatch
from callboard.streams.raw_answers import RawAnswer
from callboard.streams.record_reader import FetchedRecords

_WATCH_S = 5.0  # how long the ends are watched before aiokafka builds the same request anew
_OVERSEE_S = 2.0  # aiokafka checks this often for other work; known work wakes it
_LATEST = -1
_REFUSED_S = 5.0  # how long a partition that the broker refuses is paused
_MOST_WAIT_MS = 500  # for records that the broker has
_STALE_S = 0.25  # and one whose leader has moved, or whose topic is being recreated
_STALE = (NotLeaderForPartitionError, UnknownTopicOrPartitionError)


class FetchWake:
    """Wakes a consumer that waits between two fetches, from any thread."""

    def __init__(self) -> None:
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._missed = False

    def wake(self) -> None:
        """End the current wait, or the next one."""
        self._missed = True
        if self._waiting is not None:
            loop, ended = self._waiting
            with contextlib.suppress(RuntimeError):  # the consumer's loop has just been closed
                loop.call_soon_threadsafe(_end, ended)

    async def wait(self, seconds: float) -> None:
        """Wait for this time, or until woken."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        self._waiting = loop, ended
        timer = loop.call_later(seconds, _end, ended)
        try:
            if not self._missed:
                await ended
            self._missed = False
        finally:
            timer.cancel()
            self._waiting = None


def _end(wait: "asyncio.Future[None]") -> None:
    if not wait.done():
        wait.set_result(None)


def _stands_at(state: Any, offset: int) -> bool:
    return bool(state.has_valid_position and state.position == offset)


def _ask_ends(partitions: Iterable[TopicPartition]) -> RawAnswer:
    """A request for the end offsets of partitions."""
    topics = groupby(sorted(partitions), attrgetter("topic"))
    return RawAnswer(OffsetRequest(-1, 0, [(topic, [(tp.partition, _LATEST) for tp in tps]) for topic, tps in topics]))


class FetchReader:
    """Replaces `_proc_fetch_request` of one aiokafka Fetcher; runs in the consumer's own loop.

    After an empty fetch the next one waits for `wake`, or for new end offsets. They are checked each `pause_s`.
    `on_refused` is called for a partition that the broker refuses; `on_lost` for one that was read and does not reach
    that far now: it was lost with records that nobody has read, and those that it has by now wait for them. For
    `cpu_time` see EndsWatch.
    """

    def __init__(
        self,
        fetcher: Any,
        wake: FetchWake,
        pause_s: float,
        *,
        on_refused: Callable[[TopicPartition, str], None],
        on_lost: Callable[[TopicPartition], object],
        cpu_time: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._fetcher = fetcher
        fetcher._fetcher_timeout = _OVERSEE_S  # noqa: SLF001 - it is 0.2 s, and each time costs a look at all partitions
        self._wake = wake
        self._pause_s = pause_s
        self._on_refused = on_refused
        self._on_lost = on_lost
        self._known: set[TopicPartition] = set()  # whose position the broker has accepted
        self._is_short = False  # whether the broker had records for us, and no time to gather them
        self._cpu_time = cpu_time
        self._ends: EndsWatch | None = None

    def close(self) -> None:
        """Close the connection that watches the ends."""
        if self._ends is not None:
            self._ends.close()
            self._ends = None

    async def fetch(self, assignment: Any, node_id: int, request: Any) -> bool:
        """Send a fetch and process its response; return whether there are records to hand out."""
        asked = {
            TopicPartition(topic, partition): offset
            for topic, partitions in request.topics
            for partition, offset, _ in partitions
        }
        ask = _ask_ends(asked) if self._pause_s and len(asked) == len(assignment.tps) else None
        ends: bytes | None = b""
        try:
            while True:
                response = await self._fetcher._client.send(node_id, request)  # noqa: SLF001 - guarded by tests/streams/test_faust_transport.py
                news = self._take_all(assignment, asked, response)
                if (self._is_short and self._wait_longer()) or news is not None or ask is None:
                    return bool(news)
                ends = await self._moved(assignment, node_id, asked, ask, ends)
                if ends is None:
                    return False
        except KafkaError:
            await asyncio.sleep(self._fetcher._retry_backoff)  # noqa: SLF001 - see above
            return False
        except asyncio.CancelledError:  # the assignment or the consumer has ended
            self.close()
            return False

    def _wait_longer(self) -> bool:
        """Give the broker more time for its next answers: its log has grown, or it has little of the processor. Return
        False if it has all that it may have.
        """
        self._is_short = False
        wait_ms: int = self._fetcher._fetch_max_wait_ms  # noqa: SLF001 - see above
        self._fetcher._fetch_max_wait_ms = min(2 * wait_ms, _MOST_WAIT_MS)  # noqa: SLF001 - see above
        return wait_ms < _MOST_WAIT_MS

    async def _moved(
        self,
        assignment: Any,
        node_id: int,
        asked: Mapping[TopicPartition, int],
        ask: RawAnswer,
        seen: bytes | None,
    ) -> bytes | None:
        """Wait until the end offsets differ from those before the last fetch; return None to ask anew."""
        states = [(assignment.state_value(tp), offset) for tp, offset in asked.items()]

        def is_over() -> bool:
            return not assignment.active or not all(_stands_at(state, offset) for state, offset in states)

        loop = asyncio.get_running_loop()
        ends_at = loop.time() + _WATCH_S
        while (left_s := ends_at - loop.time()) > 0 and not is_over():
            ends: bytes = await self._fetcher._client.send(node_id, ask)  # noqa: SLF001 - see above
            if ends != seen:
                return ends
            watch = await self._watch(node_id)
            if watch is None:
                await self._wake.wait(self._pause_s)
                continue
            watch.begin(ask, ends, self._pause_s, cpu_time=self._cpu_time, until=is_over, ended=self._wake.wake)
            try:
                await self._wake.wait(left_s)
            finally:
                watch.stop()
        return None

    async def _watch(self, node_id: int) -> EndsWatch | None:
        """Return the connection that watches the ends; a new one if the broker has closed the one before."""
        if self._ends is None or not self._ends.is_connected:
            broker = self._fetcher._client.cluster.broker_metadata(node_id)  # noqa: SLF001 - see above
            self._ends = None if broker is None else await EndsWatch.connect(broker.host, broker.port)
        return self._ends

    def _take_all(self, assignment: Any, asked: Mapping[TopicPartition, int], response: Any) -> bool | None:
        """Process a response: whether there are records to hand out; None if it is useless."""
        if not assignment.active:
            return False
        found: bool | None = None
        for topic, partitions in response.topics:
            for partition, code, highwater, *rest in partitions:
                tp = TopicPartition(topic, partition)
                # The topic was created again, and a broker that holds no fetch does not say that this is past its end.
                if self._pause_s and 0 <= highwater < asked[tp]:
                    code = OffsetOutOfRangeError.errno  # noqa: PLW2901 - as another broker would say
                taken = self._take(assignment, tp, asked[tp], code, highwater, rest)
                if taken or code:  # a refused partition is to be paused, or reset
                    found = bool(found) or taken
        return found

    def _take(  # noqa: PLR0917 - the fields of one partition's answer
        self, assignment: Any, tp: TopicPartition, offset: int, code: int, highwater: int, rest: list[Any]
    ) -> bool:
        """Process one partition's part; return whether there are records to hand out."""
        state, fetcher = assignment.state_value(tp), self._fetcher
        if not _stands_at(state, offset):
            return False
        if code:
            self._refused(tp, state, for_code(code))
            return False
        self._known.add(tp)
        last_stable, aborted = rest[0], rest[2 if len(rest) > 4 else -2]  # noqa: PLR2004 - version 11 has one field more
        state.highwater, state.lso = highwater, last_stable
        data = rest[-1]
        if not data:
            self._is_short |= bool(self._pause_s) and highwater > offset
            return False
        records = FetchedRecords(tp, data, aborted, offset)
        backoff_s = fetcher._prefetch_backoff  # noqa: SLF001 - see above
        fetcher._records[tp] = FetchResult(tp, partition_records=records, assignment=assignment, backoff=backoff_s)  # noqa: SLF001 - see above
        return True

    def _refused(self, tp: TopicPartition, state: Any, error: type[KafkaError]) -> None:
        fetcher = self._fetcher
        if error is OffsetOutOfRangeError:
            if tp in self._known:
                state.pause()  # for good: the app ends
                self._on_lost(tp)
            else:
                state.await_reset(fetcher._default_reset_strategy)  # noqa: SLF001 - see above
            return
        if error in _STALE:
            fetcher._client.force_metadata_update()  # noqa: SLF001 - see above
        else:
            self._on_refused(tp, error.__name__)
        # An immediate retry would be refused again, and delay the other partitions of this broker.
        state.pause()
        asyncio.get_running_loop().call_later(_STALE_S if error in _STALE else _REFUSED_S, state.resume)
