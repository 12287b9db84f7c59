"""The first call of README.md and the walk-through of http/README.md, run as they stand by a shell.

The walk-through's gaps are filled in from the responses, as its comments say.
"""

import json
import re
import secrets
import subprocess
from pathlib import Path
from typing import Any

from kit.running import Up

ROOT = Path(__file__).parents[3]
README = ROOT / "http" / "README.md"


def commands(page: Path, heading: str) -> list[str]:
    """The commands of the first block below a heading, each on one line."""
    section = page.read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    lines = re.search(r"(?<=\n)(?:    .*\n|\n(?=    ))+", section)
    assert lines
    whole = re.sub(r"\\\n\s+", "", lines[0])
    return [line.strip() for line in re.sub(r"\n {8,}", " ", whole).splitlines() if line.strip()]


def run(script: str) -> dict[str, Any]:
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)  # noqa: S603, S607 - ours
    said: dict[str, Any] = json.loads(ran.stdout)
    assert said["status"] == "success", (script, said)
    return said


def test_the_first_call_of_the_readme_registers_an_account_whose_mail_the_second_shows(up: Up) -> None:
    email = f"{secrets.token_hex(6)}@example.org"
    register, read_mail = commands(ROOT / "README.md", "A first call")
    register = register.replace("http://127.0.0.1:8000/api/v1", up.api).replace("ada@example.org", email)
    assert run(register)["data"]["email"] == email
    up.mail_token(email)  # waits for the mail
    mails = run(read_mail.replace("http://127.0.0.1:9000", up.operators))["data"]
    assert email in {mail["to"] for mail in mails}


def test_the_notifications_of_the_page_are_listed_and_streamed(up: Up) -> None:
    shell = [f"api={up.api}", f"token={up.people()[2]}"]
    listed, streamed = commands(README, "Notifications")
    assert run("\n".join([*shell, listed]))["page"]["limit"] == 20
    script = "\n".join([*shell, streamed.replace("Timeout: 2", "Timeout: 0.2")])
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)  # noqa: S603, S607 - ours
    shown = re.search(r"\n {4}retry: .*\n(?: {4}.*\n)*", README.read_text())
    assert shown
    fields = [line.partition(":")[0].strip() for line in shown[0].splitlines() if line]
    assert [line.partition(":")[0] for line in ran.stdout.splitlines() if line] == fields


def test_the_walk_through_leads_from_a_registration_to_a_published_article(up: Up) -> None:
    editor = up.people()[1]
    email = f"{secrets.token_hex(6)}@example.org"
    shell = [f"editor={editor}"]
    said: dict[str, Any] = {}
    statuses = []
    for line in commands(README, "From registration to publication"):
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
        said = run("\n".join((*shell, command)))
        statuses.append(said["status"])
    assert len(statuses) == 8
    assert said["data"]["status"] == "published"
    assert "callboard users role" in README.read_text(encoding="utf-8")
