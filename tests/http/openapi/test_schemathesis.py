"""Schemathesis against the running system: what the document promises of valid and of invalid requests, all checks on.

Each call is made by the lowest role that may make it: what the other roles get is looked at in
http/server/test_authorisation.py. SCHEMATHESIS_EXAMPLES=100 tries more of each call, and the bounds of every field;
SCHEMATHESIS_SEED tries others.
"""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.running import Up, one_up, request

pytestmark = pytest.mark.long

TESTS = Path(__file__).parents[2]
CONFIG = TESTS / "kit" / "schemathesis.toml"
MANY = "SCHEMATHESIS_EXAMPLES"
EXAMPLES = os.environ.get(MANY, "5")  # of each call, beside the document's
PHASES = "examples,coverage,fuzzing" if MANY in os.environ else "examples,fuzzing"
METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})
JUDGED = {"positive_data_acceptance", "negative_data_rejection"}
ROLES = ("nobody", "member", "editor", "admin")
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
    assert config.keys() == {"auth", "checks", "operations"}
    assert config["auth"] == {"auto-signup": False}  # kit.fuzzing makes the accounts
    assert config["checks"].keys() == {"positive_data_acceptance"}
    for each in config["operations"]:
        assert each.keys() == {"include-path", "checks"}
        assert "positive_data_acceptance" in each["checks"]
        assert each["checks"].keys() <= JUDGED
    for checks in (config["checks"], *(each["checks"] for each in config["operations"])):
        for check in checks.values():
            assert check.keys() == {"expected-statuses"}
            for status in check["expected-statuses"]:
                assert status in ("2xx", "5xx", 304) or 400 <= status < 500
                usual = ("2xx", "5xx", 401, 403, 404, 405, 406, 428, 429)
                assert re.search(rf"^#.*\b{status}\b", text, re.MULTILINE) or status in usual


def lowest_role(operation: dict[str, Any]) -> str:
    """The lowest role that may make the call, as the document says it."""
    if operation["security"] == []:
        return "nobody"
    if {"key": []} in operation["security"]:
        return "admin"  # who makes the keys of producers
    named = re.search(r"^Access: (\w+)\.$", operation["description"], re.MULTILINE)
    return named[1] if named and named[1] in ROLES else "member"


def calls_of(document: dict[str, Any], role: str) -> list[str]:
    return [
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in METHODS and lowest_role(operation) == role
    ]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("role", ROLES)
def test_no_request_breaks_the_contract(site: Up, role: str, tmp_path: Path) -> None:
    calls = calls_of(request("GET", f"{site.facts['HTTP_URL']}/openapi.json").body, role)
    facts = {
        "FUZZING_ROLE": role,
        "FUZZING_FACTS": str(site.data / "running.json"),
        "SCHEMATHESIS_HOOKS": "kit.fuzzing",
    }
    words = (
        *("--config-file", str(CONFIG), "run", f"{site.facts['HTTP_URL']}/openapi.json"),
        *(word for call in calls for word in ("--include-name", call)),
        *("--checks", "all", "--phases", PHASES, "--max-examples", EXAMPLES, "--request-timeout", "30", "--no-color"),
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
    print(ran.stdout)  # noqa: T201 - how many examples there were
    assert re.findall(r"Selected: (\d+)/", ran.stdout) == [str(len(calls))]
    assert re.findall(r"Tested: (\d+)", ran.stdout) == [str(len(calls))]
    assert site.process.poll() is None
    assert [line for line in site.log() if line.get("exception")] == []


def test_each_call_is_made_by_one_role(site: Up) -> None:
    document = request("GET", f"{site.facts['HTTP_URL']}/openapi.json").body
    calls = [call for role in ROLES for call in calls_of(document, role)]
    assert len(set(calls)) == len(calls) == sum(name in METHODS for each in document["paths"].values() for name in each)
    assert all(calls_of(document, role) for role in ROLES)
