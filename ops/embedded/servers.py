"""All embedded servers: built together with their addresses known, each run by an actor.

servers = create_servers(data)     # raises EmbeddedError before anything is started
servers.environment()               # DATABASE_URL and so on, as production has them
EmbeddedServer(servers.postgres)    # an actor: its supervisor restarts the server when it dies
"""

import os
from typing import Protocol

import msgspec

from callboard.ops.embedded.broker import KafkaCluster
from callboard.ops.embedded.data_directory import DataDirectory, free_ports
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.mail_catcher import Catcher
from callboard.ops.embedded.postgres import Postgres
from callboard.ops.embedded.valkey import Valkey
from callboard.runtime import Actor, Backoff, Intensity, Node, Props, supervisor, worker


class Server(Protocol):
    """The methods of every embedded server. A stopped or dead one can be started again, on the same port and data."""

    name: str
    url: str

    async def start(self) -> None:
        """Return when it answers. Raises EmbeddedError, and then it does not run; nor after a cancellation."""

    async def exited(self) -> str:
        """Wait until it no longer runs, or must be replaced, and return the reason."""
        ...

    async def stop(self) -> None:
        """Return when it no longer runs; also if it never did."""


class EmbeddedServer(Actor[None]):
    """Runs one server: it lives as long as the server, and crashes when that ends by itself."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def on_start(self) -> None:
        """Start the server, always on the same port."""
        await self._server.start()

    async def run(self) -> None:
        """Wait for an unexpected exit."""
        why = await self._server.exited()
        raise EmbeddedError(f"{self._server.name} {why}")

    async def on_stop(self) -> None:
        """Stop the server, if it still runs."""
        await self._server.stop()


class Servers(msgspec.Struct, frozen=True):
    """The four embedded servers; none is started yet."""

    postgres: Postgres
    valkey: Valkey
    broker: KafkaCluster
    catcher: Catcher

    def all(self) -> tuple[Server, ...]:
        """Return the servers; they may start at once, for none needs another."""
        return self.postgres, self.valkey, self.broker, self.catcher

    def nodes(self, backoff: Backoff, intensity: Intensity) -> list[Node]:
        """Return the branch that runs them."""
        children = [worker(each.name, Props(EmbeddedServer, each), backoff=backoff) for each in self.all()]
        return [supervisor("servers", *children, intensity=intensity)]

    def environment(self) -> dict[str, str]:
        """Return their addresses, by the names of `callboard serve`'s environment."""
        host, _, port = self.catcher.url.rpartition(":")
        return {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
            "KAFKA_BROKERS": self.broker.url,
            "SMTP_HOST": host,
            "SMTP_PORT": port,
            "SMTP_TLS": "none",
        }


def create_servers(data_directory: DataDirectory) -> Servers:
    """Choose free ports and create the four servers. Raises EmbeddedError, in one line, if one cannot run here."""
    database, cache, events, mail = free_ports(4)
    try:
        return Servers(
            Postgres(data_directory, database),
            Valkey(data_directory, cache),
            KafkaCluster(data_directory, events),
            Catcher(data_directory, mail),
        )
    except OSError as error:
        where = os.fspath(error.filename) if error.filename else data_directory.data
        raise EmbeddedError(f"cannot prepare the embedded servers: {error.strerror} ({where})") from error
