"""The relay: it publishes the outbox, and sees to it that every event is recorded by the consumers that are to have it.

Delivery is at least once, in order for each key. One relay leads among all processes; the others stand by. A broker or
a PostgreSQL that is away is a normal state: rows stay pending, and are published when it is back.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosql
import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from callboard.actors.database import AWAY, Database
from callboard.runtime import Actor
from callboard.streams.broker import Broker, BrokerLostError
from callboard.streams.codec import signed_headers
from callboard.streams.consumers import Expected
from callboard.streams.driver import cut
from callboard.streams.events import OUR_SOURCE
from callboard.streams.signatures import EventSigner
from callboard.streams.topics import EVENT_LIFE_S, REMEMBERED_S, full_name

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("relay.sql"), "asyncpg")

_LOG = logging.getLogger(__name__)
_BATCH = 500
_POLL_S = 1.0  # should a notification get lost
_STANDBY_S = 1.0
_DATABASE_RETRY_S = 0.25
_BACKOFF_S = (1.0, 2.0, 4.0, 10.0)  # a broker that answers and does not take our records
_REQUEST_MS = 5000
_STOP_S = 1.0
_RECONCILE_EVERY_S = 10.0
_PURGE_EVERY_S = 60.0
_PURGE_BATCH = 5000
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Relay(Actor[None]):
    """Publishes pending rows of the outbox, and again those that were published and not recorded.

    `expected` says which consumers are to record what. An event counts as lost when it was published
    `reconcile_after_s` ago and one of them has not; at once after the broker was lost, and at the start with
    `reconcile_at_start` (a broker that keeps nothing begins empty). Consumers know event ids, so nobody acts twice.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        expected: Sequence[Expected],
        signer: EventSigner,
        *,
        reconcile_after_s: float = 30.0,
        reconcile_at_start: bool = False,
    ) -> None:
        self._database = database
        self._broker = broker
        self._signer = signer
        self._expected = {
            "topics": [each.topic for each in expected],
            "types": [each.type for each in expected],
            "consumers": [each.consumer for each in expected],
        }
        self._after_s = reconcile_after_s
        self._suspicious = reconcile_at_start  # the broker may have lost what it had
        self._recorded_until = _LONG_AGO
        self._woken = asyncio.Event()
        self._due: dict[str, float] = {}

    async def run(self) -> None:
        """Lead when it is our turn, over one connection after the other."""
        away = False
        while True:
            await self._database.back.wait()  # which also says that the schema is there
            try:
                connection = await asyncpg.connect(self._database.url, timeout=2.0, command_timeout=10.0)
                try:
                    away = False
                    await self._lead(connection)
                finally:
                    connection.terminate()  # which also lets go of the lock
            except (asyncpg.InterfaceError, *AWAY) as error:
                if not away:
                    _LOG.warning("the relay waits for PostgreSQL: %s", error)
                away = True
                await asyncio.sleep(_DATABASE_RETRY_S)

    async def _lead(self, connection: Any) -> None:
        """Wait for the lead, then publish through one producer after the other."""
        while not await QUERIES.lead(connection):  # noqa: ASYNC110 - the lock is another process's: no event tells
            await asyncio.sleep(_STANDBY_S)
        await connection.add_listener("callboard_outbox", lambda *_: self._woken.set())
        failures = 0
        while True:
            await self._broker.wait("the relay")
            try:
                await self._publish_while_it_lasts(connection)
            except BrokerLostError as lost:
                _LOG.warning("the relay pauses: %s", lost)
                self._suspicious = True
                failures = 0
            except KafkaError as error:
                pause_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                _LOG.warning("the relay tries again in %g s: %r", pause_s, error)
                failures += 1
                await asyncio.sleep(pause_s)

    async def _publish_while_it_lasts(self, connection: Any) -> None:
        """Publish until the broker is lost or refuses; always ends with BrokerLostError or KafkaError."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._broker.addresses, acks="all", request_timeout_ms=_REQUEST_MS, linger_ms=0
        )
        watch = asyncio.create_task(self._broker.watch())
        try:
            await _unless(watch, producer.start())
            while True:
                self._woken.clear()
                await self._upkeep(connection)  # first: what comes again goes before what is new
                if not await self._publish_batch(connection, producer, watch):
                    await self._rest(watch)
        finally:
            watch.cancel()
            await _closed(producer)

    async def _publish_batch(self, connection: Any, producer: Any, watch: "asyncio.Task[None]") -> bool:
        """Publish up to `_BATCH` pending rows and mark what was acknowledged; whether there were any."""
        rows = [row async for row in QUERIES.pending(connection, limit=_BATCH)]
        acknowledged: list[int] = []
        try:
            await _unless(watch, self._send(producer, rows, acknowledged))
        finally:
            if acknowledged:
                await QUERIES.mark(connection, outbox_ids=acknowledged)
        return bool(rows)

    async def _send(self, producer: Any, rows: Iterable[Any], acknowledged: list[int]) -> None:
        """Send rows, each only after the one before it of its key is acknowledged. Raises the first failure."""
        failure: BaseException | None = None
        blocked: set[tuple[str, str]] = set()
        for wave in _waves(rows):
            sent = [(row, await self._hand_over(producer, row)) for row in wave if _key(row) not in blocked]
            outcomes = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
            for (row, _), outcome in zip(sent, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    blocked.add(_key(row))
                    failure = failure or outcome
                else:
                    acknowledged.append(row["outbox_id"])
        if failure is not None:
            raise failure

    async def _hand_over(self, producer: Any, row: Any) -> Any:
        """Give a row to the producer; the future of its acknowledgement."""
        return await producer.send(
            full_name(self._broker.prefix, row["topic"]),
            row["value"],
            key=row["key"].encode(),
            headers=signed_headers(
                self._signer,
                row["value"],
                event_id=str(row["event_id"]),
                source=OUR_SOURCE,
                type=row["type"],
                occurred_at=row["occurred_at"],
                traceparent=row["traceparent"],
            ),
        )

    async def _upkeep(self, connection: Any) -> None:
        """What is done now and then."""
        if self._suspicious:
            await self._reconcile(connection, at_once=True)
            self._suspicious = False
        elif self._is_due("reconcile", _RECONCILE_EVERY_S):
            await self._reconcile(connection, at_once=False)
        if self._is_due("purge", _PURGE_EVERY_S):
            await QUERIES.purge_outbox(connection, keep_s=REMEMBERED_S, limit=_PURGE_BATCH, **self._expected)
            await QUERIES.purge_consumed(connection, keep_s=REMEMBERED_S, limit=_PURGE_BATCH)

    async def _reconcile(self, connection: Any, *, at_once: bool) -> None:
        """Set pending again what was published and not recorded in time."""
        found = await QUERIES.reconcile(
            connection,
            at_once=at_once,
            since=self._recorded_until,
            grace_s=0.0 if at_once else self._after_s,
            window_s=EVENT_LIFE_S,
            **self._expected,
        )
        self._recorded_until = found["settled_until"]
        if found["again"]:
            _LOG.warning("%d events were published and not recorded: they are sent again", found["again"])

    def _is_due(self, what: str, every_s: float) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True

    async def _rest(self, watch: "asyncio.Task[None]") -> None:
        """Wait for a notification, a second at most. Raises what ended the watch."""
        woken: asyncio.Task[Any] = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait({woken, watch}, timeout=_POLL_S, return_when="FIRST_COMPLETED")
        finally:
            woken.cancel()
        if watch.done():
            watch.result()


def _key(row: Any) -> tuple[str, str]:
    return row["topic"], row["key"]


def _waves(rows: Iterable[Any]) -> Iterator[list[Any]]:
    """The first row of each key, then the second of each, and so on."""
    waves: list[list[Any]] = []
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        turn = seen.get(_key(row), 0)
        seen[_key(row)] = turn + 1
        if turn == len(waves):
            waves.append([])
        waves[turn].append(row)
    return iter(waves)


async def _unless(watch: "asyncio.Task[None]", work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, but give it up when the watch ends, with the watch's error."""
    doing = asyncio.create_task(work)
    try:
        await asyncio.wait({doing, watch}, return_when="FIRST_COMPLETED")
        if not doing.done():
            watch.result()
    finally:
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})
    doing.result()


async def _closed(producer: Any) -> None:
    """Close a producer, within a second even without a broker."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait({stopping}, timeout=_STOP_S)
    if not stopping.done():
        stopping.cancel()
        await cut(producer)
