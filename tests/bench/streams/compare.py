"""`make bench-streams`: commit to consumer, the relay, and effects beside a trivial Faust agent, on both brokers."""

import argparse
import asyncio
import datetime as dt
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import asyncpg
import faust
import uvloop
from aiokafka import AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import report
from kit import kafka

from callboard.actors.analytics.events import ACTIVITY, ActivityRecorded
from callboard.actors.infrastructure.database import Database
from callboard.ops import schema
from callboard.ops.embedded.broker import KafkaCluster as Tansu
from callboard.ops.embedded.data_directory import DataDirectory, free_ports, open_data_directory
from callboard.ops.embedded.postgres import Postgres
from callboard.ops.streams import kafka_breaker
from callboard.runtime import Actor, Props, System, on, supervisor, worker
from callboard.streams.cloudevents import encode
from callboard.streams.cluster import KafkaCluster
from callboard.streams.consumers import Consumer, expected
from callboard.streams.event_types import ConsumeEvents
from callboard.streams.faust_app import FaustConsumer
from callboard.streams.fetching import FetchWake
from callboard.streams.outbox import deduplicate, emit
from callboard.streams.relay import Relay
from callboard.streams.signatures import EventSigner
from callboard.streams.topics import full_name

EFFECTS = "create table bench_effects (subject_id text, value float8)"
SEEN = "create table bench_seen (event_id text primary key)"
SIGNER = EventSigner(["the benchmark's secret"])
PER_SECOND = 200
WARM_UP_S = 3.0
WRITTEN_MEANWHILE = 200
LIMIT_S = 120.0


class Server(Protocol):
    """A broker that is started and killed."""

    url: str

    async def start(self) -> None:
        """Start it."""

    async def kill(self) -> None:
        """SIGKILL."""


class Embedded(Tansu):
    """The embedded broker, as the other one."""

    async def kill(self) -> None:
        """SIGKILL."""
        await self._server.stop(signal.SIGKILL, 5)


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(text + "\n")


class Recorder(Actor[ConsumeEvents]):
    """The consumer: an effect is a row, and its time is noted."""

    def __init__(self, database: Database, arrived: dict[str, float]) -> None:
        self.database = database
        self.arrived = arrived

    @on(ConsumeEvents)
    async def consume(self, message: ConsumeEvents) -> None:
        """Record the events in one transaction."""
        now = time.perf_counter()
        for envelope in message.envelopes:
            self.arrived.setdefault(envelope.event.subject_id, now)  # type: ignore[attr-defined]
        async with self.database.transaction() as connection:
            fresh = await deduplicate(connection, "recorder", message.envelopes)
            await connection.execute(
                "insert into bench_effects select * from unnest($1::text[], $2::float8[])",
                [each.event.subject_id for each in fresh],
                [each.event.value for each in fresh],
            )


def view(subject_id: str) -> ActivityRecorded:
    """One event."""
    return ActivityRecorded(metric="views", value=1.0, subject_id=subject_id, occurred_at=dt.datetime.now(dt.UTC))


class Site:
    """Ours, on one broker and one database."""

    def __init__(self, database: Database, url: str, folder: Path, *, embedded: bool) -> None:
        self.database = database
        self.arrived: dict[str, float] = {}
        self.url = url
        self.folder = folder
        self.broker = KafkaCluster(url, f"b{uuid4().hex[:8]}", breaker=kafka_breaker(), holds_no_fetch=embedded)

    @asynccontextmanager
    async def running(self, *, relay: bool, streams: bool) -> AsyncIterator[None]:
        """Run the consumer with the relay, the reader, or both."""
        recorder, wake, reading = (
            worker("recorder", Props(Recorder, self.database, self.arrived)),
            FetchWake(),
            asyncio.Event(),
        )
        consumers = (Consumer("recorder", (ACTIVITY,), (ActivityRecorded,), recorder),)
        children = [recorder]
        if relay:
            given = (self.database, self.broker, expected(consumers), SIGNER)
            children.append(worker("relay", Props(Relay, *given, on_published=wake.wake)))
        if streams:
            read = (self.broker, consumers, self.database, SIGNER, self.folder)
            children.append(worker("streams", Props(FaustConsumer, *read, reading=reading, wake=wake)))
        async with System(supervisor("bench", *children)):
            if streams:
                await asyncio.wait_for(reading.wait(), LIMIT_S)
            yield

    async def count(self, query: str) -> int:
        """Return what a query counts."""
        async with self.database.acquire() as connection:
            return int(await connection.fetchval(query))

    async def clear(self) -> None:
        """Empty the tables."""
        self.arrived.clear()
        async with self.database.acquire() as connection:
            await connection.execute("truncate outbox, consumed_events, bench_effects, bench_seen")


async def rate(site: Site, query: str, total: int) -> float:
    """Return the rate at which a count grows to `total`, from the first sight of it on."""
    first: tuple[float, int] | None = None
    async with asyncio.timeout(LIMIT_S):
        while True:
            found, now = await site.count(query), time.perf_counter()
            if found >= total:
                began, before = first or (now, found)
                return (total - before) / max(now - began, 1e-9)
            if found and first is None:
                first = now, found
            await asyncio.sleep(0.005)


async def latencies(site: Site, seconds: float) -> list[float]:
    """Return the times from the commit of an event to its consumer, at a steady pace, without those of the first
    seconds: they begin when one event has come through.
    """
    await site.clear()
    warm_up = int(WARM_UP_S * PER_SECOND)
    committed: dict[str, float] = {}

    async def write(number: int) -> None:
        async with site.database.transaction() as connection:
            await emit(connection, view(f"l{number}"), event_id=uuid4())
        committed[f"l{number}"] = time.perf_counter()

    async with site.running(relay=True, streams=True):
        await write(-1)
        await rate(site, "select count(*) from bench_effects", 1)
        began, writing = time.perf_counter(), []
        for number in range(warm_up + int(seconds * PER_SECOND)):
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
            writing.append(asyncio.create_task(write(number)))
        await asyncio.gather(*writing)
        await rate(site, "select count(*) from bench_effects", len(writing) + 1)
    measured = (f"l{number}" for number in range(warm_up, len(writing)))
    return sorted(max(0.0, site.arrived[subject] - committed[subject]) for subject in measured)


async def relayed(site: Site, events: int) -> float:
    """Return the events a second that the relay publishes and marks."""
    await site.clear()
    async with site.database.transaction() as connection:
        for number in range(events):
            await emit(connection, view(f"r{number}"), event_id=uuid4())
    async with site.running(relay=True, streams=False):
        return await rate(site, "select count(*) from outbox where published_at is not null", events)


async def produce(site: Site, topic: str, events: int) -> None:
    """Have the broker keep events of a producer."""
    await site.broker.wait("the benchmark")
    async with AIOKafkaProducer(bootstrap_servers=site.url, linger_ms=5) as producer:
        sent = []
        for number in range(events):
            value, headers = encode(
                view(f"e{number}"), event_id=str(uuid4()), occurred_at=dt.datetime.now(dt.UTC), source="/bench"
            )
            sent.append(await producer.send(topic, value, b"%d" % number, headers=headers))
        await asyncio.gather(*sent)


async def effects(site: Site, events: int) -> float:
    """Return the deduplicated effects a second of a backlog."""
    await site.clear()
    await produce(site, full_name(site.broker.prefix, ACTIVITY), events)
    async with site.running(relay=False, streams=True):
        return await rate(site, "select count(*) from bench_effects", events)


async def faust_effects(site: Site, events: int) -> float:
    """Return the same of a trivial Faust agent: a transaction for each event, which an insert deduplicates."""
    await site.clear()
    topic = full_name(site.broker.prefix, ACTIVITY)
    await produce(site, topic, events)
    app = faust.App(
        f"trivial-{uuid4().hex[:8]}", broker=f"kafka://{site.url}", web_enabled=False, autodiscover=False,
        topic_disable_leader=True, topic_allow_declare=False, store="memory://", datadir=str(site.folder),
        value_serializer="raw", consumer_auto_offset_reset="earliest",
    )  # fmt: skip

    async def act(stream: Any) -> None:
        async for event in stream.events():
            event_id = dict(event.message.headers)["ce_id"].decode()
            async with site.database.transaction() as connection:
                fresh = await connection.fetchval(
                    "insert into bench_seen values ($1) on conflict do nothing returning true", event_id
                )
                if fresh:
                    await connection.execute("insert into bench_effects values ($1, 1)", event_id)

    app.agent(app.topic(topic))(act)
    await app.start()
    try:
        return await rate(site, "select count(*) from bench_effects", events)
    finally:
        await app.stop()


async def recovery(site: Site, server: Server) -> float:
    """Return the seconds from a killed broker's return until what was written meanwhile has its effects."""
    await site.clear()
    async with site.running(relay=True, streams=True):
        await server.kill()
        async with site.database.transaction() as connection:
            for number in range(WRITTEN_MEANWHILE):
                await emit(connection, view(f"w{number}"), event_id=uuid4())
        await server.start()
        began = time.perf_counter()
        await rate(site, "select count(*) from bench_effects", WRITTEN_MEANWHILE)
        return time.perf_counter() - began


async def measure_broker(site: Site, server: Server, scale: float) -> report.Figures:
    """Measure everything on one broker."""
    waits = await latencies(site, 20 * scale)
    return report.Figures(
        p50_ms=waits[len(waits) // 2] * 1000,
        p99_ms=waits[len(waits) * 99 // 100] * 1000,
        relay=await relayed(site, int(20_000 * scale)),
        ours=await effects(site, int(20_000 * scale)),
        faust=await faust_effects(site, int(5_000 * scale)),
        recovery_s=await recovery(site, server),
    )


@asynccontextmanager
async def brokers(place: DataDirectory, folder: Path) -> AsyncIterator[dict[str, Server]]:
    """Start the brokers that are here."""
    found: dict[str, Server] = {"embedded broker": Embedded(place, free_ports(1)[0])}
    if (why := kafka.why_absent()) is None:
        found["Apache Kafka"] = kafka.ApacheKafka(folder)
    else:
        say(why)
    for server in found.values():
        await server.start()
    try:
        yield found
    finally:
        for server in found.values():
            await server.kill()


async def measure(scale: float) -> dict[str, report.Figures]:
    """Measure on every broker that is here."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-streams-") as name,
        open_data_directory(Path(name) / "data") as place,
    ):
        server = Postgres(place, free_ports(1)[0])
        await server.start()
        database = Database(server.url, statement_timeout_s=60.0)
        try:
            await schema.install(server.url)
            connection = await asyncpg.connect(server.url)
            await connection.execute(f"{EFFECTS}; {SEEN}")
            await connection.close()
            await database.connect()
            figures = {}
            async with brokers(place, Path(name) / "kafka") as found:
                for broker, running in found.items():
                    say(broker)
                    site = Site(database, running.url, Path(name), embedded=isinstance(running, Embedded))
                    figures[broker] = await measure_broker(site, running, scale)
                    say(str(figures[broker]))
            return figures
        finally:
            database.disconnect()
            await server.stop()
            place.reset()


def main() -> None:
    """Measure, and write the page and the picture."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scale", type=float, default=1.0, help="of the numbers of events")
    options.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    chosen = options.parse_args()
    load = os.getloadavg()[0]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(measure(chosen.scale))
    facts = report.Facts(dt.datetime.now(dt.UTC).date().isoformat(), load, chosen.scale)
    chosen.out.mkdir(exist_ok=True)
    (chosen.out / "results.md").write_text(report.table(figures, facts))
    (chosen.out / "results.svg").write_text(report.picture(figures, facts))


if __name__ == "__main__":
    main()
