"""A process of its own with the relay, the reader and one consumer: `stream_process.py DATABASE BROKER PREFIX FOLDER`.

It says `reading` when it reads. A fifth argument, `embedded`, says that the broker keeps nothing. An effect is a row
of the table `effects`, as in the tests of streams.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import uvloop

from callboard.actors.analytics.events import ACTIVITY, ActivityRecorded
from callboard.actors.infrastructure.database import Database
from callboard.ops.streams import kafka_breaker
from callboard.runtime import Actor, Intensity, Props, System, on, supervisor, worker
from callboard.streams.cluster import KafkaCluster
from callboard.streams.consumers import Consumer, expected
from callboard.streams.event_types import ConsumeEvents
from callboard.streams.faust_app import FaustConsumer
from callboard.streams.fetching import FetchWake
from callboard.streams.outbox import deduplicate
from callboard.streams.relay import Relay
from callboard.streams.signatures import EventSigner

SIGNER = EventSigner(["the tests' own secret, and no other installation's"])
EFFECTS = """
create table if not exists effects (nr bigint generated always as identity, subject_id text, value float8)
"""


class Recorder(Actor[ConsumeEvents]):
    """Notes an effect for each event, in one transaction with the record of the event."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(ConsumeEvents)
    async def consume(self, message: ConsumeEvents) -> None:
        """Insert rows."""
        async with self.database.transaction() as connection:
            events = [each.event for each in await deduplicate(connection, "recorder", message.envelopes)]
            activities = [event for event in events if isinstance(event, ActivityRecorded)]
            await connection.execute(
                "insert into effects (subject_id, value) select * from unnest($1::text[], $2::float8[])",
                [event.subject_id for event in activities],
                [event.value for event in activities],
            )


class StreamProcess:
    """Such a process, from outside."""

    def __init__(self, url: str, broker: KafkaCluster, folder: Path, log: Path) -> None:
        arguments = [url, ",".join(broker.addresses), broker.prefix, str(folder)]
        if broker.holds_no_fetch:
            arguments.append("embedded")
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-m", "kit.stream_process", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            )

    def wait_reading(self) -> None:
        """Return when it reads. Raises AssertionError if it ends before."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"reading\n", self.log.read_text()[-3000:]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, even while it is stopped."""
        self.process.kill()
        self.process.communicate()


async def main(url: str, addresses: str, prefix: str, folder: str, *embedded: str) -> None:
    """Publish and read for ever."""
    database = Database(url, statement_timeout_s=30.0)
    await database.connect()
    cluster = KafkaCluster(addresses, prefix, breaker=kafka_breaker(), holds_no_fetch=bool(embedded))
    recorder, wake, reading = worker("recorder", Props(Recorder, database)), FetchWake(), asyncio.Event()
    consumers = (Consumer("recorder", (ACTIVITY,), (ActivityRecorded,), recorder),)
    relays = (database, cluster, expected(consumers), SIGNER)
    relay = Props(Relay, *relays, reconcile_at_start=bool(embedded), on_published=wake.wake)
    reads = (cluster, consumers, database, SIGNER, Path(folder))
    reader = Props(FaustConsumer, *reads, reading=reading, wake=wake, session_timeout_s=2.0)
    children = (recorder, worker("relay", relay), worker("streams", reader))
    async with System(supervisor("process", *children, intensity=Intensity(20, 5.0))):
        await reading.wait()
        print("reading", flush=True)  # noqa: T201 - whoever started us reads it
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
