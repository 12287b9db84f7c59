"""Each block of code in the runtime's pages runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import callboard.runtime

FOLDER = Path(callboard.runtime.__file__).parent
BLOCKS = [
    pytest.param(block, id=f"{page}-{n}")
    for page in ("README.md", "DEADLOCKS.md")
    for n, block in enumerate(
        re.findall(r"^```python\n(.*?)^```$", (FOLDER / page).read_text(), re.DOTALL | re.MULTILINE)
    )
]


QUIET = "import logging; logging.getLogger('callboard.runtime').addHandler(logging.NullHandler())"  # crashes are meant


def test_there_are_blocks() -> None:
    assert len(BLOCKS) == 10


@pytest.mark.long
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own page
        [sys.executable, "-W", "error", "-c", f"{QUIET}\n{block}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in ("README.md", "DEADLOCKS.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", (FOLDER / page).read_text()):
            assert (FOLDER / link).exists()
    assert (Path(__file__).parent / "test_supervision_otp.py").exists()
