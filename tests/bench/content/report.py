"""What was measured of lists and searches, as a page and a picture. It is drawn as the front door's is."""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

sys.path.insert(0, str(Path(__file__).parents[1] / "http"))

import page

GOAL_MS = 50.0
GOALS_MS = {  # of other kinds of calls
    "scheduled publication": 2_000.0,
    "search: a mix, first after the start": 500.0,  # it reads the disk
}
SAME = 1.5  # by how much page 1,000 may be slower than page 1

HEAD = """# Lists and searches

Made by `make bench-content`; do not edit. {cores} cores; CPython {python}; PostgreSQL with 128 MB of buffers.
{date}; {articles:,} articles and {comments:,} comments; the load average was {load:.1f} when it began. Two
clients call the front door of `callboard up` one call after the other; they, the server and PostgreSQL share the
cores. Times are milliseconds from a request to the whole response.

![95 of 100 calls](results.svg)
"""
NOTES = """A page has 20 items. Each kind of search has its own queries, which are asked in turn, with
`enable_advanced_search` on. A common word is in more than half of the articles, a frequent one in thousands, a rare
one in some tens. The mix has searches of these kinds, the likely ones more often. It is measured twice: as the first
searches after the start, which read from the disk what no cache has yet and open connections, and at the end. SQL is
the time that PostgreSQL takes to parse, plan and execute the statements of a call, by its own log; it is the average
of 20 calls of one client, and a part of the other times. A scheduled publication is measured from its time until the
article is the newest of the list. The plans of all kinds of calls are read from PostgreSQL's own log: none reads a
large table from end to end.
"""


class Timing(NamedTuple):
    """The times of one kind of call, in milliseconds."""

    p50: float
    p95: float
    calls: int

    @classmethod
    def of(cls, times: list[float]) -> "Timing":
        """Return the quantiles of some times."""
        ordered = sorted(times)
        return cls(ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100], len(ordered))


class Facts(NamedTuple):
    """How it was measured."""

    date: str
    load: float
    articles: int
    comments: int


def goal_of(name: str) -> float:
    """Return the milliseconds within which 95 of 100 calls of a kind should be answered."""
    return GOALS_MS.get(name, GOAL_MS)


def missed(timings: Mapping[str, Timing], pairs: Mapping[str, str]) -> list[str]:
    """Return the goals that were missed; `pairs` has lists whose first and last pages should take the same time."""
    slow = [f"{name}: p95 is {found.p95:.1f} ms" for name, found in timings.items() if found.p95 > goal_of(name)]
    deep = [
        f"{last}: p50 is {timings[last].p50:.1f} ms, and {timings[first].p50:.1f} ms of {first}"
        for first, last in pairs.items()
        if timings[last].p50 > SAME * timings[first].p50
    ]
    return slow + deep


def table(timings: Mapping[str, Timing], sql: Mapping[str, float], facts: Facts) -> str:
    """The whole page. `sql` has the milliseconds of PostgreSQL in a call of each kind."""
    head = HEAD.format(cores=os.cpu_count(), python=platform.python_version(), **facts._asdict())
    rows = [
        [
            *(name, f"{each.p50:.1f}", f"{each.p95:.1f} ({'met' if each.p95 <= goal_of(name) else 'not met'})"),
            *(f"{goal_of(name):g}", f"{sql[name]:.1f}" if name in sql else "", str(each.calls)),
        ]
        for name, each in timings.items()
    ]
    return "\n".join([head, page._table(["call", "p50, ms", "p95, ms", "goal, ms", "SQL, ms", "calls"], rows), NOTES])


def picture(timings: Mapping[str, Timing], facts: Facts) -> str:
    """A bar for each kind of call, and the goal."""
    timings = {name: each for name, each in timings.items() if goal_of(name) == GOAL_MS}
    most = max([GOAL_MS, *(each.p95 for each in timings.values())])
    height = 84 + 30 * len(timings)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 760 {height}", role="img")
    ET.SubElement(root, "style").text = (
        "svg{font:13px system-ui,sans-serif;--ink:#1f2328;--ours:#0969da;--goal:#cf222e;--page:#fff}"
        "@media (prefers-color-scheme:dark){svg{--ink:#f0f6fc;--ours:#58a6ff;--goal:#ff7b72;--page:#0d1117}}"
        "text{fill:var(--ink)}.page{fill:var(--page)}.ours{fill:var(--ours)}.goal{fill:var(--goal)}.b{font-weight:600}"
    )
    ET.SubElement(root, "rect", {"class": "page", "width": "760", "height": str(height)})
    page._text(root, 16, 28, "Milliseconds within which 95 of 100 calls are answered", "b")
    page._text(root, 16, 48, f"{facts.date}; further left is better; the line is the goal")
    for number, (name, each) in enumerate(timings.items()):
        y = 66 + 30 * number
        page._text(root, 16, y + 13, name)
        width = f"{380 * each.p95 / most:.1f}"
        ET.SubElement(root, "rect", {"class": "ours", "x": "300", "y": str(y), "height": "18", "width": width})
        page._text(root, 306 + 380 * each.p95 / most, y + 13, f"{each.p95:.1f}")
    goal = {"x": f"{300 + 380 * GOAL_MS / most:.1f}", "y": "60", "width": "2", "height": str(height - 76)}
    ET.SubElement(root, "rect", {"class": "goal", **goal})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
