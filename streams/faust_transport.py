"""Faust, adapted to run inside another program's event loop, on brokers that die, without losing a record.

Each class here changes one thing of Faust's or mode's, and says why. They use private names, so the three packages are
pinned exactly, and tests/streams/test_faust_transport.py checks every used name.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import faust
from aiokafka import TopicPartition
from faust.auth import SASLCredentials, SSLCredentials
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as stock
from faust.types import TP
from faust.types.auth import CredentialsT
from faust.types.tuples import ConsumerMessage
from mode.utils.queues import ThrowableQueue

from callboard.streams.fetching import FetchReader, FetchWake
from callboard.streams.record_reader import last_offset
from callboard.streams.security import KafkaSecurity

_BROKER_S = 1.0  # the time limit of calls that wait for the broker
_STOP_S = 0.3  # the same once the app stops: a broker that is available takes some milliseconds


class RecordBatch:
    """The records of one partition from one poll: to Faust a single message, which saves its cost for each record."""

    __slots__ = ("generation", "last_offset", "records", "tp")

    def __init__(self, tp: TP, records: Sequence[Any]) -> None:
        self.tp = tp
        self.records = records
        self.last_offset = last_offset(records[-1])
        self.generation = 0


class _Queue(ThrowableQueue):  # type: ignore[misc]
    """A stream's queue that pauses its input long before it is full.

    The one task that feeds all streams blocks on a full queue, so one stuck consumer would stop the others. At an
    eighth of its size the queue pauses its partitions; the rest is room for records in flight.
    """

    pressure_high_ratio = 8


class _ThreadLoop(asyncio.SelectorEventLoop):
    """The event loop of a consumer's thread. It ends its connections before it closes: one that waits for the other
    side, as each does over TLS, would keep its socket for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._opened: WeakSet[asyncio.Transport] = WeakSet()

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        transport, protocol = await super().create_connection(*args, **options)
        self._opened.add(transport)
        return transport, protocol

    def close(self) -> None:
        if self._opened and not self.is_closed():
            for transport in self._opened:
                transport.abort()
            self.run_until_complete(asyncio.sleep(0))  # a transport closes in the next turn of the loop
        super().close()


class _ConsumerThread(stock.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer, with a time limit for every wait for the broker, and our own loop and fetching."""

    def __init__(self, consumer: "_Consumer", **options: Any) -> None:
        super().__init__(consumer, thread_loop=_ThreadLoop(), **options)
        self._close_thread_loop_on_stop = True

    _fetch_reader: FetchReader | None = None

    async def _keepalive2(self) -> None:
        """Do nothing: mode wakes both threads each second, for calls that do not wake the other. Ours all do."""

    @faust.Service.task  # type: ignore[untyped-decorator]
    async def _thread_keepalive(self) -> None:
        """Do nothing, for the same reason."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        """The constructor's arguments are out of reach: Faust hard-codes 1500 ms, and reads aborted transactions."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.app.fetch_wait_ms  # noqa: SLF001 - see above
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - see above
        return consumer

    async def on_start(self) -> None:
        """Nothing has been fetched when this returns: there is no subscription yet."""
        await super().on_start()
        fetcher = self._consumer._fetcher  # noqa: SLF001 - see fetching.py
        app = self.app
        self._consumer._coordinator.member_id = app.member_id  # noqa: SLF001 - see App.member_id
        reader = FetchReader(
            fetcher,
            app.wake,
            app.fetch_pause_s,
            on_refused=app.partition_refused,
            on_lost=app.on_lost,
            cpu_time=app.broker_cpu_time,
        )
        fetcher._proc_fetch_request = reader.fetch  # noqa: SLF001 - see fetching.py
        self._fetch_reader = reader

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit within a time limit: aiokafka retries for ever while the broker or the topic is unavailable. Return
        False if it is not committed.
        """
        if self.app.broker_lost:
            return False
        try:
            return bool(await asyncio.wait_for(super()._commit(offsets), self.app.broker_timeout_s))
        except TimeoutError:
            return False

    async def on_thread_stop(self) -> None:
        """Stop, or be aborted. An error from here would end the thread before it reports its end, and stop() would
        hang.
        """
        consumer = self._consumer
        if consumer is not None and self.app.broker_lost:
            self.app.member_id = consumer._coordinator.member_id  # noqa: SLF001 - see App.member_id
        if consumer is None or self.app.broker_lost:
            # A consumer that outlives its stop may join the group of a broker that is just back, and its ghost then
            # holds its partitions until the session times out.
            await super(stock.AIOKafkaConsumerThread, self).on_thread_stop()
        else:
            if consumer._coordinator.generation == 0:  # noqa: SLF001 - see next line
                consumer._coordinator.generation = 1  # noqa: SLF001 - aiokafka says goodbye from 1 on, Tansu counts from 0
            try:
                await asyncio.wait_for(super().on_thread_stop(), self.app.broker_timeout_s)
            except (TimeoutError, OSError, asyncio.CancelledError, stock.ConsumerStoppedError) as error:
                self.log.info("the consumer lost its broker: %r", error)
        if consumer is not None:
            if self._fetch_reader is not None:
                self._fetch_reader.close()
            await self._close_connections(consumer)

    @staticmethod
    async def _close_connections(consumer: Any) -> None:
        """Cancel the tasks that the consumer left in this thread's loop, which is closed next, and give its connections
        a moment to close.
        """
        consumer._closed = True  # noqa: SLF001 - as its stop() does first
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=_STOP_S)
        closing = asyncio.ensure_future(consumer._client.close())  # noqa: SLF001 - its stop() closes it last, if it gets there
        await asyncio.wait({closing}, timeout=_STOP_S)  # a stop that was cut short has cancelled what close() waits for


class _Consumer(stock.Consumer):  # type: ignore[misc]
    """Hands out bundles, and commits only records that every stream of a topic has processed.

    Faust's own acknowledgements are ignored: it acknowledges records that it skips during a rebalance, and passes gaps
    that it never saw; both would commit unprocessed records.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._has_processed = asyncio.Event()
        self._processed: dict[TP, dict[str, int]] = {}
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 - overrides
        records = await super()._getmany(active_partitions, timeout)
        return {tp: [RecordBatch(tp, batch)] for tp, batch in (records or {}).items() if batch}

    def _to_message(self, tp: TP, record: RecordBatch) -> ConsumerMessage:
        last = record.records[-1]
        record.generation = self.app.consumer_generation_id
        self._read_offset[tp] = None  # Faust would silently drop the first records of a recreated topic
        return ConsumerMessage(
            last.topic, last.partition, record.last_offset, last.timestamp / 1000, last.timestamp_type, None, None,
            record, None, 0, 0, tp, generation_id=record.generation,
        )  # fmt: skip

    def mark_processed(self, stream: str, bundle: RecordBatch) -> None:
        """Note that this stream has processed every record of the bundle. Reports of an earlier generation
        are ignored.
        """
        if bundle.generation == self.app.consumer_generation_id:
            self._processed.setdefault(bundle.tp, {})[stream] = bundle.last_offset
            self._has_processed.set()

    @faust.Service.task  # type: ignore[untyped-decorator]
    async def _commit_handler(self) -> None:
        """Commit some time after a record was processed; Faust's timer runs even if there is nothing to commit."""
        while not self.should_stop:
            await self._has_processed.wait()
            await self.sleep(self.commit_interval)
            self._has_processed.clear()
            if not await self.commit() and self._uncommitted():
                self._has_processed.set()

    def _uncommitted(self) -> bool:
        """Whether a refused commit waits for its retry."""
        offsets = ((tp, self._new_offset(tp)) for tp in list(self._processed))
        return any(offset is not None and self._should_commit(tp, offset) for tp, offset in offsets)

    @faust.Service.task  # type: ignore[untyped-decorator]
    async def _commit_livelock_detector(self) -> None:
        """Do nothing: see `verify_event_path`."""

    def ack(self, message: Any) -> bool:
        """Keep Faust's set of open messages small, and do nothing else: see the class."""
        self._unacked_messages.discard(message)
        message.acked = True
        return False

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self._processed) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        settled = self._processed.get(tp, {})
        streams = self.app.streams_of(tp.topic)
        if not streams or any(stream not in settled for stream in streams):
            return None
        return min(settled[stream] for stream in streams) + 1

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's watch for stuck streams counts messages, and mistakes bundles for a standstill."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """A gap between two bundles is normal: the log was compacted, or the broker skips offsets."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget processed records: the partition's next owner begins at the committed offset."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._processed.pop(tp, None)


class _Producer(stock.Producer):  # type: ignore[misc]
    """Faust starts a producer even if it is unused. Ours does nothing, and saves a connection."""

    async def on_start(self) -> None:
        pass

    async def flush(self) -> None:
        pass

    async def on_stop(self) -> None:
        pass


class _Transport(stock.Transport):  # type: ignore[misc]
    """Faust's transport over aiokafka, with our consumer and producer."""

    Consumer = _Consumer
    Producer = _Producer


class _NoTables(TableManager):  # type: ignore[misc]
    """Faust waits a second at its start for tables to be declared. We have none: PostgreSQL holds our data."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class _Monitor(faust.Monitor):  # type: ignore[misc]
    """Counts, but computes no averages each second: nobody reads them."""

    @faust.Service.task  # type: ignore[untyped-decorator]
    async def _sampler(self) -> None:
        pass


class App(faust.App):  # type: ignore[misc]
    """A Faust app on our transport. It starts once: make a new one for each run.

    Set `broker_lost` before `stop()` if the broker is gone: then the app sends it nothing more. Give the next app its
    `member_id`: a broker that was only silent knows that member, and would wait for it until its session times out.
    """

    broker_lost = False
    member_id = ""  # of the consumer group; a broker that does not know it gives us another
    fetch_wait_ms = 500  # how long the broker may hold an empty fetch
    fetch_pause_s = 0.0  # how long to wait between two of them
    wake = FetchWake()
    broker_cpu_time: Callable[[], int | None] = staticmethod(lambda: None)  # see EndsWatch
    on_lost: Callable[[TopicPartition], object] = staticmethod(
        lambda _: None
    )  # in the consumer's thread, see FetchReader

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._streams: dict[str, set[str]] = {}
        super().__init__(*args, TableManager=_NoTables, Monitor=_Monitor, **kwargs)

    @property
    def broker_timeout_s(self) -> float:
        """Return the time limit of calls to the broker."""
        return _STOP_S if self.should_stop else _BROKER_S

    def register(self, stream: str, topics: Iterable[str]) -> None:
        """Note that `stream` reads `topics`: their offsets wait for it."""
        for topic in topics:
            self._streams.setdefault(topic, set()).add(stream)

    def streams_of(self, topic: str) -> set[str]:
        """Return the streams that must process a record of `topic` before it is committed."""
        return self._streams.get(topic, set())

    def mark_processed(self, stream: str, bundle: RecordBatch) -> None:
        """Note that `stream` has processed every record of `bundle`, which it got from its queue."""
        self.consumer.mark_processed(stream, bundle)

    def partition_refused(self, tp: TopicPartition, why: str) -> None:
        """Called in the consumer's thread when the broker refuses to send us a partition."""
        self.log.warning("the broker refuses %s[%d]: %s", tp.topic, tp.partition, why)

    async def crashed_with(self) -> None:
        """Wait until the app crashes, which it only half survives, and raise the cause."""
        await self._crashed.wait()
        raise self.crash_reason or RuntimeError("the Faust app crashed without an error")

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> ThrowableQueue:  # noqa: N802 - overrides
        """See `_Queue`."""
        return _Queue(maxsize=maxsize, flow_control=self.flow_control, clear_on_resume=clear_on_resume)

    def _new_transport(self) -> _Transport:
        return _Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> _Transport:
        return _Transport(self.conf.broker_producer, self)


async def close_now(producer: Any) -> None:
    """Close an aiokafka producer without waiting for unsent records: its own stop() would wait for ever."""
    producer._closed = True  # noqa: SLF001 - as stop() does first
    await producer._sender.close()  # noqa: SLF001
    await producer.client.close()


def credentials(security: KafkaSecurity) -> CredentialsT | None:
    """Return the credentials of a Faust app. Raises OSError for an invalid certificate file."""
    if security.protocol.startswith("SASL_"):
        return SASLCredentials(
            username=security.username,
            password=security.password,
            ssl_context=security.tls(),
            mechanism=security.mechanism,
        )
    return SSLCredentials(security.tls()) if security.protocol == "SSL" else None
