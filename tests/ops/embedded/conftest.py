"""Data folders for the servers' tests, and the loop they run on."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.ops.embedded import os_user
from callboard.ops.embedded.data_directory import DataDirectory, open_data_directory


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that `callboard up` uses."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def public_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user can come through, and Callboard's public folder for the test."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        monkeypatch.setattr(os_user, "PUBLIC_FOLDERS", (folder / "callboard",))
        yield folder


@pytest.fixture
def place(public_folder: Path) -> Iterator[DataDirectory]:
    """An open data folder that every user can come through."""
    with open_data_directory(public_folder / "data") as opened:
        yield opened


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's servers run as another user")
