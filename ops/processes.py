"""Several processes behind one port: `callboard serve --processes N`.

Each child is a whole `callboard serve`; the kernel shares the connections among them (SO_REUSEPORT). This process
holds no other part of the system: it starts them, restarts the dead ones with backoff, and passes signals and changed
settings on. The operator plane of the first is on OPS_PORT, that of the next on the port after it.

A child that is frozen still gets its share of the connections from the kernel. So each is asked for its health, and one
that does not answer for PROCESS_TIMEOUT_S is killed.
"""

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from callboard.ops import logs
from callboard.ops.application import LAST_S, STOP_S
from callboard.ops.commands.operator_client import BEYOND
from callboard.ops.config.configuration import Configuration
from callboard.ops.config.fleet import SOCKET, ChangeRelay
from callboard.ops.config.settings import Config
from callboard.ops.config.sources import ConfigError
from callboard.ops.embedded.data_directory import port_taken
from callboard.ops.start import complain
from callboard.runtime import Actor, Backoff, Intensity, Props, System, described, supervisor, worker

COMMAND = [sys.executable, "-m", "callboard.ops", "serve"]
HOPELESS = 2  # the status of a child that no restart can help
KILL_S = 3.0  # beyond its own time a child has this until SIGKILL
BACKOFF = Backoff(initial_s=0.2, max_s=10.0, jitter=0.2)
RESTARTS, WINDOW_S = 5, 60.0  # of each child
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PAUSE_S, ANSWER_S = 1.0, 1.0  # between two questions for a child's health, and the time for its answer
MAX_PORT = 65_535
PR_SET_PDEATHSIG = 1
# Loaded here, since nothing can be loaded safely between fork and exec.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None

log = logging.getLogger(__name__)


class ChildEndedError(Exception):
    """A child has ended by itself."""


class Fleet:
    """The children of this process."""

    def __init__(self, environments: Sequence[Mapping[str, str]], config: Config) -> None:
        self.environments = environments
        held_s = config.shutdown_delay_s + config.shutdown_grace_s + config.jobs_grace_s
        self.stop_s = max(STOP_S, held_s + LAST_S) + KILL_S
        self.host = BEYOND.get(config.ops_host, config.ops_host)
        self.silences = config.process_timeout_s / (PAUSE_S + ANSWER_S)
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self.changes = ChangeRelay()
        self.hopeless = asyncio.Event()
        self.is_stopping = False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every child."""
        for child in self.running.values():
            with suppress(ProcessLookupError):
                child.send_signal(number)

    def stop(self) -> None:
        """Let every child begin its stop; none is restarted any more."""
        self.is_stopping = True
        self.signal(signal.SIGTERM)


class Child(Actor[None]):
    """Runs one child: it crashes when that ends by itself, and its supervisor restarts it."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet = fleet
        self._number = number
        self._ended = asyncio.Event()

    async def on_start(self) -> None:
        """Start the process, on the thread that lives as long as we do: the kernel ends it when that thread ends."""
        fleet = self._fleet
        with await fleet.changes.connect(f"process {self._number + 1}") as theirs:
            child = _spawn(fleet.environments[self._number], theirs.fileno())
        fleet.running[self._number] = child
        handle = os.pidfd_open(child.pid)
        loop = asyncio.get_running_loop()

        def reap() -> None:
            loop.remove_reader(handle)
            os.close(handle)
            child.wait()  # returns at once: it has ended
            self._ended.set()

        loop.add_reader(handle, reap)

    async def run(self) -> None:
        """Wait for its end, and kill it if it is frozen. Raises ChildEndedError unless everything stops."""
        await self._watch()
        fleet, child = self._fleet, self._fleet.running[self._number]
        if fleet.is_stopping:
            await asyncio.Event().wait()
        if child.returncode == HOPELESS:
            fleet.hopeless.set()  # it has said why
            await asyncio.Event().wait()
        how = (
            f"with status {child.returncode}"
            if child.returncode >= 0
            else f"by {signal.Signals(-child.returncode).name}"
        )
        raise ChildEndedError(f"process {self._number + 1} ({child.pid}) has ended {how}")

    async def _watch(self) -> None:
        """Return when it has ended. One that was silent so often is killed, unless everything stops."""
        fleet, child, silences = self._fleet, self._fleet.running[self._number], 0
        port = int(fleet.environments[self._number]["OPS_PORT"])
        while not self._ended.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), PAUSE_S)
                return
            silences = silences + 1 if await _is_silent(fleet.host, port) else 0
            if silences >= fleet.silences and not fleet.is_stopping:
                log.warning("process %d (%d) does not answer: it is killed", self._number + 1, child.pid)
                child.kill()
                await self._ended.wait()

    async def on_stop(self) -> None:
        """Stop it, by force if it takes too long; return when it is gone."""
        child = self._fleet.running[self._number]
        for number, wait_s in ((signal.SIGTERM, self._fleet.stop_s), (signal.SIGKILL, None)):
            if self._ended.is_set():
                return
            with suppress(ProcessLookupError):
                child.send_signal(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), wait_s)


async def _is_silent(host: str, port: int) -> bool:
    """Whether a process takes connections, as its kernel does for it, and does not answer. One that refuses them begins
    or ends.
    """
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(HEALTH)
                await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


def _spawn(environment: Mapping[str, str], changes: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - ourselves
        COMMAND,
        env={**environment, SOCKET: str(changes)},
        pass_fds=(changes,),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is ours to pass on
        preexec_fn=_end_with_us(),  # noqa: PLW1509 - system calls only
    )


def _end_with_us() -> Callable[[], None] | None:
    """Return the function that a child runs between fork and exec: it gets SIGTERM when we die."""
    if _prctl is None:
        return None
    prctl, parent = _prctl, os.getpid()

    def ask_the_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # we died before it asked
            os._exit(1)

    return ask_the_kernel


def environments_of(config: Config, count: int, environ: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the environment of each child. Raises ConfigError if their ports do not fit."""
    ports = range(config.ops_port, config.ops_port + count)
    faults = []
    if ports[-1] > MAX_PORT:
        faults.append(f"OPS_PORT must leave room for {count} ports, one for each process")
    if config.http_port in ports:
        faults.append(f"HTTP_PORT must not be one of {ports[0]} to {ports[-1]}, the processes' OPS_PORT")
    faults += [
        f"{name} {port} is in use"
        for name, host, port in (
            ("HTTP_PORT", config.http_host, config.http_port),
            *(("OPS_PORT", config.ops_host, port) for port in ports),
        )
        if port <= MAX_PORT and port_taken(host, port)
    ]
    if faults:
        raise ConfigError(faults)
    return [{**environ, "OPS_PORT": str(port), "HTTP_REUSE_PORT": "true"} for port in ports]


async def serve_processes(configuration: Configuration, count: int) -> int:
    """Run so many processes until a signal; return the exit status when all have ended: 0, 1 if they died too often,
    or 2 if one could not begin.
    """
    config, loop = configuration.process, asyncio.get_running_loop()
    fleet = Fleet(environments_of(config, count, os.environ), config)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if configuration.is_reloadable:
        loop.add_signal_handler(signal.SIGHUP, fleet.signal, signal.SIGHUP)
    elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    children = [
        worker(f"process-{number + 1}", Props(Child, fleet, number), backoff=BACKOFF, shutdown_s=fleet.stop_s + KILL_S)
        for number in range(count)
    ]
    tree = supervisor("processes", *children, intensity=Intensity(restarts=RESTARTS * count, window_s=WINDOW_S))
    system = System(tree, log=False)
    system.subscribe(logs.watch)
    await system.start()
    stopping, hopeless = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(fleet.hopeless.wait())
    failing = asyncio.ensure_future(system.failed())
    try:
        await asyncio.wait((stopping, hopeless, failing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        fleet.stop()  # all at once: the tree stops one after another
        await system.stop()
    for each in (stopping, hopeless, failing):
        each.cancel()
    if failing.done() and not failing.cancelled():
        complain(f"callboard: {described(failing.result())}")
        return 1
    return HOPELESS if hopeless.done() and not hopeless.cancelled() else 0
