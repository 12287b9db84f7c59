"""The embedded Valkey: data that may be lost, yet is kept as well as possible, on 127.0.0.1 with a random password."""

import os
import signal
from pathlib import Path

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from callboard.ops.embedded.binaries import find_valkey
from callboard.ops.embedded.data_directory import DataDirectory
from callboard.ops.embedded.process import NotReady, Process

NAME = "valkey"
READY_TIMEOUT_S = 20.0
CONNECT_TIMEOUT_S = 2.0
STOP_GRACE_S = 2.0

CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
daemonize no
logfile ""
loglevel warning
save ""
appendonly yes
appendfsync everysec
aof-load-truncated yes
auto-aof-rewrite-min-size 16mb
maxmemory 128mb
maxmemory-policy volatile-lru
"""


class Valkey:
    """Valkey on `port`, with its append-only file in the data folder. The constructor raises EmbeddedError in one line
    if there is no Valkey for this machine.
    """

    name = NAME

    def __init__(self, data_directory: DataDirectory, port: int) -> None:
        program = find_valkey()
        self._folder = data_directory.folder(NAME)
        self._config = self._folder / "valkey.conf"
        self._port = port
        self._password = data_directory.secret(NAME)
        self.url = f"redis://:{self._password}@127.0.0.1:{port}/0"
        # SIGKILL costs nothing: acknowledged data is written, and only a power cut can lose the last second.
        self._server = Process(
            NAME,
            [program, self._config],
            log=data_directory.log(NAME),
            pid_file=data_directory.pid_file(NAME),
            port=port,
            cwd=self._folder,
        )

    @property
    def pid(self) -> int | None:
        """Return its process id while it runs."""
        return self._server.pid

    async def start(self) -> None:
        """Start it and wait until it has loaded its data and answers."""
        self._write_config()
        client = redis.asyncio.Redis.from_url(
            self.url,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )

        async def probe() -> None:
            try:
                await client.ping()
            except (exceptions.ConnectionError, exceptions.TimeoutError) as error:  # unreachable, or loading
                raise NotReady from error

        try:
            await self._server.ready(probe, READY_TIMEOUT_S)
        finally:
            await client.aclose()

    async def exited(self) -> str:
        """Wait for its exit, and return the reason."""
        await self._server.exited()
        return self._server.ending()

    async def stop(self) -> None:
        """Shut down in order, by SIGKILL after 2 s."""
        await self._server.stop(signal.SIGTERM, STOP_GRACE_S)

    def _write_config(self) -> None:
        """The password is in a file that only we can read: anyone can read a command line."""
        content = CONFIG.format(port=self._port, password=self._password, folder=_quoted(self._folder))
        descriptor = os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
