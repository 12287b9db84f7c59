"""The holders of jobs: the name of a process in its jobs' rows, and the proof that such a process is dead.

A killed process releases nothing, and its jobs would wait for their leases. But the kernel of its machine knows that it
is gone. A name identifies the kernel, the namespace of process ids, and the process by its id and start time. Only the
same kernel in the same namespace can prove a death: elsewhere the same id is another process's, and the lease decides.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

SPACE = " "
GONE_STATES = "ZX"  # a zombie runs nothing any more: its parent has not waited for it yet


def _kernel() -> str:
    """Return this boot of this kernel, and our namespace of process ids; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Return the tick of the kernel's clock at which a process started; empty if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if not fields else "dead" if fields[0] in GONE_STATES else fields[19]


def holder_name(pid: int | None = None, *, kernel: Callable[[], str] = _kernel) -> str:
    """Name a process, by default this one: its machine, its id, and its start time."""
    pid = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}:{pid} {kernel()} {_start_time(pid)}".rstrip()


def is_gone(name: str, *, kernel: Callable[[], str] = _kernel) -> bool:
    """Whether the process of this name is proved dead. False proves nothing: it may live, or be out of sight."""
    place, _, proof = name.partition(SPACE)
    where, _, born = proof.partition(SPACE)
    pid = place.rpartition(":")[2]
    if not (where and born and where == kernel() and pid.isascii() and pid.isdecimal() and int(pid) > 0):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's: it exists
        pass
    now = _start_time(int(pid))
    return now not in ("", born)
