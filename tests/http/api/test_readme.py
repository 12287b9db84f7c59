"""The walk-through of http/README.md, run as it stands: each command is the shell's, and what it leaves open is filled
in from the answers, as its comments say.
"""

import json
import re
import secrets
import subprocess
from pathlib import Path
from typing import Any

from running import Up

README = Path(__file__).parents[3] / "http" / "README.md"


def commands() -> list[str]:
    """The commands of the first block, each on one line."""
    section = README.read_text(encoding="utf-8").partition("## From registration to publication\n")[2]
    lines = re.match(r"\n(?:    .*\n|\n)+", section)
    assert lines
    whole = re.sub(r"\\\n\s+", "", lines[0])
    return [line.strip() for line in re.sub(r"\n {8,}", " ", whole).splitlines() if line.strip()]


def test_the_walk_through_leads_from_a_registration_to_a_published_article(up: Up) -> None:
    editor = up.people()[1]
    email = f"{secrets.token_hex(6)}@example.org"
    shell = [f"editor={editor}"]
    said: dict[str, Any] = {}
    statuses = []
    for line in commands():
        command = line.replace("http://127.0.0.1:8000/api/v1", up.api).replace("ada@example.org", email)
        if command.startswith("token=…"):
            command = f"token={said['data']['access_token']}"
        elif command.startswith("id=…"):
            command = f"id={said['data']['content_id']}"
        elif "verify-email" in command:
            command = command.replace("…", up.mail_token(email))
        if not command.startswith("curl"):
            shell.append(command)
            continue
        script = "\n".join((*shell, command))
        ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)  # noqa: S603, S607 - ours
        said = json.loads(ran.stdout)
        statuses.append(said["status"])
        assert said["status"] == "success", (command, said)
    assert len(statuses) == 8
    assert said["data"]["status"] == "published"
    assert "callboard users role" in README.read_text(encoding="utf-8")
