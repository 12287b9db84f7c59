"""The relay: it publishes the outbox, and ensures that every expected consumer records every event.

Delivery is at least once, in order for each key. One relay leads among all processes, by a lease; the others stand by.
The loss of a broker or of PostgreSQL is a normal state: rows stay pending, and are published when it is back.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import asyncpg
from aiokafka.errors import KafkaError

from callboard.runtime import Actor, Refusal, described
from callboard.streams.cluster import BrokerLostError, KafkaCluster
from callboard.streams.consumers import Expected
from callboard.streams.faust_transport import close_now
from callboard.streams.fenced_producer import FencedProducer
from callboard.streams.lease import Lease, LeaseLostError
from callboard.streams.ports import Database, passes
from callboard.streams.publisher import BATCH_BYTES, Publisher
from callboard.streams.reconciler import QUERIES, Reconciler
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics

_LOG = logging.getLogger(__name__)
_BATCH = 200  # rows of a topic
_LANES = 32  # topics that are published at once
_POLL_S = 5.0  # in case a notification is lost, though the connection that hears them answers each second
_STANDBY_S = 1.0
_SILENT_S = 30.0  # a standby logs that rows have waited for this time
_STATE_EVERY_S = 5.0
_DATABASE_RETRY_S = 0.25
_PRODUCER_RETRY_S = 1.0
_REQUEST_MS = 5000
_STOP_S = 1.0
_RELEASE_S = 0.3
_ANSWER_S = 5.0
_STATEMENT_S = 1.5
_KAFKA_ERRORS = (KafkaError, OSError)


class _RowOutcomes:
    """Records the outcomes of rows, over one connection that several lanes share, under our lease."""

    def __init__(self, connection: Any, lease: Lease, turn: asyncio.Lock, on_published: Callable[[], None]) -> None:
        self.check = lease.check
        self._connection = connection
        self._lease = lease
        self._turn = turn
        self._on_published = on_published

    async def mark(self, outbox_ids: Sequence[int]) -> None:
        self._on_published()
        async with self._turn:
            held = await QUERIES.mark(self._connection, outbox_ids=outbox_ids, fence=self._lease.fence)
        _raise_unless(held)

    async def refuse(self, errors: Mapping[int, str]) -> None:
        async with self._turn:
            held = await QUERIES.refuse(
                self._connection, outbox_ids=list(errors), errors=list(errors.values()), fence=self._lease.fence
            )
        _raise_unless(held)


def _raise_unless(held: int) -> None:
    if not held:
        raise LeaseLostError("another process holds the lease 'relay'")


class Relay(Actor[None]):
    """Publishes pending rows of the outbox, and republishes those that were not recorded.

    `expected` says which consumers record which events. An event counts as lost if it was published `reconcile_after_s`
    ago and one of them has not recorded it; at once after the broker was lost, and with `reconcile_at_start` when this
    relay begins to lead: a broker without storage may have begun empty while nobody led. Consumers record event ids, so
    a repetition has no effect. `on_published` is called when the broker has new records.
    """

    def __init__(
        self,
        database: Database,
        broker: KafkaCluster,
        expected: Sequence[Expected],
        signer: EventSigner,
        *,
        reconcile_after_s: float = 30.0,
        reconcile_at_start: bool = False,
        metrics: StreamMetrics | None = None,
        on_published: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._broker = broker
        self._metrics = metrics or StreamMetrics()
        self._publisher = Publisher(broker.prefix, signer, self._metrics)
        self._reconciler = Reconciler(expected, reconcile_after_s)
        self._reconcile_at_start = reconcile_at_start
        self._on_published = on_published
        self._lease = Lease("relay")
        self._woken = asyncio.Event()
        self._turn = asyncio.Lock()
        self._state_due = 0.0

    async def run(self) -> None:
        """Lead when it is our turn, over one pair of connections after another."""
        while True:
            await self._database.available.wait()  # which also says that the schema is there
            try:
                async with contextlib.AsyncExitStack() as connections:
                    holding, working = [await connections.enter_async_context(self._session()) for _ in range(2)]
                    await self._lead(holding, working)
            except LeaseLostError as lost:
                _LOG.warning("the relay lost its lease: %s", lost)
            except Refusal as refusal:
                if not passes(refusal):
                    raise
                why = described(refusal)
                if self._metrics.is_news("relay", why):
                    _LOG.warning("the relay waits for PostgreSQL: %s", why)
                await asyncio.sleep(_DATABASE_RETRY_S)
            finally:
                self._metrics.relay_leads = False

    def _session(self) -> contextlib.AbstractAsyncContextManager[Any]:
        return self._database.session("callboard relay", timeout_s=_ANSWER_S, statement_timeout_s=_STATEMENT_S)

    async def _lead(self, holding: Any, working: Any) -> None:
        """Wait for the lease, then publish through one producer after another while it is held."""
        while not await self._lease.take(holding):
            await self._stand_by(working)
            await asyncio.sleep(_STANDBY_S)
        self._metrics.relay_leads = True
        if self._reconcile_at_start:
            self._reconciler.suspect()
        await holding.add_listener("callboard_outbox", lambda *_: self._woken.set())
        keeping = asyncio.create_task(self._lease.keep(holding))
        try:
            await _unless(keeping, self._publish_for_ever(working))
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            with contextlib.suppress(TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                async with asyncio.timeout(_RELEASE_S):
                    await self._lease.release(holding)

    async def _stand_by(self, connection: Any) -> None:
        """Log if nothing has been published for long: then the leader does not do its work."""
        await self._look(connection)
        if self._metrics.oldest_pending_s > _SILENT_S and self._metrics.is_news("standby"):
            _LOG.warning("nothing was published for %.0f s although events wait", self._metrics.oldest_pending_s)

    async def _publish_for_ever(self, connection: Any) -> None:
        while True:
            await self._broker.wait("the relay")
            try:
                await self._publish_while_it_lasts(connection)
            except BrokerLostError as lost:
                if self._metrics.is_news("relay", str(lost)):
                    _LOG.warning("the relay pauses: %s", lost)
                self._reconciler.suspect()
            except _KAFKA_ERRORS as error:
                if self._metrics.is_news("relay", repr(error)):
                    _LOG.warning("the relay creates a new producer: %r", error)
                await asyncio.sleep(_PRODUCER_RETRY_S)

    async def _publish_while_it_lasts(self, connection: Any) -> None:
        """Publish until the broker is lost; always ends with an error."""
        producer = FencedProducer(
            self._lease,
            bootstrap_servers=self._broker.bootstrap,
            acks="all",
            request_timeout_ms=_REQUEST_MS,
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            **self._broker.security.client_options(),
        )
        watch = asyncio.create_task(self._broker.watch())
        watch.add_done_callback(producer.fence_unless_cancelled)  # at once, whatever we wait for
        lanes: dict[str, asyncio.Task[None]] = {}
        try:
            await _unless(watch, producer.start())
            outcomes = _RowOutcomes(connection, self._lease, self._turn, self._on_published)
            while True:
                self._woken.clear()
                self._lease.check()
                async with self._turn:
                    await self._reconciler.run_due(connection)  # first: republished events go before new ones
                    await self._look(connection)
                await self._fill_lanes(connection, producer, outcomes, lanes)
                await self._rest(watch)
                _finish(lanes)
        finally:
            watch.cancel()
            for lane in lanes.values():
                lane.cancel()
            if lanes:
                await asyncio.wait(lanes.values())
            await (close_now(producer) if producer.is_fenced else _closed(producer))

    async def _fill_lanes(
        self, connection: Any, producer: Any, outcomes: _RowOutcomes, lanes: dict[str, asyncio.Task[None]]
    ) -> None:
        """Start lanes for pending rows of free topics."""
        busy = [*lanes, *self._publisher.closed_topics()]
        async with self._turn:
            rows = [row async for row in QUERIES.pending(connection, limit=_BATCH, busy=busy)]
        by_topic = {
            topic: list(found) for topic, found in groupby(sorted(rows, key=itemgetter("topic")), itemgetter("topic"))
        }
        for topic in sorted(by_topic)[: _LANES - len(lanes)]:
            lane = asyncio.create_task(self._publisher.publish(producer, outcomes, topic, by_topic[topic]))
            lane.add_done_callback(lambda _: self._woken.set())
            lanes[topic] = lane

    async def _look(self, connection: Any) -> None:
        """Count the waiting rows, at intervals."""
        now = asyncio.get_running_loop().time()
        if now >= self._state_due:
            self._state_due = now + _STATE_EVERY_S
            state = await QUERIES.state(connection)
            self._metrics.waiting_rows = state["waiting"]
            self._metrics.oldest_pending_s = state["oldest_s"]

    async def _rest(self, watch: "asyncio.Task[None]") -> None:
        """Wait for a notification or the end of a lane, some seconds at most. Raises the error that ended the watch."""
        woken: asyncio.Task[Any] = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait({woken, watch}, timeout=_POLL_S, return_when="FIRST_COMPLETED")
        finally:
            woken.cancel()
        if watch.done():
            watch.result()


def _finish(lanes: dict[str, "asyncio.Task[None]"]) -> None:
    """Remove the lanes that have ended. Raises the error of one of them."""
    for topic in [topic for topic, lane in lanes.items() if lane.done()]:
        lanes.pop(topic).result()


async def _unless(watch: "asyncio.Future[None]", work: Coroutine[Any, Any, None]) -> None:
    """Run `work`, but cancel it when the watch ends, with the watch's error."""
    doing = asyncio.create_task(work)
    try:
        await asyncio.wait({doing, watch}, return_when="FIRST_COMPLETED")
        if not doing.done():
            watch.result()
    finally:
        if not doing.done():
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)  # whatever its end: the watch's error goes first
    doing.result()


async def _closed(producer: Any) -> None:
    """Close a producer, within a second even without a broker."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait({stopping}, timeout=_STOP_S)
    if not stopping.done():
        stopping.cancel()
        await close_now(producer)
