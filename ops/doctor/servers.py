"""The doctor's checks of Redis, Kafka and the mail servers."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from callboard.actors.delivery.department import DeliverySettings
from callboard.actors.delivery.smtp_errors import FAILURES, smtp_error
from callboard.actors.delivery.smtp_session import SmtpSession
from callboard.actors.delivery.smtp_settings import SmtpSettings, SmtpTimeouts, Tls
from callboard.actors.infrastructure.database_server import shown_address
from callboard.actors.infrastructure.redis import KeySpace
from callboard.ops.config.settings import Config
from callboard.ops.doctor.findings import Finding, Surroundings, skew
from callboard.ops.streams import kafka_breaker, kafka_security
from callboard.streams.cluster import BrokerLostError, KafkaCluster

TIMEOUT_S = 5.0
LEAST_REDIS = 7
EVICTING = ("volatile-", "allkeys-")
COPIES = 3  # brokers from which on a single copy of a topic is a fault
QUICK = SmtpTimeouts(connect_s=TIMEOUT_S, greeting_s=TIMEOUT_S, command_s=TIMEOUT_S)


async def check_redis(around: Surroundings) -> AsyncIterator[Finding]:
    """Check the server, our rights there, its memory and its clock."""
    url = around.read(Config, "redis_url")
    if not url:
        return
    client: Any = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    try:
        async for found in _redis(around, client):
            yield found
    except (RedisError, OSError) as error:
        said = f"REDIS_URL ({shown_address(url)}): {str(error) or type(error).__name__}"
        yield Finding("redis", said, "start the server, or correct REDIS_URL")
    finally:
        await client.aclose()


async def _redis(around: Surroundings, client: Any) -> AsyncIterator[Finding]:
    before = time.time()
    seconds, micros = await client.time()
    yield skew("redis clock", "Redis", seconds + micros / 1e6 - (before + time.time()) / 2)
    names = around.of(Config, ("environment", "service_name"))
    key = KeySpace(names["environment"], names["service_name"]).key("doctor", "probe", "time")
    for command in (("SET", key, "1", "EX", "10"), ("EVAL", "return redis.call('get', KEYS[1])", "1", key)):
        try:
            await client.execute_command(*command)
        except RedisError as error:
            mend = "give our user ~ENVIRONMENT:* and SET, GET, MGET, TIME, EVAL and EVALSHA; or make room"
            yield Finding("redis rights", f"Redis refuses {command[0]}: {error}", mend)
    try:
        about = await client.info()
    except RedisError:
        return  # our user needs no right to this
    version = str(about.get("valkey_version") or about.get("redis_version") or "0")
    old = "upgrade the server" if int(version.partition(".")[0]) < LEAST_REDIS else ""
    yield Finding("redis", f"{'Valkey' if 'valkey_version' in about else 'Redis'} {version}", old)
    if about.get("maxmemory") and not str(about.get("maxmemory_policy")).startswith(EVICTING):
        yield Finding("redis memory", "Redis refuses writes once it is full", "set maxmemory-policy volatile-lru")


async def check_kafka(around: Surroundings) -> AsyncIterator[Finding]:
    """Check the brokers, and the copies of our topics."""
    addresses = around.read(Config, "kafka_brokers")
    if not addresses:
        return
    security = kafka_security(lambda name: around.read(Config, name))
    prefix = around.read(Config, "topic_prefix") or ""
    cluster = KafkaCluster(addresses, prefix, breaker=kafka_breaker(), security=security)
    try:
        await cluster.reach()
        admin = AIOKafkaAdminClient(
            bootstrap_servers=cluster.bootstrap, request_timeout_ms=int(TIMEOUT_S * 1000), **security.client_options()
        )
        await admin.start()
        try:
            brokers = len((await admin.describe_cluster())["brokers"])
            there = set(await admin.list_topics())  # to describe a topic may create it
            topics = await admin.describe_topics(sorted(there & set(cluster.topics)))
        finally:
            await admin.close()
    except (BrokerLostError, KafkaError, OSError) as error:
        said = f"KAFKA_BROKERS: {str(error) or type(error).__name__}"
        yield Finding("kafka", said, "start the brokers, or correct KAFKA_BROKERS and KAFKA_SECURITY_PROTOCOL")
        return
    missing = sorted(set(cluster.topics) - there)
    if missing:
        mend = "a process with ROLES=streams creates them, if its user may"
        yield Finding("kafka topics", f"{len(missing)} topics are missing, such as {missing[0]}", mend)
    for found in judge_topics(brokers, topics):
        yield found


def judge_topics(brokers: int, topics: list[dict[str, Any]]) -> list[Finding]:
    """Judge the copies of topics, as the brokers describe them."""
    found = []
    partitions = [(each["topic"], one) for each in topics if not each["error_code"] for one in each["partitions"]]
    single = sorted({name for name, one in partitions if len(one["replicas"]) == 1})
    if single and brokers >= COPIES:
        mend = "raise their replication to 3 with kafka-reassign-partitions.sh, and set KAFKA_REPLICATION=3"
        found.append(Finding("kafka topics", f"{len(single)} topics have one copy, such as {single[0]}", mend))
    behind = sorted({name for name, one in partitions if len(one["isr"]) < len(one["replicas"])})
    if behind:
        mend = "start the broker that is missing, and wait until it has caught up"
        found.append(Finding("kafka topics", f"copies of {', '.join(behind[:3])} are behind", mend))
    leaderless = sorted({name for name, one in partitions if one["leader"] < 0})
    if leaderless:
        found.append(
            Finding("kafka topics", f"{leaderless[0]} has no leader", "start the brokers that hold its copies")
        )
    return found or [Finding("kafka", f"{brokers} brokers hold {len(partitions)} partitions of our topics")]


async def check_mail(around: Surroundings) -> AsyncIterator[Finding]:
    """Check that each mail server takes a connection as configured."""
    for prefix in ("smtp", "smtp_fallback"):
        names = [f"{prefix}_{part}" for part in ("host", "port", "username", "password", "tls")]
        host, port, username, password, tls = around.of(DeliverySettings, names).values()
        if not host or not port:
            continue
        usual = Tls.IMPLICIT if port == 465 else Tls.STARTTLS  # noqa: PLR2004 - as delivery has it
        server = SmtpSettings(host, port, username or None, password or None, Tls(tls) if tls else usual)
        session = SmtpSession(server, QUICK, await asyncio.to_thread(ssl.create_default_context))
        name = prefix.upper()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await session.open()
        except FAILURES as error:
            said = f"{name}_HOST ({server.name}): {smtp_error(session.phase, error)}"
            yield Finding("mail", said, f"start the server, or correct {name}_HOST, {name}_TLS and its login")
        else:
            yield Finding("mail", f"{server.name} takes mail ({server.tls})")
        finally:
            session.close()
