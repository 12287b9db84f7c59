"""Schemathesis against the running system: what the document promises of valid and of invalid requests, all checks on.

The examples are bounded by time, and their seed is printed; SCHEMATHESIS_S=300 looks for longer, SCHEMATHESIS_SEED
elsewhere.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Up, one_up

KIT = Path(__file__).parents[1] / "kit"
EACH_S = int(os.environ.get("SCHEMATHESIS_S", "9"))
# Its command in a process of its own, which finds the hooks and what they need.
COMMAND = f"import sys; sys.path.insert(0, {str(KIT)!r}); from schemathesis.cli import schemathesis; schemathesis()"


@pytest.fixture(scope="module")
def site() -> Iterator[Up]:
    """A system that may be harmed: admins delete whom they find."""
    with one_up() as running:
        yield running


@pytest.mark.timeout(EACH_S + 45)
@pytest.mark.parametrize("role", ["admin", "editor", "member", "nobody"])
def test_no_request_breaks_the_contract(site: Up, role: str, tmp_path: Path) -> None:
    words = (
        *("--config-file", str(KIT / "schemathesis.toml"), "run", f"{site.facts['HTTP_URL']}/openapi.json"),
        *("--checks", "all", "--max-time", str(EACH_S), "--request-timeout", "10", "--no-color"),
        *("--seed", os.environ.get("SCHEMATHESIS_SEED", "4"), "--warnings", "off", "--continue-on-failure"),
    )
    facts = {"FUZZING_ROLE": role, "FUZZING_FACTS": str(site.data / "running.json"), "SCHEMATHESIS_HOOKS": "fuzzing"}
    ran = subprocess.run(  # noqa: S603 - a command of ours
        [sys.executable, "-c", COMMAND, *words],
        env=os.environ | facts,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=EACH_S + 40,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "generated" in ran.stdout
    assert site.process.poll() is None
    assert [line for line in site.log() if line.get("exception")] == []
