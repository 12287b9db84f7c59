"""Schemathesis in a process of its own, which finds the hooks of `kit.fuzzing` and what they need."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit.running import Up

TESTS = Path(__file__).parents[1]
CONFIG = TESTS / "kit" / "schemathesis.toml"
COMMAND = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from schemathesis.cli import schemathesis; schemathesis()"
METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})
ROLES = ("nobody", "member", "editor", "admin")


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


def fuzz(
    site: Up, role: str, calls: Sequence[str], folder: Path, *, phases: str, examples: str
) -> "subprocess.CompletedProcess[str]":
    """Make these calls as a role, with all checks on, and return what it says."""
    facts = {
        "FUZZING_ROLE": role,
        "FUZZING_FACTS": str(site.data / "running.json"),
        "SCHEMATHESIS_HOOKS": "kit.fuzzing",
    }
    words = (
        *("--config-file", str(CONFIG), "run", f"{site.facts['HTTP_URL']}/openapi.json"),
        *(word for call in calls for word in ("--include-name", call)),
        *("--checks", "all", "--phases", phases, "--max-examples", examples, "--request-timeout", "30", "--no-color"),
        *("--seed", os.environ.get("SCHEMATHESIS_SEED", "4"), "--warnings", "off", "--continue-on-failure"),
        "--suppress-health-check=too_slow",  # a busy machine is no fault of the document
    )
    return subprocess.run(  # noqa: S603 - a command of ours
        [sys.executable, "-c", COMMAND, *words],
        env=os.environ | facts,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
