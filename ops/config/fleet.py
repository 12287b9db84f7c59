"""Settings that change in one process of `callboard serve --processes` change in all of them.

Each process has a socket to their parent, with one change a line. The parent tells a change to every process, the one
that it came from included: so all adopt changes in one order, and end with the same values. A process that starts later
is told what is in force.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import msgspec
from msgspec import Struct

SOCKET = "CALLBOARD_FLEET_SOCKET"  # the descriptor of a process's end
MAX_LINE = 4 << 20  # bytes of a change: more than the operator plane takes
MAX_UNREAD = 4 << 20  # bytes that wait for a process which reads nothing

log = logging.getLogger(__name__)


class FleetChange(Struct, frozen=True, omit_defaults=True):
    """Settings by name, null for those that are taken back; or sizes of pools. Neither: read everything again."""

    settings: dict[str, Any] = {}
    pools: dict[str, int] = {}


def _line(change: FleetChange) -> bytes:
    return msgspec.json.encode(change) + b"\n"


async def _changes(reader: asyncio.StreamReader) -> AsyncIterator[FleetChange]:
    while line := await reader.readline():
        yield msgspec.json.decode(line, type=FleetChange)


class FleetLink:
    """The end of a process. One that has no parent tells nobody, and hears nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        handle = environ.get(SOCKET, "")
        self._socket = socket.socket(fileno=int(handle)) if handle else None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def is_alone(self) -> bool:
        """Whether there are no other processes."""
        return self._socket is None

    async def changes(self) -> AsyncIterator[FleetChange]:
        """Yield changes of all processes, our own too, until the parent ends."""
        if self._socket is None:
            return
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket.dup(), limit=MAX_LINE)
        try:
            async for change in _changes(reader):
                yield change
        except ConnectionError:
            pass  # the parent has ended
        finally:
            self._writer.close()
            self._writer = None

    def tell(self, change: FleetChange) -> None:
        """Tell the other processes of a change that this one has adopted."""
        if self._writer is not None:
            self._writer.write(_line(change))


class _Process:
    """The parent's end for one process."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.is_behind = False

    def tell(self, change: FleetChange) -> bool:
        """Tell it of a change, unless it has stopped to read: return whether that is new."""
        if self.is_behind:
            return False
        if self.writer.transport.get_write_buffer_size() > MAX_UNREAD:
            self.is_behind = True
            return True
        self.writer.write(_line(change))
        return False


class ChangeRelay:
    """The parent's ends, by the names of the processes; and what they were told last of each setting and pool."""

    def __init__(self) -> None:
        self._told = FleetChange()
        self._processes: dict[str, _Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, name: str) -> socket.socket:
        """Return the end that a process inherits. The process before it with this name has ended."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE)
        self._processes[name] = process = _Process(writer)
        if self._told.settings:
            process.tell(FleetChange(settings=self._told.settings))
        self._begin(self._relay(name, reader, process))
        return theirs

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, name: str, reader: asyncio.StreamReader, process: _Process) -> None:
        """Tell all of each change, until the process ends."""
        try:
            async for change in _changes(reader):
                settings, pools = self._told.settings | change.settings, self._told.pools | change.pools
                self._told = FleetChange(settings=settings, pools=pools)
                for other, each in self._processes.items():
                    if each.tell(change):
                        log.warning("%s reads no changes of settings: it is told when it goes on", other)
                        self._begin(self._catch_up(each))
        except ConnectionError:
            pass  # it has ended
        finally:
            process.writer.close()
            if self._processes.get(name) is process:
                del self._processes[name]

    async def _catch_up(self, process: _Process) -> None:
        """Tell a process what is in force once it reads again."""
        try:
            await process.writer.drain()
        except ConnectionError:
            return
        process.is_behind = False
        process.tell(self._told)
