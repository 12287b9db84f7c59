"""What was measured, as a page: goals, rates and ratios as Markdown, and the ratios to FastAPI as a picture."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

Samples = dict[str, dict[str, list[float]]]  # answers a second, by peer and job, one for each round

JOBS = {
    "health": "GET /health",
    "echo": "validated JSON echo",
    "me": "GET one's own account",
    "login": "password logins",
}
GOALS = (  # job, the peer, how many times as many answers a second
    ("health", "fastify", 1.0),
    ("health", "bare aiohttp", 2.0),
    ("health", "FastAPI", 5.5),
    ("echo", "fastify", 1.0),
    ("echo", "bare aiohttp", 1.3),
    ("echo", "FastAPI", 3.0),
    ("me", "fastify", 1.5),
    ("me", "FastAPI", 3.5),
    ("login", "argon2 alone", 0.95),
)
ORDER = ("Callboard", "bare aiohttp", "FastAPI", "fastify", "argon2 alone")

HEAD = """# The front door beside its peers

Made by `make bench-http`; do not edit. {cores} cores; CPython {python}; {versions}. {date}; {rounds} rounds of
{seconds:g} s of load for each job; the load average was {load:.1f} when it began. On a busy machine only ratios mean
anything: each is taken within one round, and what stands here is their median, with the least and the greatest.

![Answers a second in ratio to FastAPI](results.svg)
"""

NOTES = """## What is compared

Each server has one core, and is loaded over 64 kept connections from another, where the databases run too. Logins have
both cores and 8 connections; so has whatever else a login needs, Python, PostgreSQL and the load itself, which argon2
alone does without.

- **Callboard** is the front door of `callboard serve` with everything on: limits counted in Valkey, tokens and sessions
  checked, trace context, metrics, deadlines, security headers, strict decoding. /health is not limited.
- **bare aiohttp** has its router, its JSON helpers, and nothing else. It validates nothing.
- **FastAPI** runs on uvicorn with uvloop and httptools; its models validate. For one's own account it decodes the same
  token with PyJWT and asks the same PostgreSQL through an asyncpg pool; it looks at no session and no limit.
- **fastify** runs on Node, has a schema for each body and answer, decodes the same token with @fastify/jwt and asks the
  same PostgreSQL through pg's pool; it looks at no session and no limit.
- **argon2 alone** verifies the same hash with as many threads as there are cores, and does nothing else.
"""


class Facts(NamedTuple):
    """How it was measured; `missing` are peers that are not installed."""

    date: str
    rounds: int
    seconds: float
    load: float
    missing: Sequence[str]


def ratios(samples: Samples, peer: str, other: str, job: str) -> list[float]:
    """Round by round, how many times as many answers `peer` gives as `other`."""
    pairs = zip(samples.get(peer, {}).get(job, []), samples.get(other, {}).get(job, []), strict=False)
    return [a / b for a, b in pairs if b]


def goals(samples: Samples) -> str:
    """The goals, and whether they are met."""
    rows = []
    for job, peer, times in GOALS:
        found = ratios(samples, ORDER[0], peer, job)
        if not found:
            said = "not compared"
        else:
            said = f"{'met' if statistics.median(found) >= times else 'not met'}: {_span(found, '.3g')}"
        rows.append([JOBS[job], f"{times:g} times {peer}", said])
    return _table(["job", "goal", "reached"], rows)


def table(samples: Samples, facts: Facts) -> str:
    """The whole page."""
    peers = [peer for peer in ORDER if peer in samples]
    head = HEAD.format(cores=os.cpu_count(), python=platform.python_version(), versions=_versions(), **facts._asdict())
    rates = [[peer, *(_span(samples[peer].get(job, []), ",.0f") for job in JOBS)] for peer in peers]
    parts = [head, "## Goals\n", goals(samples), "## Answers a second\n", _table(["", *JOBS.values()], rates), NOTES]
    if facts.missing:
        parts += ["## Missing\n", *(f"- {title}: not installed" for title in facts.missing), ""]
    return "\n".join(parts)


def picture(samples: Samples, facts: Facts) -> str:
    """A bar for each peer and job: its answers a second over FastAPI's, or for logins over argon2's."""
    jobs = [(job, "argon2 alone" if job == "login" else "FastAPI") for job in JOBS]
    bars = [
        (job, base, peer, ratios(samples, peer, base, job))
        for job, base in jobs
        for peer in ORDER
        if samples.get(peer, {}).get(job) and ratios(samples, peer, base, job)
    ]
    most = max([statistics.median(found) for *_, found in bars] or [1.0])
    height = 70 + 24 * len(bars) + 34 * len(JOBS)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 760 {height}", role="img")
    ET.SubElement(root, "style").text = (
        "svg{font:13px system-ui,sans-serif;--ink:#1f2328;--bar:#818b98;--ours:#0969da;--page:#fff}"
        "@media (prefers-color-scheme:dark){svg{--ink:#f0f6fc;--bar:#7d8590;--ours:#58a6ff;--page:#0d1117}}"
        "text{fill:var(--ink)}.page{fill:var(--page)}.bar{fill:var(--bar)}.ours{fill:var(--ours)}.b{font-weight:600}"
    )
    ET.SubElement(root, "rect", {"class": "page", "width": "760", "height": str(height)})
    _text(root, 16, 28, "Callboard's front door beside its peers", "b")
    _text(root, 16, 48, f"{facts.date}; medians of {facts.rounds} rounds; further right is better")
    y, last = 70, ""
    for job, base, peer, found in bars:
        if job != last:
            y, last = y + 34, job
            _text(root, 16, y - 12, f"{JOBS[job]}, times {base}", "b")
        middle = statistics.median(found)
        kind = "ours" if peer == ORDER[0] else "bar"
        width = f"{440 * middle / most:.1f}"
        ET.SubElement(root, "rect", {"class": kind, "x": "130", "y": str(y), "height": "16", "width": width})
        _text(root, 16, y + 13, peer)
        _text(root, 136 + 440 * middle / most, y + 13, f"{middle:.2f}")
        y += 24
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _text(root: ET.Element, x: float, y: float, words: str, kind: str = "") -> None:
    ET.SubElement(root, "text", {"class": kind, "x": f"{x:.1f}", "y": str(y)}).text = words


def _versions() -> str:
    found = []
    for name in ("aiohttp", "fastapi", "uvicorn", "asyncpg", "uvloop"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    lock = Path(__file__).parent / "peers" / "fastify" / "package-lock.json"
    found.append(f"fastify {json.loads(lock.read_text())['packages']['node_modules/fastify']['version']}")
    return ", ".join(found)


def _span(values: Sequence[float], form: str) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
