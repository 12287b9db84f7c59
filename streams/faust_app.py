"""The Faust app as an actor: it reads the topics and processes every record, with a new app after each loss.

The loss of a broker is a normal state: the actor waits for it and starts a new app. A fault of the app itself crashes
the actor, and its supervisor starts it again.
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from callboard.runtime import Actor
from callboard.streams.cloudevents import Record
from callboard.streams.cluster import BrokerLostError, KafkaCluster
from callboard.streams.consumers import Consumer
from callboard.streams.faust_transport import App, RecordBatch, credentials
from callboard.streams.fetching import FetchWake
from callboard.streams.gathering import Gathering
from callboard.streams.group_offsets import UNREACHABLE, GroupOffsets, PartitionOffsets
from callboard.streams.ports import Database
from callboard.streams.record_processor import RecordProcessor
from callboard.streams.record_reader import Skipped
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics
from callboard.streams.topics import full_name, short_name

_LOG = logging.getLogger(__name__)
_START_S = 30.0
_STOP_S = 1.5  # the actor's own stop takes 2 s at most
_BUNDLE = 2000  # records of a poll, and so of a batch: a transaction of about 100 ms
_QUEUE = 128  # bundles; an eighth of it is normally used, see faust_transport.py
_LAG_EVERY_S = 5.0
_PAUSE_S = 0.225  # between two looks at the ends on a broker that holds no empty fetch: an event is read within 250 ms
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_370_764_800_000  # the year 9999: a producer may write any timestamp


class FaustConsumer(Actor[None]):
    """Reads the topics of all consumers, in one consumer group named `<prefix>-streams`.

    Offsets are committed each half second, never past an unprocessed record; records that were read and not committed
    come again. `reading` is set while records are read. `data` is a folder for Faust, which stores nothing of value
    there. The partitions of a killed process move on after `session_timeout_s`; Kafka by default refuses less than 6.
    """

    def __init__(
        self,
        broker: KafkaCluster,
        consumers: tuple[Consumer, ...],
        database: Database,
        signer: EventSigner,
        data: Path,
        *,
        reading: asyncio.Event | None = None,
        metrics: StreamMetrics | None = None,
        wake: FetchWake | None = None,
        session_timeout_s: float = 6.0,
    ) -> None:
        self._broker = broker
        self._consumers = consumers
        self._database = database
        self._signer = signer
        self._metrics = metrics or StreamMetrics()
        self._wake = wake or FetchWake()
        self._data = data
        self._session_timeout_s = session_timeout_s
        self._reading = reading or asyncio.Event()
        self._app: App | None = None
        self._member_id = ""
        self._starting: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run one app after another. Raises the error that crashes an app."""
        while True:
            await self._broker.wait("the Faust app")
            try:
                await self._live()
            except BrokerLostError as lost:
                _LOG.warning("the Faust app stops: %s", lost)
                if (app := self._app) is not None:
                    app.broker_lost = True
                    await self._end()
                    self._member_id = app.member_id

    async def on_stop(self) -> None:
        """Stop the app within 2 s, with or without a broker."""
        await self._end()

    async def _live(self) -> None:
        """Run one app; it always ends with an error."""
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        app = self._app = self._make(failed)
        watch = asyncio.ensure_future(self._broker.watch())
        crash = asyncio.ensure_future(app.crashed_with())
        self._starting = asyncio.ensure_future(app.start())
        try:
            await asyncio.wait({self._starting, watch, failed, crash}, timeout=_START_S, return_when="FIRST_COMPLETED")
            if self._starting.done():
                self._starting.result()
                measure = asyncio.ensure_future(self._measure_lag())
                try:
                    await asyncio.wait({watch, failed, crash, measure}, return_when="FIRST_COMPLETED")
                    if measure.done():
                        measure.result()
                finally:
                    measure.cancel()
            for end in (watch, failed, crash):
                if end.done():
                    end.result()
            raise TimeoutError(f"the Faust app has not started in {_START_S:g} s")
        except (KafkaError, OSError) as error:
            raise BrokerLostError(str(error)) from error
        finally:
            self._reading.clear()
            for end in (watch, failed, crash):
                end.cancel()

    async def _measure_lag(self) -> None:
        """Update the lag of every partition, whichever process reads it; warn of those that stand still."""
        topics = {full_name(self._broker.prefix, topic) for consumer in self._consumers for topic in consumer.topics}
        offsets = GroupOffsets(self._broker, topics - self._broker.unusable.keys())
        try:
            while True:
                self._note_lag(await _read_unless_away(offsets))
                for sentence in self._metrics.stalled():
                    if self._metrics.is_news("stalled", sentence.partition(" ")[0]):
                        _LOG.warning("%s", sentence)
                await asyncio.sleep(_LAG_EVERY_S)
        finally:
            await offsets.close()

    def _note_lag(self, found: list[PartitionOffsets] | None) -> None:
        """Note the lag; without an answer it is unknown everywhere."""
        lag = self._metrics.lag
        if found is None:
            for (topic, partition), each in lag.items():
                self._metrics.set_lag(topic, partition, None, each.position)
            return
        for place in set(lag).difference((each.topic, each.partition) for each in found):
            del lag[place]
        for offsets in found:
            self._metrics.set_lag(offsets.topic, offsets.partition, offsets.lag, offsets.position)

    async def _end(self) -> None:
        """Stop the app, bounded. The next call completes a cancelled one."""
        if self._app is None:
            return
        self._reading.clear()
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._app.stop())
        await asyncio.wait({self._ending}, timeout=_STOP_S)
        if not self._ending.done():
            _LOG.warning("the Faust app did not stop within %g s and was abandoned", _STOP_S)
            self._ending.cancel()
        if self._starting is not None:
            self._starting.cancel()
        self._app = self._starting = self._ending = None

    def _make(self, failed: "asyncio.Future[None]") -> App:
        """Make an app with an agent for each consumer. An agent's error is set on `failed`."""
        app = App(
            self._broker.group,
            broker=[f"kafka://{address}" for address in self._broker.bootstrap],
            broker_credentials=credentials(self._broker.security),
            datadir=str(self._data),
            store="memory://",
            autodiscover=False,
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            key_serializer="raw",
            value_serializer="raw",
            consumer_auto_offset_reset="earliest",
            broker_session_timeout=self._session_timeout_s,
            broker_rebalance_timeout=max(5.0, self._session_timeout_s),
            broker_heartbeat_interval=self._session_timeout_s / 3,
            consumer_metadata_max_age_ms=10_000,
            broker_commit_interval=0.5,
            broker_max_poll_records=_BUNDLE,
            stream_buffer_maxsize=_QUEUE,
            stream_wait_empty=False,
        )
        app.wake, app.member_id = self._wake, self._member_id
        app.broker_cpu_time = self._broker.cpu_time
        loop = asyncio.get_running_loop()
        app.on_lost = lambda tp: loop.call_soon_threadsafe(self._lose, app, tp)
        app.fetch_wait_ms, app.fetch_pause_s = (1, _PAUSE_S) if self._broker.holds_no_fetch else (500, 0.0)
        for consumer in self._consumers:
            for topic in consumer.topics:  # a stream for each: a topic with a backlog does not delay the others
                name, stream = full_name(self._broker.prefix, topic), f"{consumer.name} {topic.name}"
                if name in self._broker.unusable:
                    continue
                app.register(stream, [name])
                app.agent(app.topic(name), name=stream)(self._reader(app, consumer, stream, failed))
        app.on_rebalance_complete.connect(self._rebalanced)
        return app

    def _lose(self, app: App, tp: TopicPartition) -> None:
        """Have the relay publish again what was lost, before a new app reads what came after it."""
        if app is self._app and not app.broker_lost:
            self._broker.lose(f"{tp.topic}[{tp.partition}] has lost records")

    async def _rebalanced(self, *_: object, **__: object) -> None:
        self._reading.set()

    def _reader(self, app: App, consumer: Consumer, stream_name: str, failed: "asyncio.Future[None]") -> Any:
        processor = RecordProcessor(consumer, self._database, self._signer, self._metrics)
        prefix = self._broker.prefix

        async def process(bundles: list[RecordBatch]) -> None:
            fetched = (record for bundle in bundles for record in bundle.records)
            await processor.process(_records(prefix, fetched))
            for bundle in bundles:
                app.mark_processed(stream_name, bundle)

        def fail(error: Exception) -> None:  # Faust would skip the bundle; `failed` crashes the actor
            if not failed.done():
                failed.set_exception(error)

        async def read(stream: Any) -> None:
            bundles = Gathering(process, size=lambda bundle: len(bundle.records), limit=_BUNDLE, on_error=fail)
            try:
                async for event in stream.noack().events():
                    await bundles.add(event.value)
            finally:
                await bundles.close()

        return read


def _records(prefix: str, fetched: Iterable[Any]) -> list[Record]:
    return [_record(prefix, each) for each in fetched if not isinstance(each, Skipped)]


async def _read_unless_away(offsets: GroupOffsets) -> list[PartitionOffsets] | None:
    """Return the offsets, or None if no broker says them."""
    try:
        return await offsets.read()
    except UNREACHABLE as error:
        _LOG.info("the offsets of the group are not known: %r", error)
        return None


def _record(prefix: str, record: Any) -> Record:
    """Convert an aiokafka record for the codec."""
    return Record(
        topic=short_name(prefix, record.topic),
        partition=record.partition,
        offset=record.offset,
        timestamp=_EPOCH + timedelta(milliseconds=record.timestamp if 0 <= record.timestamp < _LAST_MS else 0),
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
        fault=getattr(record, "fault", None),
        fault_reason=getattr(record, "reason", "unreadable"),
    )
