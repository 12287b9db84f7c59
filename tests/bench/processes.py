"""Throughput of one, two and four processes behind one port, as a table and a picture.

make bench-processes           about two minutes; ARGS="--seconds 4" for less

Reads are of an account by its token: a session of the cache and one row. Writes are drafts. Each connection is an
account's own: drafts of one account wait for one another, by its quota. The load comes from processes of its own on the
same machine, so with fewer cores than processes the numbers say what sharing costs.
"""

import argparse
import asyncio
import os
import platform
import secrets
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

sys.path.insert(0, str(Path(__file__).parents[1]))

import aiohttp
from kit.running import UNLIMITED, CallboardProcess, Up, make_people, one_up, request, until

OUT = Path(__file__).with_name("results")
COUNTS = (1, 2, 4)
CLIENTS, CONNECTIONS = 2, 24  # processes that call, and connections of each
UNBOUNDED = {"QUOTA_DRAFTS_PER_HOUR": "1000000", "QUOTA_CONTENT_ROWS": "1000000", "LOG_LEVEL": "ERROR"}
INK, OURS = "#1f2328", "#0969da"


def tell(line: str) -> None:
    """Print it at once."""
    print(line, flush=True)  # noqa: T201 - what it is for


class Fleet(CallboardProcess):
    """So many processes on the servers of a running `up`."""

    def __init__(self, up: Up, count: int) -> None:
        names = ("DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS", "SMTP_HOST", "SMTP_PORT", "SMTP_TLS", "JWT_SECRET_KEY")
        own = {"ROLES": "front", "OPS_TOKEN": "a-token-for-operators", **UNBOUNDED}
        servers = {name: str(up.facts[name]) for name in names}
        super().__init__("serve", "--processes", str(count), environment={**UNLIMITED, **servers, **own})
        self.planes = [int(self.environment["OPS_PORT"]) + number for number in range(count)]

    def wait_ready(self) -> None:
        for port in self.planes:
            until(f"process on {port}", lambda at=port: _is_ready(at), 60)


def _is_ready(port: int) -> bool:
    try:
        return request("GET", f"http://127.0.0.1:{port}/ready").status == 200
    except OSError:
        return False


async def _load(api: str, tokens: Sequence[str], kind: str, seconds: float) -> tuple[int, list[float]]:
    """Call for so long; the number of good answers, and the times of all in seconds."""
    times: list[float] = []
    ends_at = time.monotonic() + seconds
    good = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def one(token: str) -> None:
            nonlocal good
            headers = {"Authorization": f"Bearer {token}"}
            while time.monotonic() < ends_at:
                began = time.monotonic()
                body = {"title": secrets.token_hex(4), "body": "<p>Words.</p>"} if kind == "write" else None
                path, method = ("/content", "POST") if kind == "write" else ("/users/me", "GET")
                async with client.request(method, api + path, json=body, headers=headers) as answer:
                    await answer.read()
                    good += answer.status in (200, 201)
                times.append(time.monotonic() - began)

        await asyncio.gather(*map(one, tokens))
    return good, times


def load(api: str, tokens: Sequence[str], kind: str, seconds: float) -> tuple[int, list[float]]:
    """`_load` in a process of its own."""
    return asyncio.run(_load(api, tokens, kind, seconds))


def measure(up: Up, count: int, seconds: float) -> dict[str, dict[str, float]]:
    """Requests a second and the 99th percentile in milliseconds, by the kind of call."""
    fleet = Fleet(up, count)
    try:
        fleet.wait_ready()
        emails = asyncio.run(make_people(up.facts["DATABASE_URL"], ["member"] * CLIENTS * CONNECTIONS))
        tokens = [fleet.log_in(email) for email in emails]
        found = {}
        with ProcessPoolExecutor(CLIENTS) as callers:
            for kind in ("read", "write"):
                calls = [(fleet.api, tokens[first::CLIENTS], kind) for first in range(CLIENTS)]
                list(callers.map(load, *zip(*[(*call, 1.0) for call in calls], strict=True)))  # to warm up
                runs = list(callers.map(load, *zip(*[(*call, seconds) for call in calls], strict=True)))
                times = sorted(each for _, several in runs for each in several)
                per_s = sum(good for good, _ in runs) / seconds
                found[kind] = {"per_s": per_s, "p99_ms": times[int(len(times) * 0.99)] * 1000}
                tell(f"{count} processes, {kind}: {per_s:,.0f}/s, p99 {found[kind]['p99_ms']:.1f} ms")
        return found
    finally:
        fleet.end()


def page(found: dict[int, Any]) -> str:
    """The table, in Markdown."""
    rows = [
        f"| {count} | {each['read']['per_s']:,.0f} | {each['read']['p99_ms']:.1f} | {each['write']['per_s']:,.0f} | "
        f"{each['write']['p99_ms']:.1f} |"
        for count, each in found.items()
    ]
    words = (
        f"`make bench-processes` on {os.cpu_count()} cores, Python {platform.python_version()}. The servers, and "
        f"{CLIENTS} processes that call with {CONNECTIONS} connections each, run on the same cores."
    )
    return "\n".join(
        [
            "# Throughput of several processes behind one port",
            "",
            words,
            "",
            "| processes | reads/s | p99 ms | writes/s | p99 ms |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "![Requests a second](processes.svg)",
            "",
        ]
    )


def picture(found: dict[int, Any]) -> str:
    """The requests a second, as bars."""
    bars = [(f"{count} · {kind}s", each[kind]["per_s"]) for kind in ("read", "write") for count, each in found.items()]
    most, height = max(value for _, value in bars), 60 + 34 * len(bars)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 760 {height}", role="img")
    ET.SubElement(root, "title").text = "Requests a second of one, two and four processes"
    ET.SubElement(root, "style").text = (
        f"svg{{font:13px system-ui,sans-serif;--ink:{INK};--ours:{OURS};--page:#fff}}"
        "@media (prefers-color-scheme:dark){svg{--ink:#f0f6fc;--ours:#58a6ff;--page:#0d1117}}"
        "text{fill:var(--ink)} .page{fill:var(--page)} .bar{fill:var(--ours)}"
    )
    ET.SubElement(root, "rect", {"class": "page", "width": "760", "height": str(height)})
    ET.SubElement(root, "text", x="20", y="30", style="font-weight:600").text = "Processes · requests a second"
    for place, (label, value) in enumerate(bars):
        y = 60 + 34 * place
        ET.SubElement(root, "text", x="20", y=str(y + 14)).text = label
        width = f"{520 * value / most:.1f}"
        ET.SubElement(root, "rect", {"class": "bar", "x": "130", "y": str(y), "width": width, "height": "20"})
        ET.SubElement(root, "text", x=f"{140 + 520 * value / most:.1f}", y=str(y + 14)).text = f"{value:,.0f}"
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def main() -> int:
    """Measure, and write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with one_up({"ROLES": "streams,workers", **UNBOUNDED}) as up:
        found = {count: measure(up, count, options.seconds) for count in COUNTS}
    options.out.mkdir(exist_ok=True)
    (options.out / "processes.md").write_text(page(found))
    (options.out / "processes.svg").write_text(picture(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
