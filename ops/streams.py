"""The composition of a process's Kafka actors, publishers and readers, for the consumers of its departments."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from callboard.actors.department import Role
from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.database import Database
from callboard.ops.config.settings import Config
from callboard.ops.embedded.broker import KafkaCluster as EmbeddedBroker
from callboard.runtime import Backoff, Node, Props, worker
from callboard.streams.cluster import KafkaCluster
from callboard.streams.consumers import Consumer, expected
from callboard.streams.faust_app import FaustConsumer
from callboard.streams.fetching import FetchWake
from callboard.streams.relay import Relay
from callboard.streams.security import KafkaSecurity
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics

FIRST_PROBE_S, LAST_PROBE_S = 0.25, 1.0  # a refused connection costs about 0.1 ms


def kafka_breaker() -> CircuitBreaker:
    """Return the breaker of the cluster."""
    return CircuitBreaker("kafka", first_s=FIRST_PROBE_S, last_s=LAST_PROBE_S)


def kafka_security(read: Callable[[str], Any]) -> KafkaSecurity:
    """Return the TLS and the login to Kafka; `read` returns a setting by the name of its field, None without one."""
    names = {
        "protocol": "kafka_security_protocol",
        "mechanism": "kafka_sasl_mechanism",
        "username": "kafka_username",
        "password": "kafka_password",
        "ca_file": "kafka_ca_file",
    }
    given = {name: read(setting) for name, setting in names.items()}
    return KafkaSecurity(**{name: value for name, value in given.items() if value is not None})


class StreamParts:
    """The state that the streams' actors of one process share. `reading` is set while the topics are read."""

    def __init__(
        self,
        config: Config,
        database: Database,
        signer: EventSigner,
        consumers: tuple[Consumer, ...],
        *,
        embedded: EmbeddedBroker | None,
    ) -> None:
        self._embedded = embedded is not None
        self.reading = asyncio.Event()
        self.metrics = StreamMetrics()
        self._runs_here = Role.STREAMS in config.roles
        self._database = database
        self._consumers = consumers
        self.breaker = kafka_breaker()
        self._broker = KafkaCluster(
            config.kafka_brokers,
            config.topic_prefix,
            breaker=self.breaker,
            partitions=config.kafka_partitions,
            replication=config.kafka_replication,
            security=kafka_security(lambda name: getattr(config, name)),
            holds_no_fetch=embedded is not None,
            cpu_time=(lambda: None) if embedded is None else embedded.cpu_time,
            topics_changed=(lambda: None) if embedded is None else embedded.replace,
        )
        self._wake = FetchWake()
        self._signer = signer

    def nodes(self, data: Path, backoff: Backoff) -> list[Node]:
        """Return the actors, if this process has them; `data` is a folder of Faust's.

        An embedded broker begins empty: unrecorded events of its predecessor are republished at once.
        """
        if not self._runs_here:
            return []
        streams = Props(
            FaustConsumer,
            self._broker,
            self._consumers,
            self._database,
            self._signer,
            data,
            reading=self.reading,
            metrics=self.metrics,
            wake=self._wake,
        )
        relay = Props(
            Relay,
            self._database,
            self._broker,
            expected(self._consumers),
            self._signer,
            reconcile_at_start=self._embedded,
            metrics=self.metrics,
            on_published=self._wake.wake,
        )
        return [worker("streams", streams, backoff=backoff), worker("relay", relay, backoff=backoff)]

    async def check(self) -> None:
        """Raise Problem(SERVER_UNAVAILABLE) with the faults."""
        if not self._runs_here:
            return
        why = self._broker.why_lost
        faults = [] if self.reading.is_set() else ["the streams are not being read" + (why and f": {why}")]
        faults += self.metrics.stalled()
        faults += [f"the topic {topic} cannot be used: {why}" for topic, why in self._broker.unusable.items()]
        faults += [f"the topic {topic} accepts no events: {why}" for topic, why in self.metrics.refusing_topics.items()]
        if self.metrics.waiting_rows:
            faults.append(f"no broker takes {self.metrics.waiting_rows} events of the outbox; they wait")
        if faults:
            raise Problem(SERVER_UNAVAILABLE, "; ".join(faults))

    async def wait_ready(self) -> None:
        """Return when the topics are read, or at once in a process that does not read them."""
        if self._runs_here:
            await self.reading.wait()
