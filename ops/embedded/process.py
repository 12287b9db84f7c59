"""One child process: a server, or a command that runs to its end.

It is its own session, writes to its log, and dies with us: on Linux the kernel ends it after any death of ours;
elsewhere the next start does, which finds it by its pid file. Its exit is a notification (a pidfd on the loop,
asyncio's or uvloop's), without polling.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import anyio

from callboard.ops.embedded.data_directory import port_taken
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.leftover_processes import LEFTOVER_WAIT_S, end, read_pid_file, write_pid_file
from callboard.ops.embedded.os_user import OsUser

T = TypeVar("T")

LOG_LIMIT_BYTES = 4 << 20
LOG_KEPT_BYTES = 256 << 10
LOG_TRIM_INTERVAL_S = 600.0
PROBE_INTERVAL_S = 0.01
KILL_WAIT_S = 5.0
# The servers get nothing of our environment (they run as another user, who can read it), and nothing of the user's
# environment (PGDATA, STORAGE_ENGINE) may configure them.
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
PR_SET_PDEATHSIG = 1
# Loaded here, since nothing can be loaded safely between fork and exec.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


class NotReady(Exception):  # noqa: N818 - no error: it says "ask again"
    """A readiness probe raises this for a server that is not ready yet. An OSError or TimeoutError says the same."""


class Process:
    """A command and, once started, its process. It can be started again after it has ended.

    `death_signal` is sent to it when we die, and to a leftover of it at the next start.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        pid_file: Path,
        port: int | None = None,
        account: OsUser | None = None,
        cwd: Path = Path("/"),
        environment: Mapping[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.command = [str(each) for each in command]
        self._log = log
        self._pid_file = pid_file
        self._port = port
        self._account = account
        self._cwd = cwd
        self._environment = {each: os.environ[each] for each in PASSED_ON if each in os.environ}
        self._environment |= {"LC_ALL": "C", "TZ": "UTC"} | dict(environment or {})
        self._death_signal = death_signal
        self._popen: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()
        self._trimming: asyncio.TimerHandle | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Return its process id while it runs."""
        return self._popen.pid if self._popen is not None and not self._ended.is_set() else None

    async def end_leftover(self) -> None:
        """End its leftover of an earlier `callboard up`. Raises EmbeddedError if that does not end."""
        if leftover := read_pid_file(self._pid_file):
            gone = await anyio.to_thread.run_sync(end, leftover, self._death_signal, LEFTOVER_WAIT_S)
            if not gone:
                raise EmbeddedError(f"{self.name} of an earlier callboard up still runs (process {leftover.pid})")

    @property
    def forced(self) -> bool:
        """Whether its last run was ended by SIGKILL, so that its children may live on for a moment."""
        return self._popen is not None and self._popen.returncode == -signal.SIGKILL

    async def start(self) -> None:
        """Spawn it, once its leftover is gone. Raises EmbeddedError if it cannot be spawned, or its port is in use."""
        await self.end_leftover()
        if self.pid is not None:
            raise EmbeddedError(f"{self.name} runs already (process {self.pid})")
        if self._port is not None and port_taken("127.0.0.1", self._port):
            raise EmbeddedError(f"{self.name} cannot listen on 127.0.0.1:{self._port}: another program does")
        try:
            self._spawn()
        except OSError as error:
            await self.stop(signal.SIGKILL, 0)
            raise EmbeddedError(f"cannot start {self.name}: {error}") from error

    async def ready(self, probe: Callable[[], Awaitable[T]], within_s: float) -> T:
        """Start it, probe it until the probe returns, and return the probe's result.

        Raises EmbeddedError with the end of its log if it exits before that, or takes longer than `within_s`. Then, and
        when this is cancelled, it no longer runs.
        """
        await self.start()
        try:
            with anyio.fail_after(within_s):
                while True:
                    self._check_alive()
                    try:
                        return await probe()
                    except (NotReady, OSError):
                        with anyio.move_on_after(PROBE_INTERVAL_S):
                            await self._ended.wait()
        except TimeoutError as error:
            await self.stop(signal.SIGKILL, 0)
            raise EmbeddedError(f"{self.name} was not ready within {within_s:g} s{self._last_words()}") from error
        except BaseException:
            await self.stop(signal.SIGKILL, 0)
            raise

    async def exited(self) -> int:
        """Wait for its exit; return the status, or the negative number of the signal that ended it."""
        await self._ended.wait()
        return self._code()

    async def run_to_end(self, within_s: float) -> None:
        """Run a command that ends by itself. Raises EmbeddedError if it fails or takes longer than `within_s`."""
        await self.start()
        try:
            with anyio.fail_after(within_s):
                code = await self.exited()
        except TimeoutError as error:
            raise EmbeddedError(f"{self.name} took longer than {within_s:g} s{self._last_words()}") from error
        finally:
            await self.stop(signal.SIGKILL, 0)
        if code != 0:
            raise EmbeddedError(f"{self.name} {self.ending()}{self._last_words()}")

    async def stop(self, how: signal.Signals, grace_s: float) -> None:
        """End it: by `how`, after `grace_s` by SIGKILL. Returns when it is gone, however often this is called, and when
        the caller is cancelled too. Raises EmbeddedError if even SIGKILL does not end it within 5 s.
        """
        if self._popen is None or self._ended.is_set():
            return
        with anyio.CancelScope(shield=True):
            for each, wait_s in ((how, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
                self._popen.send_signal(each)
                with anyio.move_on_after(wait_s):
                    await self._ended.wait()
                if self._ended.is_set():
                    return
        raise EmbeddedError(f"{self.name} (process {self._popen.pid}) does not end")

    def ending(self) -> str:
        """Return how it ended, in words: "exited with status 1", "was ended by SIGKILL"."""
        code = self._code()
        return f"exited with status {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"

    def _check_alive(self) -> None:
        if self._ended.is_set():
            raise EmbeddedError(f"{self.name} {self.ending()} while it started{self._last_words()}")

    def _code(self) -> int:
        if self._popen is None or self._popen.returncode is None:
            raise EmbeddedError(f"{self.name} has not ended")
        return self._popen.returncode

    def _spawn(self) -> None:
        """Fork and exec, on the loop's own thread: the kernel's "parent died" refers to the forking thread, so a pool
        thread would take the server with it when the pool ends it.
        """
        self._trim_log()
        account = self._account
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._popen = subprocess.Popen(  # noqa: S603 - a server's program and arguments of our own making
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._cwd,
                    env=self._environment,
                    start_new_session=True,
                    umask=0o077,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                    # After the change of user, which would reset it.
                    preexec_fn=self._die_with_us(),  # noqa: PLW1509 - it only makes system calls
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise EmbeddedError(f"cannot start {self.name} ({self.command[0]}): {error}") from error
        self._ended = asyncio.Event()
        self._watch(self._popen)
        write_pid_file(self._pid_file, self._popen.pid)
        self._schedule_trim()

    def _die_with_us(self) -> Callable[[], None] | None:
        """Return the function that the child runs between fork and exec."""
        if _prctl is None:
            return None
        prctl, parent, number = _prctl, os.getpid(), int(self._death_signal)

        def ask_the_kernel() -> None:
            prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
            if os.getppid() != parent:  # we died before it asked
                os._exit(1)

        return ask_the_kernel

    def _watch(self, popen: subprocess.Popen[bytes]) -> None:
        """Have the loop notified of the exit: by a pidfd, or by a thread if the system has none."""
        loop = asyncio.get_running_loop()
        if sys.platform == "linux":
            try:
                handle = os.pidfd_open(popen.pid)
            except OSError:
                pass  # a kernel before 5.3, or a sandbox without the call
            else:
                loop.add_reader(handle, self._reap, loop, handle)
                return

        def wait_for_it() -> None:
            popen.wait()
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._end)

        threading.Thread(target=wait_for_it, name=f"wait for {self.name}", daemon=True).start()

    def _reap(self, loop: asyncio.AbstractEventLoop, handle: int) -> None:
        loop.remove_reader(handle)
        os.close(handle)
        if self._popen is not None:
            self._popen.wait()  # returns at once: it has ended
        self._end()

    def _end(self) -> None:
        if self._trimming is not None:
            self._trimming.cancel()
        self._pid_file.unlink(missing_ok=True)
        self._ended.set()

    def _schedule_trim(self) -> None:
        self._trim_log()
        self._trimming = asyncio.get_running_loop().call_later(LOG_TRIM_INTERVAL_S, self._schedule_trim)

    def _trim_log(self) -> None:
        """Keep only the end of a large log. The server appends, so the file can be cut meanwhile."""
        if not self._log.exists() or self._log.stat().st_size <= LOG_LIMIT_BYTES:
            return
        with self._log.open("r+b") as log:
            log.seek(-LOG_KEPT_BYTES, os.SEEK_END)
            kept = log.read()
            log.truncate(0)
            log.seek(0)
            log.write(kept)
            self._log_start = 0

    def _last_words(self) -> str:
        """Return the last lines of this run's log, to append to an error; empty without output."""
        with self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - 2000))
            lines = log.read().decode("utf-8", "replace").splitlines()
        words = " / ".join(each.strip() for each in lines[-6:] if each.strip())
        return f": {words}" if words else ""
