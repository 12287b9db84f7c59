"""Schemathesis against the running system: what the document promises of valid and of invalid requests, all checks on.

Each call is made by the lowest role that may make it: what the other roles get is looked at in
http/server/test_authorisation.py. `make test-thorough` tries 15 of each call, and the bounds of every field, as
SCHEMATHESIS_EXAMPLES does; SCHEMATHESIS_SEED tries others.
"""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.fuzz_command import CONFIG, METHODS, ROLES, calls_of, fuzz
from kit.running import Up, one_up, request

pytestmark = pytest.mark.long

MANY = "SCHEMATHESIS_EXAMPLES"
EXAMPLES = os.environ.get(MANY, "3")  # of each call, beside the document's
PHASES = "examples,coverage,fuzzing" if MANY in os.environ else "examples,fuzzing"
JUDGED = {"positive_data_acceptance", "negative_data_rejection"}


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


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("role", ROLES)
def test_no_request_breaks_the_contract(site: Up, role: str, tmp_path: Path) -> None:
    calls = calls_of(request("GET", f"{site.facts['HTTP_URL']}/openapi.json").body, role)
    ran = fuzz(site, role, calls, tmp_path, phases=PHASES, examples=EXAMPLES)
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
