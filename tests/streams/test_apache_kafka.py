"""What only Apache Kafka can show: logins, transactions, topics made anew. Skipped where it has not been fetched."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from kit import kafka

from callboard.actors.analytics.events import ACTIVITY
from callboard.ops.streams import kafka_breaker
from callboard.streams.cluster import KafkaCluster
from callboard.streams.security import KafkaSecurity
from callboard.streams.topics import full_name

pytestmark = pytest.mark.skipif(kafka.why_absent() is not None, reason=str(kafka.why_absent()))
EFFECTS = "select count(*) from effects"


@pytest.fixture
def addresses(apache: kafka.ApacheKafka) -> kafka.Addresses:
    return apache.addresses


@pytest.fixture
async def real(stage: Any, apache: kafka.ApacheKafka) -> Any:
    """The stage, on Apache Kafka."""
    await apache.start()
    stage.broker = KafkaCluster(apache.url, f"t{uuid4().hex[:8]}", breaker=kafka_breaker(), partitions=4)
    return stage


async def send(stage: Any, count: int, **options: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=stage.broker.addresses, **options)
    await producer.start()
    try:
        name = full_name(stage.broker.prefix, ACTIVITY)
        records = [stage.encoded(stage.view(f"s{number}")) for number in range(count)]
        sent = [await producer.send(name, v, key=b"%d" % n, headers=h) for n, (v, h) in enumerate(records)]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def go_and_come(stage: Any, address: str, security: KafkaSecurity | None) -> None:
    """Twenty events of ours have their effects, over one address of the broker."""
    stage.broker = KafkaCluster(address, f"t{uuid4().hex[:8]}", breaker=kafka_breaker(), security=security)
    async with stage.playing("relay", "streams"):
        await stage.emit(*(stage.view(f"s{number}") for number in range(20)))
        await stage.until(20, EFFECTS)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_events_go_and_come_over_a_login(real: Any, addresses: kafka.Addresses, mechanism: str) -> None:
    await go_and_come(real, addresses.sasl, KafkaSecurity("SASL_PLAINTEXT", mechanism, kafka.USER, kafka.PASSWORD))


async def test_events_go_and_come_over_tls_with_a_login(real: Any, addresses: kafka.Addresses) -> None:
    await go_and_come(
        real,
        addresses.tls,
        KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", kafka.USER, kafka.PASSWORD, ca_file=addresses.ca_file),
    )


async def test_events_go_and_come_over_ipv6(real: Any, addresses: kafka.Addresses) -> None:
    if not addresses.ipv6:
        pytest.skip("there is no IPv6 on this machine: ::1 cannot be bound")
    await go_and_come(real, addresses.ipv6, None)


@pytest.mark.parametrize(
    ("password", "trusts", "why"),
    [(kafka.PASSWORD, False, "certificate verify failed"), ("another password", True, "invalid credentials")],
)
async def test_why_a_cluster_cannot_be_used_is_said_and_the_password_is_not(
    addresses: kafka.Addresses, caplog: pytest.LogCaptureFixture, password: str, why: str, *, trusts: bool
) -> None:
    ca_file = addresses.ca_file if trusts else ""
    security = KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", kafka.USER, password, ca_file=ca_file)
    cluster = KafkaCluster(addresses.tls, "t", breaker=kafka_breaker(), security=security)
    waiting = asyncio.create_task(cluster.wait("the test"))
    async with asyncio.timeout(60):
        while not cluster.why_lost:  # noqa: ASYNC110 - it is told to people, and no event
            await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert why in cluster.why_lost
    assert why in caplog.text
    assert password not in caplog.text


async def test_what_a_transaction_aborted_has_no_effect(real: Any) -> None:
    async with real.playing("streams"):
        producer = AIOKafkaProducer(bootstrap_servers=real.broker.addresses, transactional_id=uuid4().hex)
        await producer.start()
        name = full_name(real.broker.prefix, ACTIVITY)
        for end in (producer.abort_transaction, producer.commit_transaction):
            await producer.begin_transaction()
            for _ in range(50):
                value, headers = real.encoded(real.view())
                await producer.send(name, value, headers=headers)
            await end()
        await producer.stop()
        await send(real, 5)
        await real.until(55, EFFECTS)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_batches_are_read(real: Any, codec: str) -> None:
    async with real.playing("streams"):
        await send(real, 100, compression_type=codec, linger_ms=20)
        await real.until(100, EFFECTS)


async def test_a_topic_that_is_made_anew_with_more_partitions_is_read_within_seconds(real: Any) -> None:
    name = full_name(real.broker.prefix, ACTIVITY)
    async with real.playing("relay", "streams"):
        await send(real, 30)
        await real.until(30, EFFECTS)
        admin = AIOKafkaAdminClient(bootstrap_servers=real.broker.addresses)
        await admin.start()
        await admin.delete_topics([name])
        while (await admin.create_topics([NewTopic(name, 8, 1)])).topic_errors[0][1] not in (0, 36):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)
        await send(real, 50)
        await real.until(80, EFFECTS)
        await admin.create_partitions({name: NewPartitions(12)})
        await send(real, 40)
        await real.until(120, EFFECTS)
        await admin.close()


async def test_a_backlog_of_twenty_thousand_is_read_at_the_first_try(real: Any) -> None:
    async with real.playing("streams"):
        await send(real, 20_000, linger_ms=5)
        await real.until(20_000, EFFECTS)
