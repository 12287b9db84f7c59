"""/docs in a real browser: the operations are shown, and nothing is asked of any other host."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kit.running import Up

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--virtual-time-budget=20000",
    "--dump-dom",
]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine to show /docs in")
def test_the_page_shows_every_operation_and_asks_no_other_host(up: Up, tmp_path: Path) -> None:
    url = up.facts["HTTP_URL"]
    log = tmp_path / "net.json"
    ran = subprocess.run(  # noqa: S603 - a browser
        [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", f"{url}/docs"],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    shown = {each for each in re.findall(r'id="operations-([^"]+)"', ran.stdout) if not each.startswith("tag-")}
    document = json.loads((Path(__file__).parents[3] / "http" / "openapi.json").read_bytes())
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    assert shown == {f"{each['tags'][0]}-{each['operationId']}" for each in operations}
    asked = [
        urlsplit(event["params"]["url"])
        for event in json.loads(log.read_bytes())["events"]
        if str(event.get("params", {}).get("initiator", "")).startswith(url) and "url" in event["params"]
    ]
    assert {each.path for each in asked} >= {"/docs/swagger-ui-bundle.js", "/docs/start.js", "/openapi.json"}
    assert {each.netloc for each in asked if each.scheme != "data"} == {urlsplit(url).netloc}
