"""What was measured of the job queue, as a page and a picture. It is drawn as the front door's is."""

import os
import platform
import statistics
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

sys.path.insert(0, str(Path(__file__).parents[1] / "http"))

import page

Samples = dict[str, dict[str, list[float]]]  # by peer and row, one for each round; times are in seconds

OURS, PROCRASTINATE, PGQUEUER = "Callboard", "procrastinate", "pgqueuer"
# row, what it is, whether it is a rate (else a time), the goals by peer
ROWS: tuple[tuple[str, str, bool, dict[str, float]], ...] = (
    ("noop_1", "no-op jobs a second, one process, batch 100", True, {PROCRASTINATE: 50, PGQUEUER: 2}),
    ("noop_2", "the same, two processes", True, {PROCRASTINATE: 60, PGQUEUER: 2.2}),
    ("effect", "an effect in each job's transaction (theirs: two)", True, {PROCRASTINATE: 6, PGQUEUER: 1}),
    ("group", "effects in groups of 20", True, {PROCRASTINATE: 30, PGQUEUER: 4}),
    ("enqueue_one", "enqueue one, own transaction", True, {PROCRASTINATE: 2.5, PGQUEUER: 1.3}),
    ("enqueue_many", "enqueue 1,000 in one call", True, {PROCRASTINATE: 15, PGQUEUER: 2.5}),
    ("enqueue_within", "enqueue within an open transaction", True, {PGQUEUER: 2}),
    ("latency", "commit to start, median, 20 jobs a second", False, {PROCRASTINATE: 0.8, PGQUEUER: 1.1}),
    (
        "claim_urgent",
        "claim of 100 with 999,000 bulk and 1,000 urgent, by job",
        False,
        {PROCRASTINATE: 0.05, PGQUEUER: 0.7},
    ),
    ("claim_future", "claim of 100 with 100,000 future jobs, by job", False, {PROCRASTINATE: 0.01, PGQUEUER: 0.2}),
)
# row, what it is, whether more is better, the goal
TO_ITSELF: tuple[tuple[str, str, bool, float], ...] = (
    ("backlog", "no-op rate, backlog 100,000 to empty", True, 0.95),
    ("urgent_depth", "urgent claim among 1,000,000 to one among 20,000", False, 1.2),
    ("future_depth", "claim with 100,000 future jobs to one without", False, 1.2),
    ("snapshot", "claim while a snapshot is held over 100,000 jobs, last to first", False, 1.2),
    ("wakers", "24 claimers for one job to one claimer", False, 8.0),
)
SAME_AS = {"group": "effect"}  # what the peers have no row of their own for

HEAD = """# The job queue beside its peers

Made by `make bench-jobs`; do not edit. {cores} cores; CPython {python}; {versions}. {date}; {rounds} interleaved
rounds with {scale:g} of the jobs that each row names; the load average was {load:.1f} when it began. On a busy machine
only ratios mean anything: each is taken within one round, and what stands here is their median, with the least and the
greatest.

![Ratios to pgqueuer](results.svg)
"""
NOTES = """## What is compared

Callboard's is the worker of the product: pools of actors, leases, fences, counts, traces, floors. procrastinate runs 20
jobs at once and deletes done ones; pgqueuer takes batches of 100. All on one PostgreSQL with its default
durability, each in a database of its own. For an effect ours is one transaction with the job's end; theirs are two.

## Where the time goes

Claims and ends go by tens to hundreds in a statement, so a job without an effect costs the process more than the
database. By a CPU profile about two fifths of the process's time are the actor's: an ask with its deadline and its
trace, a task, and the counts of both; a sixth is how an attempt is judged and counted, an eighth the driver. The
prototype that set the goals called a function. A time limit, cancellation, supervision and a trace for each job are not
given up for them: that is why goals for no-op jobs are missed where the page says so.
An effect of one job is three round trips: the fenced delete goes with the BEGIN, then the effect, then the COMMIT.
pgqueuer's is one, since its effect and its end are two transactions, and the first may be there without the second.
What many jobs have in common is written in groups: one transaction of 20 jobs. Why the other goals are missed that the
page names has not been found yet.
"""


class Facts(NamedTuple):
    """How it was measured."""

    date: str
    rounds: int
    load: float
    versions: str
    scale: float = 1.0


def ratios(samples: Samples, row: str, peer: str) -> list[float]:
    """Round by round, ours to the peer's."""
    ours, theirs = samples[OURS].get(row, []), samples.get(peer, {}).get(SAME_AS.get(row, row), [])
    return [a / b for a, b in zip(ours, theirs, strict=False) if b]


def said(found: list[float], goal: float, *, more: bool) -> str:
    """Whether a goal is met, and by what."""
    if not found:
        return "not compared"
    middle = statistics.median(found)
    met = middle >= goal if more else middle <= goal
    return f"{'met' if met else 'not met'}: {page._span(found, '.3g')}"


def _goal(found: list[float], goal: float, *, more: bool) -> str:
    return f"{'>=' if more else '<='} {goal:g}; {said(found, goal, more=more)}"


def table(samples: Samples, facts: Facts) -> str:
    """The whole page."""
    head = HEAD.format(cores=os.cpu_count(), python=platform.python_version(), **facts._asdict())
    goals = [
        [
            what,
            *(
                _goal(ratios(samples, row, peer), wanted[peer], more=more) if peer in wanted else "-"
                for peer in (PROCRASTINATE, PGQUEUER)
            ),
        ]
        for row, what, more, wanted in ROWS
    ]
    own = [
        [what, f"{'>=' if more else '<='} {goal:g}", said(samples[OURS].get(row, []), goal, more=more)]
        for row, what, more, goal in TO_ITSELF
    ]
    figures = [
        [what, *(page._span(samples.get(peer, {}).get(row, []), ".4g") for peer in (OURS, PROCRASTINATE, PGQUEUER))]
        for row, what, _, _ in ROWS
    ]
    return "\n".join(
        [
            head,
            "## Goals, ours to theirs\n",
            page._table(["what", f"to {PROCRASTINATE}", f"to {PGQUEUER}"], goals),
            "## To itself\n",
            page._table(["what", "goal", "reached"], own),
            "## Figures: rates a second, times in seconds\n",
            page._table(["", OURS, PROCRASTINATE, PGQUEUER], figures),
            NOTES,
        ]
    )


def picture(samples: Samples, facts: Facts) -> str:
    """A bar for each row: how many times better than pgqueuer, the faster peer."""
    bars = []
    for row, what, more, _ in ROWS:
        found = ratios(samples, row, PGQUEUER)
        if found:
            middle = statistics.median(found)
            bars.append((what, middle if more else 1 / middle))
    most = max([times for _, times in bars] or [1.0])
    height = 70 + 44 * len(bars)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 760 {height}", role="img")
    ET.SubElement(root, "style").text = (
        "svg{font:13px system-ui,sans-serif;--ink:#1f2328;--ours:#0969da;--page:#fff}"
        "@media (prefers-color-scheme:dark){svg{--ink:#f0f6fc;--ours:#58a6ff;--page:#0d1117}}"
        "text{fill:var(--ink)}.page{fill:var(--page)}.ours{fill:var(--ours)}.b{font-weight:600}"
    )
    ET.SubElement(root, "rect", {"class": "page", "width": "760", "height": str(height)})
    page._text(root, 16, 28, "Callboard's job queue beside pgqueuer", "b")
    page._text(root, 16, 48, f"{facts.date}; medians of {facts.rounds} rounds; times as fast; further right is better")
    for n, (what, times) in enumerate(bars):
        y = 74 + 44 * n
        page._text(root, 16, y + 8, what)
        width = f"{560 * times / most:.1f}"
        ET.SubElement(root, "rect", {"class": "ours", "x": "16", "y": str(y + 14), "height": "14", "width": width})
        page._text(root, 24 + 560 * times / most, y + 26, f"{times:.2f}")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
