"""The doctor's checks of this machine, its files and descriptors, and of Vault."""

import asyncio
import os
import resource
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from callboard.actors.infrastructure.department import USUAL_FOLDER, InfrastructureSettings
from callboard.ops.config.settings import Config
from callboard.ops.config.sources import Reader
from callboard.ops.config.vault import Vault, VaultError, settings_of
from callboard.ops.descriptors import RESERVED_DESCRIPTORS
from callboard.ops.doctor.findings import Finding, Surroundings
from callboard.ops.embedded.data_directory import default_data

LEAST_FREE_BYTES = 1 << 30
LEAST_FREE = 0.05  # of a disk, or of its files


async def check_machine(around: Surroundings) -> AsyncIterator[Finding]:
    """Check disks and the limit of open files."""
    for found in (*_disks(around), *_descriptors(around)):
        yield found


async def check_vault(around: Surroundings) -> AsyncIterator[Finding]:
    """Check that Vault answers, and knows our token."""
    reader = Reader(around.environ)
    settings = settings_of(reader)
    for fault in reader.faults:
        yield Finding("vault", fault, "correct it, or remove VAULT_URL")
    if settings is None:
        return
    try:
        await asyncio.to_thread(Vault(settings, {}).read)
    except VaultError as error:
        mend = "give VAULT_TOKEN a valid token" if error.lasting else "start or unseal Vault, or correct VAULT_URL"
        yield Finding("vault", f"VAULT_URL ({settings.url}): {error}", mend)
    else:
        yield Finding("vault", f"Vault knows our token, for {settings.path}")


def _disks(around: Surroundings) -> Iterator[Finding]:
    folders = {"the temporary folder": Path(os.environ.get("TMPDIR") or "/tmp")}  # noqa: S108 - Faust's folder is there
    if not around.read(InfrastructureSettings, "aws_s3_bucket"):
        uploads = Path(around.read(InfrastructureSettings, "uploads_folder") or USUAL_FOLDER)
        folders["UPLOADS_FOLDER"] = uploads
        there = _existing(uploads)
        if not os.access(there, os.W_OK | os.X_OK):
            mend = f"mkdir -p {uploads} && chown {os.getuid()} {uploads}; or set UPLOADS_FOLDER to another"
            yield Finding("disk", f"UPLOADS_FOLDER: {there} cannot be written by this user", mend)
    data = Path(os.environ.get("CALLBOARD_DATA_DIR") or default_data())
    if data.exists():
        folders["the data folder"] = data
    for name, folder in folders.items():
        yield judge_disk(name, _existing(folder))


def judge_disk(name: str, folder: Path) -> Finding:
    """Judge the room of a folder's disk."""
    usage, entries = shutil.disk_usage(folder), os.statvfs(folder)
    said = f"{name} ({folder}) has {usage.free / (1 << 30):.1f} GiB left of {usage.total / (1 << 30):.1f}"
    few = entries.f_files > 0 and entries.f_favail < LEAST_FREE * entries.f_files
    if few:
        return Finding(
            "disk", f"{name} ({folder}) has room for {entries.f_favail} more files", "remove small files there"
        )
    full = usage.free < max(LEAST_FREE_BYTES, LEAST_FREE * usage.total)
    return Finding("disk", said, "give that disk more room" if full else "")


def _existing(folder: Path) -> Path:
    return next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))


def _descriptors(around: Surroundings) -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (around.read(Config, "http_max_connections") or 0) + RESERVED_DESCRIPTORS
    said = "any number of" if hard == resource.RLIM_INFINITY else str(hard)
    short = hard != resource.RLIM_INFINITY and hard < wanted
    mend = f"raise it to {wanted} (ulimit -Hn, LimitNOFILE of systemd), or lower HTTP_MAX_CONNECTIONS" if short else ""
    yield Finding("open files", f"a process may open {said} files, and wants {wanted}", mend)
