"""What was measured of the streams, as a page and a picture. It is drawn as the front door's is."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

sys.path.insert(0, str(Path(__file__).parents[1] / "http"))

import page

P50_MS, P99_MS, RELAY, TIMES_FAUST, RECOVERY_S = 50.0, 250.0, 5000.0, 2.0, 10.0

HEAD = """# The streams

Made by `make bench-streams`; do not edit. {cores} cores; CPython {python}; faust-streaming {faust}, aiokafka
{aiokafka}. {date}; {scale:g} of the usual number of events; the load average was {load:.1f} when it began. Relay,
consumer, PostgreSQL and broker share the cores.

![Effects a second beside a trivial Faust agent](results.svg)
"""
NOTES = """The latency is from an event's commit to its consumer, with 200 commits a second; three seconds of
them go before those that count. The relay's rate is of a backlog of the outbox, published and marked. An
effect is a row, written once for each event id; the Faust agent does that in a transaction for each event,
Callboard in one for each batch.
"""


class Figures(NamedTuple):
    """The figures of one broker: milliseconds, and events a second."""

    p50_ms: float
    p99_ms: float
    relay: float
    ours: float
    faust: float
    recovery_s: float


class Facts(NamedTuple):
    """How it was measured."""

    date: str
    load: float
    scale: float = 1.0


def _said(found: float, goal: float, *, more: bool) -> str:
    met = found >= goal if more else found <= goal
    return f"{found:,.4g} ({'met' if met else 'not met'})"


def table(figures: dict[str, Figures], facts: Facts) -> str:
    """The whole page."""
    versions = {"faust": version("faust-streaming"), "aiokafka": version("aiokafka")}
    head = HEAD.format(cores=os.cpu_count(), python=platform.python_version(), **versions, **facts._asdict())
    found = figures.values()
    rows = [
        [
            "commit to consumer, median, ms",
            f"<= {P50_MS:g}",
            *(_said(each.p50_ms, P50_MS, more=False) for each in found),
        ],
        ["the same, 99 of 100, ms", f"<= {P99_MS:g}", *(_said(each.p99_ms, P99_MS, more=False) for each in found)],
        ["relay, events a second", f">= {RELAY:g}", *(_said(each.relay, RELAY, more=True) for each in found)],
        ["effects a second", "", *(f"{each.ours:,.4g}" for each in found)],
        ["effects a second, trivial Faust agent", "", *(f"{each.faust:,.4g}" for each in found)],
        [
            "times the Faust agent",
            f">= {TIMES_FAUST:g}",
            *(_said(each.ours / each.faust, TIMES_FAUST, more=True) for each in found),
        ],
        [
            "all done after a killed broker's return, s",
            f"<= {RECOVERY_S:g}",
            *(_said(each.recovery_s, RECOVERY_S, more=False) for each in found),
        ],
    ]
    return "\n".join([head, page._table(["what", "goal", *figures], rows), NOTES])


def picture(figures: dict[str, Figures], facts: Facts) -> str:
    """Two bars for each broker: effects a second, ours and the Faust agent's."""
    bars = [
        (f"{what}, {broker}", rate, kind)
        for broker, found in figures.items()
        for what, rate, kind in (("Callboard", found.ours, "ours"), ("trivial Faust agent", found.faust, "theirs"))
    ]
    most = max([rate for _, rate, _ in bars] or [1.0])
    height = 70 + 44 * len(bars)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 760 {height}", role="img")
    ET.SubElement(root, "style").text = (
        "svg{font:13px system-ui,sans-serif;--ink:#1f2328;--ours:#0969da;--theirs:#8c959f;--page:#fff}"
        "@media (prefers-color-scheme:dark){svg{--ink:#f0f6fc;--ours:#58a6ff;--theirs:#6e7681;--page:#0d1117}}"
        "text{fill:var(--ink)}.page{fill:var(--page)}.ours{fill:var(--ours)}.theirs{fill:var(--theirs)}.b{font-weight:600}"
    )
    ET.SubElement(root, "rect", {"class": "page", "width": "760", "height": str(height)})
    page._text(root, 16, 28, "Deduplicated effects a second", "b")
    page._text(root, 16, 48, f"{facts.date}; further right is better")
    for n, (what, rate, kind) in enumerate(bars):
        y = 74 + 44 * n
        page._text(root, 16, y + 8, what)
        width = f"{560 * rate / most:.1f}"
        ET.SubElement(root, "rect", {"class": kind, "x": "16", "y": str(y + 14), "height": "14", "width": width})
        page._text(root, 24 + 560 * rate / most, y + 26, f"{rate:,.0f}")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
