"""The user that the servers run as, and the paths that it can reach.

PostgreSQL refuses to run as root, so root's servers run as `nobody`. `nobody` cannot pass through a folder of mode 700,
such as many checkouts and data folders; files for it go to a public folder of Callboard's own. Folders that are not
Callboard's are never changed.
"""

import os
import pwd
import shutil
import stat
import tempfile
import time
from pathlib import Path

import msgspec

from callboard.ops.embedded.errors import EmbeddedError

PUBLIC_FOLDERS = (Path("/var/lib/callboard"), Path("/var/tmp/callboard"))  # noqa: S108 - ownership is checked below
HALF_COPY_AGE_S = 3600.0


class OsUser(msgspec.Struct, frozen=True):
    """A user other than ourselves that a server runs as."""

    name: str
    uid: int
    gid: int


def server_account() -> OsUser | None:
    """Return the account that the servers run as: `nobody` if we are root; None means our own."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError("PostgreSQL does not run as root, and there is no user `nobody` to run it as") from None
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def account_of(path: Path) -> OsUser | None:
    """Return the account that owns the folder of an existing server; None means our own. Raises EmbeddedError if we may
    not act as its owner.
    """
    uid = path.stat().st_uid
    if uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise EmbeddedError(f"{path} belongs to another user (id {uid})")
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedError(f"{path} belongs to user id {uid}, which this machine does not know") from None
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def reachable(path: Path, account: OsUser | None, need: int = os.X_OK) -> bool:
    """Whether the account can reach an existing path and use it so (os.R_OK, os.W_OK, os.X_OK), by mode bits."""
    if account is None:
        return os.access(path, need)
    real = path.resolve()
    return all(_allows(folder, account, os.X_OK) for folder in real.parents) and _allows(real, account, need)


def _allows(path: Path, account: OsUser, need: int) -> bool:
    status = path.stat()
    if status.st_uid == account.uid:
        granted = status.st_mode >> 6
    elif status.st_gid == account.gid:
        granted = status.st_mode >> 3
    else:
        granted = status.st_mode
    return granted & need == need


def public_folder(account: OsUser) -> Path:
    """Return a folder of Callboard's own that the account can pass through. Only root has one, and needs one."""
    for folder in PUBLIC_FOLDERS:
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
            status = folder.lstat()
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
            if ours and not _allows(folder, account, os.R_OK | os.X_OK):
                folder.chmod(0o755)  # made under a strict umask
        except OSError:
            continue
        if ours and reachable(folder, account):
            return folder
    raise EmbeddedError(f"no folder that {account.name} can reach: tried {', '.join(map(str, PUBLIC_FOLDERS))}")


def copy_for_user(name: str, sources: dict[str, Path], account: OsUser) -> Path:
    """Return a copy of `sources` (name inside: folder) that anyone can read, made once and reused.

    It is complete or not there at all: it is built under another name, and remains of an interrupted copy are removed.
    """
    shelf = public_folder(account) / "bin"
    shelf.mkdir(mode=0o755, exist_ok=True)
    shelf.chmod(0o755)
    final = shelf / name
    if final.is_dir():
        return final
    for half in shelf.glob(f".{name}.*"):
        # A young one may belong to another `up` that copies at this moment.
        if half.stat().st_mtime < time.time() - HALF_COPY_AGE_S:
            shutil.rmtree(half, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=shelf))
    try:
        for inside, source in sources.items():
            shutil.copytree(source, building / inside, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        _open_to_all(building)
        building.rename(final)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        if not final.is_dir():  # else another `up` was faster, and its copy serves as well
            raise EmbeddedError(f"cannot copy {name} to {shelf}: {error.strerror}") from error
    return final


def _open_to_all(folder: Path) -> None:
    """Give a tree of ours the modes of an ordinary installation, even after an installation under a strict umask."""
    folder.chmod(0o755)
    for root, folders, files in os.walk(folder):
        for each in folders:
            (Path(root) / each).chmod(0o755)
        for each in files:
            path = Path(root) / each
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
