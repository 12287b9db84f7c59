"""The embedded Kafka-protocol broker: Tansu, in memory only.

It loses its messages whenever it ends, which does no harm: the reconciler republishes events that consumers have not
recorded. So it is killed without a shutdown, and replaced when its memory has grown too large, for it keeps every
message, and when its topics were deleted: it keeps what is written meanwhile, and then refuses the first record of a
new topic of that name for ever.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import anyio

from callboard.ops.embedded.binaries import find_broker
from callboard.ops.embedded.data_directory import DataDirectory
from callboard.ops.embedded.os_user import reachable, server_account
from callboard.ops.embedded.process import Process

NAME = "broker"
READY_TIMEOUT_S = 10.0
# SIGTERM takes it 5 s while clients are connected, and saves nothing.
STOP_GRACE_S = 0.5
MEMORY_LIMIT_BYTES = 512 << 20
MEMORY_CHECK_INTERVAL_S = 15.0
CPU_CLOCK = 2  # with a process id, in the id of a clock of Linux: all its threads' time


class KafkaCluster:
    """Tansu on `port`. Building it raises EmbeddedError in one line when there is no wheel of it for this machine."""

    name = NAME

    def __init__(
        self, data_directory: DataDirectory, port: int, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
    ) -> None:
        self.url = f"127.0.0.1:{port}"
        self._port = port
        self._memory_limit_bytes = memory_limit_bytes
        self._why = ""
        program = find_broker()
        account = server_account()
        self._server = Process(
            NAME,
            [
                program,
                "broker",
                f"--listener-url=tcp://{self.url}",
                f"--advertised-listener-url=tcp://{self.url}",
                "--storage-engine=memory://tansu/",
                "--cluster-id=callboard",
                "--silent",
            ],
            log=data_directory.log(NAME),
            pid_file=data_directory.pid_file(NAME),
            port=port,
            # It knows no passwords, so it gets as few rights as possible.
            account=account if account and reachable(program, account) else None,
            environment={"RUST_LOG": "error", "TOKIO_WORKER_THREADS": "1"},  # more threads only wake one another
        )

    @property
    def pid(self) -> int | None:
        """Return its process id while it runs."""
        return self._server.pid

    def cpu_time(self) -> int | None:
        """Return the nanoseconds for which it has run; None if the system does not say it."""
        if sys.platform != "linux" or self.pid is None:
            return None
        try:
            return time.clock_gettime_ns(~self.pid << 3 | CPU_CLOCK)
        except OSError:  # it has just ended
            return None

    async def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self._why = ""
        await self._server.ready(self._probe, READY_TIMEOUT_S)

    async def exited(self) -> str:
        """Wait until it has ended or must be replaced, and return the reason. A status of 0 proves nothing: a panic
        gives it too.
        """
        while True:
            with anyio.move_on_after(MEMORY_CHECK_INTERVAL_S):
                await self._server.exited()
                return self._why or self._server.ending()
            if (held := self._memory_bytes()) > self._memory_limit_bytes:
                return f"holds {held >> 20} MB and must be replaced"

    def replace(self) -> None:
        """Kill it, because its topics are no longer those that were made: its successor begins empty."""
        if self.pid is not None:
            self._why = "has lost its topics and must be replaced"
            os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End it, by SIGKILL after 0.5 s."""
        await self._server.stop(signal.SIGTERM, STOP_GRACE_S)

    async def _probe(self) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.close()

    def _memory_bytes(self) -> int:
        """Return the broker's memory in bytes; 0 if the system does not report it."""
        if sys.platform != "linux" or self.pid is None:
            return 0
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0
        resident = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
        return int(resident.split()[1]) << 10
