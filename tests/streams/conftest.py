"""A stage for the tests of streams: real PostgreSQL, a real broker, the relay, the Faust app, and one consumer."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from kit import kafka

from callboard.actors.analytics.events import ACTIVITY, ActivityRecorded
from callboard.actors.infrastructure.database import Database
from callboard.ops.embedded.broker import KafkaCluster as Server
from callboard.ops.embedded.data_directory import DataDirectory, free_ports, open_data_directory
from callboard.ops.embedded.postgres import Postgres
from callboard.ops.streams import kafka_breaker
from callboard.runtime import (
    Actor,
    Context,
    Intensity,
    Message,
    Props,
    Refusal,
    System,
    current_context,
    on,
    supervisor,
    worker,
)
from callboard.streams.cloudevents import encode
from callboard.streams.cluster import KafkaCluster
from callboard.streams.consumers import Consumer, expected
from callboard.streams.event_types import ConsumeEvents
from callboard.streams.faust_app import FaustConsumer
from callboard.streams.outbox import deduplicate, emit
from callboard.streams.relay import Relay
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics
from callboard.streams.topics import Topic, full_name

SCHEMA = Path(__file__).parents[2] / "schema.sql"
EFFECTS = "create table effects (nr bigint generated always as identity, subject_id text, value float8)"
SIGNER = EventSigner(["the tests' own secret, and no other installation's"])
LIMIT_S = 40.0  # of a wait that a busy machine may stretch; what is promised in seconds stands in tests/bench
PARTITIONS = 4


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterable[DataDirectory]:
    with open_data_directory(tmp_path_factory.mktemp("streams") / "data") as place:
        yield place
        place.reset()


@pytest.fixture(scope="session")
async def postgres(place: DataDirectory) -> AsyncIterator[Postgres]:
    (port,) = free_ports(1)
    server = Postgres(place, port)
    await server.start()
    connection = await asyncpg.connect(server.url)
    await connection.execute(SCHEMA.read_text(encoding="utf-8"))
    await connection.execute(EFFECTS)
    await connection.close()
    yield server
    await server.stop()


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[Database]:
    database = Database(postgres.url, statement_timeout_s=30.0)
    await database.connect()
    async with database.acquire() as connection:
        await connection.execute("truncate outbox, consumed_events, dead_letters, effects")
    yield database
    database.disconnect()


@pytest.fixture(scope="session")
async def apache(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[kafka.ApacheKafka]:
    """Apache Kafka, for all tests together: it takes seconds to start."""
    server = kafka.ApacheKafka(tmp_path_factory.mktemp("kafka"))
    await server.start()
    yield server
    await server.kill()


if kafka.EMBEDDED:

    @pytest.fixture
    async def server(place: DataDirectory) -> AsyncIterator[Server]:
        """An embedded broker of the test's own."""
        (port,) = free_ports(1)
        server = Server(place, port)
        await server.start()
        yield server
        await killed(server)

else:

    @pytest.fixture
    async def server(apache: kafka.ApacheKafka) -> kafka.ApacheKafka:
        """Apache Kafka, which another test may have killed."""
        await apache.start()
        return apache


async def killed(server: Server | kafka.ApacheKafka) -> None:
    """SIGKILL, at once."""
    if isinstance(server, kafka.ApacheKafka):
        await server.kill()
    else:
        await server._server.stop(signal.SIGKILL, 5)


@pytest.fixture
def kill() -> Callable[[Server | kafka.ApacheKafka], Awaitable[None]]:
    return killed


class Books:
    """What the recorder did, kept across its restarts, and the test's hold on it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()  # an ask has arrived
        self.open = asyncio.Event()  # asks may go on
        self.open.set()
        self.batches: list[int] = []
        self.contexts: list[Context | None] = []


class Recorder(Actor[ConsumeEvents]):
    """The consumer: an effect is a row. The subject "refused" is refused, "crash" crashes the actor."""

    def __init__(self, database: Database, books: Books) -> None:
        self.database = database
        self.books = books

    @on(ConsumeEvents)
    async def consume(self, message: ConsumeEvents) -> None:
        self.books.batches.append(len(message.envelopes))
        self.books.contexts.append(current_context())
        self.books.asked.set()
        await self.books.open.wait()
        async with self.database.transaction() as connection:
            events = [envelope.event for envelope in await deduplicate(connection, "recorder", message.envelopes)]
            assert all(isinstance(event, ActivityRecorded) for event in events)
            await connection.execute(
                "insert into effects (subject_id, value) select * from unnest($1::text[], $2::float8[])",
                [event.subject_id for event in events],  # type: ignore[attr-defined]
                [event.value for event in events],  # type: ignore[attr-defined]
            )
            subjects = {event.subject_id for event in events}  # type: ignore[attr-defined]
            if "refused" in subjects:
                raise Refusal("not this one")
            if "crash" in subjects:
                raise ZeroDivisionError


class Stage:
    """All the parts of one test, and what tests do with them."""

    def __init__(self, database: Database, server: Server | kafka.ApacheKafka, data: Path) -> None:
        self.database = database
        self.server = server
        self.data = data
        self.broker = KafkaCluster(
            server.url,
            f"t{uuid4().hex[:8]}",
            breaker=kafka_breaker(),
            partitions=PARTITIONS,
            holds_no_fetch=isinstance(server, Server),
            cpu_time=server.cpu_time if isinstance(server, Server) else lambda: None,
        )
        self.books = Books()
        self.reading = asyncio.Event()
        self.seen: list[Any] = []  # what happened in the tree
        self.metrics = StreamMetrics()
        self.signer = SIGNER
        self.recorder = worker("recorder", Props(Recorder, database, self.books))
        self.consumers = (Consumer("recorder", (ACTIVITY,), (ActivityRecorded,), self.recorder),)

    @asynccontextmanager
    async def playing(
        self, *parts: str, reconcile_after_s: float = 30.0, at_start: bool = False
    ) -> AsyncIterator[None]:
        """Run the recorder with some of "relay" and "streams"; go in when records are read."""
        children: list[Any] = [self.recorder]
        if "relay" in parts:
            given = (self.database, self.broker, expected(self.consumers), SIGNER)
            options: dict[str, Any] = {
                "reconcile_after_s": reconcile_after_s,
                "reconcile_at_start": at_start,
                "metrics": self.metrics,
            }
            children.append(worker("relay", Props(Relay, *given, **options)))
        if "streams" in parts:
            streams = (self.broker, self.consumers, self.database, SIGNER, self.data)
            children.append(
                worker(
                    "streams",
                    Props(FaustConsumer, *streams, session_timeout_s=2.0, reading=self.reading, metrics=self.metrics),
                )
            )
        async with System(supervisor("stage", *children, intensity=Intensity(20, 5.0))) as system:
            system.subscribe(self.seen.append)
            if "streams" in parts:
                await asyncio.wait_for(self.reading.wait(), LIMIT_S)
            yield

    def understudy(self) -> "Stage":
        """The same installation in another process, as it were."""
        other = Stage(self.database, self.server, self.data)
        other.broker = self.broker
        return other

    def recast(self) -> None:
        """A new recorder, for a stopped one stays stopped."""
        self.recorder = worker("recorder", Props(Recorder, self.database, self.books))
        self.consumers = (Consumer("recorder", (ACTIVITY,), (ActivityRecorded,), self.recorder),)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the broker."""
        assert self.server.pid is not None
        os.kill(self.server.pid, number)

    async def lost(self) -> None:
        """Wait until the app has noticed that the broker is lost."""
        async with asyncio.timeout(LIMIT_S):
            while self.reading.is_set():  # noqa: ASYNC110 - an event tells when it is set, not when it is cleared
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
        """A producer of our own: `send(value, headers, key=, topic=)`."""
        await self.broker.wait("the test")
        producer = AIOKafkaProducer(bootstrap_servers=self.broker.addresses)
        await producer.start()

        async def send(value: bytes, headers: Any, key: str = "s", topic: Topic = ACTIVITY) -> Any:
            return await producer.send(
                full_name(self.broker.prefix, topic), value, key=key.encode(), headers=list(headers)
            )

        try:
            yield send
        finally:
            await producer.stop()

    async def emit(self, *events: Message) -> None:
        """Each event in one transaction with the others."""
        async with self.database.transaction() as connection:
            for event in events:
                await emit(connection, event, event_id=uuid4())

    @staticmethod
    def view(subject_id: str = "s", value: float = 1.0, metric: str = "page_views") -> ActivityRecorded:
        return ActivityRecorded(metric=metric, value=value, subject_id=subject_id, occurred_at=datetime.now(UTC))

    @staticmethod
    def encoded(event: Message, event_id: str | None = None) -> tuple[bytes, list[tuple[str, bytes]]]:
        return encode(event, event_id=event_id or str(uuid4()), occurred_at=datetime.now(UTC), source="/tests")

    async def execute(self, statement: str) -> None:
        async with self.database.acquire() as connection:
            await connection.execute(statement)

    async def count(self, query: str) -> int:
        async with self.database.acquire() as connection:
            return int(await connection.fetchval(query))

    async def until(self, wanted: int, query: str) -> None:
        """Wait until the query counts `wanted`; fail when it does not in time."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while await self.count(query) != wanted:  # noqa: ASYNC110 - the truth is in another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"{query}: {await self.count(query)}, not {wanted}; {self.seen}")


@pytest.fixture
async def stage(database: Database, server: Server | kafka.ApacheKafka, tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(database, server, tmp_path)
    yield made
    if isinstance(server, kafka.ApacheKafka):
        await server.delete_topics(made.broker.topics)
