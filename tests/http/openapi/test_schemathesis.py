"""Schemathesis against the running system: what the document promises of valid and of invalid requests, all checks on.

The examples are bounded by time, and their seed is printed; SCHEMATHESIS_S=300 looks for longer, SCHEMATHESIS_SEED
elsewhere.
"""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.running import Up, one_up

pytestmark = pytest.mark.long

TESTS = Path(__file__).parents[2]
CONFIG = TESTS / "kit" / "schemathesis.toml"
EACH_S = int(os.environ.get("SCHEMATHESIS_S", "9"))
TRIES = (EACH_S, 4 * EACH_S, 16 * EACH_S)
# Its command in a process of its own, which finds the hooks and what they need.
COMMAND = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from schemathesis.cli import schemathesis; schemathesis()"


@pytest.fixture(scope="module")
def site() -> Iterator[Up]:
    """A system that may be harmed: admins delete whom they find."""
    with one_up() as running:
        yield running


def test_no_check_is_turned_off_and_no_call_left_out() -> None:
    """What the file may do is to say which refusals of valid data are no fault, each with its reason beside it."""
    text = CONFIG.read_text()
    config = tomllib.loads(text)
    assert config.keys() == {"checks", "operations"}
    assert config["checks"].keys() == {"positive_data_acceptance"}
    for each in config["operations"]:
        assert each.keys() == {"include-path", "checks"}
        assert each["checks"].keys() == {"positive_data_acceptance"}
    for check in (config["checks"], *(each["checks"] for each in config["operations"])):
        assert check["positive_data_acceptance"].keys() == {"expected-statuses"}
        for status in check["positive_data_acceptance"]["expected-statuses"]:
            assert status == "2xx" or 400 <= status < 500
            assert re.search(rf"^#.*\b{status}\b", text, re.MULTILINE) or status in ("2xx", 401, 403, 404, 429)


@pytest.mark.timeout(TRIES[-1] * 2 + 300)
@pytest.mark.parametrize("role", ["admin", "editor", "member", "nobody"])
def test_no_request_breaks_the_contract(site: Up, role: str, tmp_path: Path) -> None:
    """On a busy machine the time may not suffice for every call: then it is given more."""
    facts = {
        "FUZZING_ROLE": role,
        "FUZZING_FACTS": str(site.data / "running.json"),
        "SCHEMATHESIS_HOOKS": "kit.fuzzing",
    }
    for seconds in TRIES:
        words = (
            *("--config-file", str(CONFIG), "run", f"{site.facts['HTTP_URL']}/openapi.json"),
            *("--checks", "all", "--max-time", str(seconds), "--request-timeout", "10", "--no-color"),
            *("--seed", os.environ.get("SCHEMATHESIS_SEED", "4"), "--warnings", "off", "--continue-on-failure"),
            "--suppress-health-check=too_slow",  # a busy machine is no fault of the document
        )
        ran = subprocess.run(  # noqa: S603 - a command of ours
            [sys.executable, "-c", COMMAND, *words],
            env=os.environ | facts,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "generated" in ran.stdout
        selected, there = re.findall(r"Selected: (\d+)/(\d+)", ran.stdout)[0]
        tested = re.findall(r"Tested: (\d+)", ran.stdout)[0]
        if selected == there == tested:
            break
    else:
        pytest.fail("a call was left out")
    assert site.process.poll() is None
    assert [line for line in site.log() if line.get("exception")] == []
