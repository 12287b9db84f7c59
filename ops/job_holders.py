"""The holders of jobs: what a process is called in its jobs' rows, and whether one of such a name is proved dead.

A killed process gives nothing back, and its jobs would wait for their leases. But on its own machine the kernel knows
that it is gone. A name says which kernel that is, in which namespace of process ids, and the process by its id and its
birth together. Only the same kernel in the same namespace can prove anything: elsewhere the same id is another's, and
the lease decides.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

SPACE = " "
GONE_STATES = "ZX"  # a zombie runs nothing any more: only its parent has not looked yet


def _kernel() -> str:
    """This boot of this kernel, and our namespace of process ids; nothing where there is no such knowledge."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _birth(pid: int) -> str:
    """In which tick of the kernel's clock a process was born; nothing where that is not shown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if not fields else "dead" if fields[0] in GONE_STATES else fields[19]


def holder_name(pid: int | None = None, *, kernel: Callable[[], str] = _kernel) -> str:
    """Name a process, this one if none is given: where it runs, its id, and the proof that it is this very one."""
    pid = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}:{pid} {kernel()} {_birth(pid)}".rstrip()


def is_gone(name: str, *, kernel: Callable[[], str] = _kernel) -> bool:
    """Whether the process of this name is proved dead. False says nothing: it lives, or nobody here can know."""
    place, _, proof = name.partition(SPACE)
    where, _, born = proof.partition(SPACE)
    pid = place.rpartition(":")[2]
    if not (where and born and where == kernel() and pid.isascii() and pid.isdecimal() and int(pid) > 0):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's: it is there
        pass
    now = _birth(int(pid))
    return now not in ("", born)
