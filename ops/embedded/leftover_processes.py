"""Leftover processes: finds, identifies and ends those that a killed `callboard up` left behind.

A process id alone proves nothing, since ids are reused. Here a process is identified by its id and start time together.
All functions block (bounded); the event loop calls those that wait from a thread.
"""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

POLL_S = 0.02
LEFTOVER_WAIT_S = 5.0


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A process by id and start time, as in a pid file."""

    pid: int
    born: str


def start_time(pid: int) -> str | None:
    """Return the start time of a process, in a form that no later process of the same id repeats; None if it
    is dead.
    """
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return None
        # A zombie is dead: its parent has not waited for it yet, and in a container may never do.
        return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"
    words = subprocess.run(  # noqa: S603 - a fixed command and a number
        ["/bin/ps", "-o", "lstart=,stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    return None if not words or words[-1].startswith("Z") else " ".join(words[:-1])


def is_alive(process: ProcessIdentity) -> bool:
    """Whether this very process still lives."""
    return start_time(process.pid) == process.born


def identify(pid: int) -> ProcessIdentity | None:
    """Return the living process of this id; None if there is none."""
    born = start_time(pid)
    return None if born is None else ProcessIdentity(pid, born)


def read_pid_file(path: Path) -> ProcessIdentity | None:
    """Return the living process in the file; None if it is dead, or the file is missing or half written."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=ProcessIdentity)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if is_alive(found) else None


def write_pid_file(path: Path, pid: int) -> None:
    """Store a process of ours for the next start. A dead one is not stored."""
    if found := identify(pid):
        path.write_bytes(msgspec.json.encode(found))


def end(found: ProcessIdentity, how: signal.Signals, within_s: float) -> bool:
    """Signal the process, wait, then SIGKILL and wait as long again. Returns whether it is gone."""
    for each in (how, signal.SIGKILL):
        if not is_alive(found):
            return True
        try:
            os.kill(found.pid, each)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        if _wait(found, within_s):
            return True
    return False


def _wait(found: ProcessIdentity, within_s: float) -> bool:
    """Wait until the process is gone: by the kernel's notification, or by polling without one."""
    deadline = time.monotonic() + within_s
    if sys.platform == "linux":
        try:
            handle = os.pidfd_open(found.pid)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # a kernel before 5.3, or a sandbox without the call: poll instead
        else:
            try:
                waiter = select.poll()
                waiter.register(handle, select.POLLIN)
                # The id may have gone to another process before the handle was opened: then ours is gone, too.
                return not is_alive(found) or bool(waiter.poll(within_s * 1000))
            finally:
                os.close(handle)
    while is_alive(found):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def end_all_in(folder: Path, program: str) -> None:
    """End every process of this name that works in the folder or below: a killed postmaster's children outlive it for a
    moment, and keep the next one from starting (Linux; elsewhere the next start fails until they are gone).
    """
    for each in _living_in(folder, program):
        end(each, signal.SIGKILL, LEFTOVER_WAIT_S)


def _living_in(folder: Path, program: str) -> list[ProcessIdentity]:
    if sys.platform != "linux":
        return []
    target = f"{folder.resolve()}/"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            inside = f"{(entry / 'cwd').readlink()}/".startswith(target)
            named = (entry / "comm").read_text(encoding="utf-8", errors="replace").strip() == program
        except OSError:
            continue  # gone meanwhile, or another user's: not ours to end
        if inside and named and (process := identify(int(entry.name))):
            found.append(process)
    return found
