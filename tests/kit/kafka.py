"""Apache Kafka for the tests that need the real one: one broker in KRaft mode, with logins and TLS, on free ports."""

import asyncio
import logging
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from callboard.ops.embedded.data_directory import free_ports
from kit.certificates import make_certificates

LIBRARIES = Path(__file__).parents[2] / ".kafka" / "lib"
READY_S = 90.0
EMBEDDED = os.environ.get("BROKER") != "apache"  # `make test-kafka` sets it
USER, PASSWORD = "ada", "sesame and more"

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL_PLAINTEXT://127.0.0.1:{sasl},\
 SASL_SSL://127.0.0.1:{tls}{ipv6}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl},SASL_SSL://127.0.0.1:{tls}{ipv6}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,\
 SASL_SSL:SASL_SSL,IPV6:PLAINTEXT
listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.ssl.keystore.type=PEM
listener.name.sasl_ssl.ssl.keystore.location={chain}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram_login} required;
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_plaintext.plain.sasl.jaas.config={plain_login} required user_{user}="{password}";
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config={scram_login} required;
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config={scram_login} required;
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
log.segment.delete.delay.ms=0
"""


def why_absent() -> str | None:
    """Why the tests cannot have it; None when they can."""
    if shutil.which("java") is None:
        return "Apache Kafka needs Java 17 or newer"
    return None if LIBRARIES.is_dir() else "Apache Kafka is not here: `make test-kafka` fetches it"


class Addresses(NamedTuple):
    """Where a broker listens: without a login, with one, with one over TLS, and on ::1 (empty where there is no IPv6).
    `ca_file` holds the authority of its certificate.
    """

    plain: str
    sasl: str
    tls: str
    ipv6: str
    ca_file: str


class ApacheKafka:
    """One broker in a folder, as the embedded one to those who start and kill it; its records outlive a kill."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        plain, sasl, tls, ipv6, controller = free_ports(5)
        chain, authority = make_certificates(folder)
        has_ipv6 = _binds("::1", ipv6)
        self.url = f"127.0.0.1:{plain}"
        self.addresses = Addresses(
            self.url, f"127.0.0.1:{sasl}", f"127.0.0.1:{tls}", f"[::1]:{ipv6}" if has_ipv6 else "", str(authority)
        )
        self._properties = folder / "server.properties"
        self._properties.write_text(
            PROPERTIES.format(
                plain=plain,
                sasl=sasl,
                tls=tls,
                ipv6=f",IPV6://[::1]:{ipv6}" if has_ipv6 else "",
                chain=chain,
                controller=controller,
                data=folder / "data",
                user=USER,
                password=PASSWORD,
                plain_login="org.apache.kafka.common.security.plain.PlainLoginModule",
                scram_login="org.apache.kafka.common.security.scram.ScramLoginModule",
            )
        )

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start it, unless it runs, and wait until it accepts connections."""
        if self._process is not None:
            return
        if not (self._folder / "data").exists():
            await self._format()
        self._process = await _java("kafka.Kafka", str(self._properties))
        await asyncio.wait_for(_answers(self.url), READY_S)

    async def kill(self) -> None:
        """SIGKILL, at once, even while it is stopped."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._process = None

    async def delete_topics(self, names: list[str]) -> None:
        """Delete topics, unless it has been killed: with those of all tests it would take a minute to start again."""
        if self._process is None:
            return
        admin = AIOKafkaAdminClient(bootstrap_servers=self.url)
        await admin.start()
        try:
            await admin.delete_topics(names)
        finally:
            await admin.close()

    async def _format(self) -> None:
        users = [
            word
            for bits in (256, 512)
            for word in ("--add-scram", f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]")
        ]
        storage = ("kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(self._properties))
        assert await (await _java(*storage, *users)).wait() == 0


def _binds(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6):
            return True
    except OSError:
        return False


async def _java(*arguments: str) -> asyncio.subprocess.Process:
    nothing = asyncio.subprocess.DEVNULL
    given = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{LIBRARIES}/*", *arguments)
    return await asyncio.create_subprocess_exec("java", *given, stdin=nothing, stdout=nothing, stderr=nothing)


async def _answers(url: str) -> None:
    """Return when a broker says that it leads: it listens some time before that."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # each attempt would be an error of the log
    try:
        while True:
            client = AIOKafkaClient(bootstrap_servers=url)
            try:
                await client.bootstrap()
                if client.cluster.brokers():
                    return
            except KafkaError:
                pass
            finally:
                await client.close()
            await asyncio.sleep(0.1)
    finally:
        logging.getLogger("aiokafka").setLevel(logging.NOTSET)
