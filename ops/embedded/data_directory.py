"""The data folder of the embedded servers; one `callboard up` at a time owns it.

<data>/.callboard    the list of Callboard's files here, so that a reset removes nothing else
<data>/lock          held (flock) by the running `up`; the kernel releases it at any death of that process
<data>/running.json  the addresses of the running `up`, for other commands; mode 600, it has passwords
<data>/logs/         a log for each server
<data>/run/          a pid file for each server
<data>/secrets/      a password for each server
<data>/NAME/         a server's own folder, or a link to it if its user cannot reach the data folder
"""

import errno
import fcntl
import hashlib
import os
import random
import secrets
import shutil
import signal
import socket
from pathlib import Path
from typing import Self

import msgspec
import platformdirs

from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.leftover_processes import (
    LEFTOVER_WAIT_S,
    ProcessIdentity,
    end,
    end_all_in,
    identify,
    is_alive,
    read_pid_file,
)
from callboard.ops.embedded.os_user import OsUser, account_of, public_folder, reachable

ROOT_DATA = Path("/var/lib/callboard/data")
MARKER = ".callboard"
LOCK = "lock"
RUNNING = "running.json"
HALF = ".half"
Facts = dict[str, str | int]


class DataDirectory:
    """An open data folder. `open_data_directory` makes one; `close` releases the folder."""

    def __init__(self, data: Path, lock: int) -> None:
        self.data = data
        self._lock: int | None = lock
        self._ours = _read_marker(data) or set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def folder(self, name: str, account: OsUser | None = None) -> Path:
        """Return a folder of mode 700 in the data folder, created if missing, owned by and reachable for the account.

        If the account cannot pass through the data folder, it is in a public folder, and a link here leads to it. An
        existing folder keeps its owner.
        """
        path = self.data / name
        self._own(name)
        if path.is_symlink():
            _check_home(path.readlink().parent, self.data)
        if path.is_dir():
            owner = account_of(path)
            if owner is None and account is not None:  # killed between its creation and the change of owner
                os.chown(path, account.uid, account.gid)
                owner = account
            if not reachable(path, owner, os.R_OK | os.W_OK | os.X_OK):
                raise EmbeddedError(f"{path} cannot be reached by the user that owns it; grant access, or use --reset")
            return path
        path.unlink(missing_ok=True)  # a broken link
        if account is None or reachable(self.data, account):
            path.mkdir(mode=0o700)
        else:
            home = public_folder(account) / hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
            home.mkdir(mode=0o755, exist_ok=True)
            home.chmod(0o755)
            (home / "of").write_bytes(os.fsencode(self.data))
            (home / name).mkdir(mode=0o700, exist_ok=True)
            path.symlink_to(home / name)
        if account is not None:
            os.chown(path, account.uid, account.gid)
        return path

    def log(self, name: str) -> Path:
        """Return the path of a server's log file."""
        return self.folder("logs") / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        """Return the path of the file that identifies a server's process for the next start."""
        return self.folder("run") / f"{name}.pid"

    def secret(self, name: str) -> str:
        """Return a random password, the same at every start, in a file that only we can read."""
        path = self.folder("secrets") / name
        try:
            return path.read_text(encoding="ascii")
        except FileNotFoundError:
            password = secrets.token_urlsafe(24)
            _write_atomically(path, password.encode("ascii"))
            return password

    def has_mark(self, name: str) -> bool:
        """Whether a one-time event of this data folder has happened."""
        return (self.folder("marks") / name).exists()

    def mark(self, name: str) -> None:
        """Note that it has happened; kept until the folder is reset."""
        _write_atomically(self.folder("marks") / name, b"")

    def write_running(self, facts: dict[str, str]) -> None:
        """Write the servers' addresses for other commands (by names of the environment); the process id is added."""
        self._own(RUNNING)
        me = identify(os.getpid())
        whole: Facts = {**facts, "pid": os.getpid(), "born": me.born if me else ""}
        _write_atomically(self.data / RUNNING, msgspec.json.encode(whole))

    def close(self) -> None:
        """Note that nothing runs here, and release the folder. A second call does no harm."""
        if self._lock is not None:
            (self.data / RUNNING).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def reset(self) -> None:
        """Remove everything that Callboard put here, after ending the servers that a killed `up` left running."""
        for path in (self.data / "run").glob("*.pid"):
            if found := read_pid_file(path):
                end(found, signal.SIGKILL, LEFTOVER_WAIT_S)
            end_all_in(self.data / path.stem, path.stem)
        for name in sorted(self._ours):
            path = self.data / name
            if path.is_symlink():
                home = path.readlink().parent
                _check_home(home, self.data)
                path.unlink()
                _remove(home)
            else:
                _remove(path)
        self._ours = set()
        _write_marker(self.data, self._ours)

    def _own(self, name: str) -> None:
        if name not in self._ours:
            self._ours.add(name)
            _write_marker(self.data, self._ours)


def default_data() -> Path:
    """Return the default data folder: the user's own; for root a public one, since `nobody` must reach it."""
    return ROOT_DATA if os.geteuid() == 0 else platformdirs.user_data_path("callboard", appauthor=False)


def open_data_directory(path: Path | None = None, *, reset: bool = False) -> DataDirectory:
    """Take a data folder for this process, creating it if missing. Raises EmbeddedError, in one line, if it is in use,
    is not Callboard's, or cannot be written.
    """
    data = (path or default_data()).expanduser().absolute()
    if not str(data).isprintable():  # as UPLOADS_FOLDER must be, which is in it
        raise EmbeddedError(
            f"the data folder (--data-dir, CALLBOARD_DATA_DIR) must have a name that can be shown: {str(data)!a}"
        )
    try:
        data = data.resolve()
        data.parent.mkdir(parents=True, exist_ok=True)
        if data.parent == ROOT_DATA.parent and os.geteuid() == 0:
            data.parent.chmod(0o755)  # ours: servers that do not run as root have theirs below
        # Others may pass through root's to the folders of servers that run as `nobody`, and may read nothing.
        data.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
        if _read_marker(data) is None and any(
            each.name != LOCK and not each.name.startswith(MARKER) for each in data.iterdir()
        ):
            raise EmbeddedError(f"{data} is not empty and not a Callboard data folder: name another")
        lock = _take_lock(data)
        try:
            return _settle(data, lock, reset=reset)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise EmbeddedError(f"cannot use {data} as data folder: {error.strerror} ({error.filename})") from error


def _settle(data: Path, lock: int, *, reset: bool) -> DataDirectory:
    """Prepare a folder once it is locked."""
    if _read_marker(data) is None:
        _write_marker(data, set())
    for half in data.glob(f"*{HALF}"):
        half.unlink()
    data_directory = DataDirectory(data, lock)
    if reset:
        data_directory.reset()
    return data_directory


def data_folder(given: str | None) -> Path | None:
    """Return the data folder: the argument, CALLBOARD_DATA_DIR, or None for the default one."""
    text = given or os.environ.get("CALLBOARD_DATA_DIR")
    return Path(text) if text else None


def read_running(path: Path | None = None) -> Facts | None:
    """Return the facts that the running `up` on this data folder wrote with `write_running`, with its `pid`; None if no
    `up` runs.
    """
    data = (path or default_data()).expanduser()
    try:
        facts = msgspec.json.decode((data / RUNNING).read_bytes(), type=Facts)
    except (OSError, msgspec.MsgspecError):
        return None
    pid, born = facts.get("pid"), facts.pop("born", None)
    return facts if isinstance(pid, int) and isinstance(born, str) and is_alive(ProcessIdentity(pid, born)) else None


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free.

    They are below the kernel's range for outgoing connections: otherwise a client that keeps trying to reach a dead
    server would sooner or later get that port, connect to itself, and keep the server from coming back. Each stays
    reserved for a minute: whoever else asks here, in any process, is given others before a server listens on it.
    """
    held: list[socket.socket] = []
    try:
        for port in random.sample(range(20_000, _first_ephemeral()), k=500):
            probe = socket.socket()
            held.append(probe)
            try:
                probe.bind(("127.0.0.1", port))
                _reserve(probe)
            except OSError:
                held.remove(probe)
                probe.close()
            if len(held) == count:
                return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()
    raise EmbeddedError("no free port between 20000 and 32767")


def _reserve(probe: socket.socket) -> None:
    """Leave a port in TIME_WAIT: a server may listen there, as servers do with SO_REUSEADDR, and a probe without it may
    not.
    """
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.listen(1)
    with socket.create_connection(probe.getsockname(), timeout=1.0):
        probe.accept()[0].close()  # the side that closes first waits


def port_taken(host: str, port: int) -> bool:
    """Whether a port is in use. Raises EmbeddedError if we may not listen there at all."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return True
        raise EmbeddedError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return False


def _first_ephemeral() -> int:
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except OSError:
        return 32_768
    return min(low, 32_768) if low > 21_000 else 32_768  # noqa: PLR2004 - a range lowered to there leaves no room


def _take_lock(data: Path) -> int:
    """Lock the folder for the life of this process. Children do not inherit the lock."""
    lock = os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 20).decode("ascii", "replace")
        os.close(lock)
        raise EmbeddedError(f"{data} is in use by another callboard up (process {holder})") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode("ascii"), 0)
    return lock


def _check_home(home: Path, data: Path) -> None:
    """A linked folder is used, and removed, only by the data folder it was made for; one that was moved keeps it."""
    try:
        of = Path(os.fsdecode((home / "of").read_bytes()))
    except FileNotFoundError:
        if not home.exists():
            return  # nothing there
        raise EmbeddedError(f"{data} has a link to {home}, which is not Callboard's") from None
    if of == data:
        return
    if of.exists():
        raise EmbeddedError(f"{data} is a copy of {of} and links to its servers' data in {home}: remove the links")
    (home / "of").write_bytes(os.fsencode(data))


def _read_marker(data: Path) -> set[str] | None:
    try:
        return msgspec.json.decode((data / MARKER).read_bytes(), type=set[str])
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        raise EmbeddedError(f"{data / MARKER} is damaged: is {data} a Callboard data folder?") from None


def _write_marker(data: Path, names: set[str]) -> None:
    _write_atomically(data / MARKER, msgspec.json.encode(sorted(names)))


def _write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by a new one of mode 600: a reader sees the old or the new, never a part."""
    half = path.with_name(f"{path.name}.{os.getpid()}{HALF}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    half.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
