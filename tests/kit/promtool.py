"""promtool, Prometheus's own judge of metrics and rules: where it is, and how it is asked."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOUND = os.environ.get("PROMTOOL") or shutil.which("promtool") or shutil.which(ROOT / ".promtool/usr/bin/promtool")
needs_promtool = pytest.mark.skipif(FOUND is None, reason="promtool is not here: `make promtool` fetches it on Debian")


def promtool(*arguments: str, given: str = "") -> tuple[int, str]:
    """Its exit status and what it says, without colours."""
    ran = subprocess.run([str(FOUND), *arguments], input=given, capture_output=True, text=True, check=False)  # noqa: S603
    return ran.returncode, re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout + ran.stderr)
