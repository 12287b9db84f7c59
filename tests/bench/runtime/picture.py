"""The picture: for each job, every peer's ratio to the raw limit on one logarithmic scale, and Callboard's goals."""

import math
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree import ElementTree as ET

from jobs import FIGURES, Job
from machine import Machine
from results import Results, Verdict, beside
from roster import CALLBOARD, LOOPS, NO_LOOP, PEERS, RAW, Peer, Row

ASYNCIO, UVLOOP = LOOPS
WIDTH = 1130
LEFT, RIGHT = 210, 680  # of the plot
RATIO = {ASYNCIO: 740, UVLOOP: 802, NO_LOOP: 802}  # right ends of the numbers
GOAL = 880  # right end
VERDICT = {ASYNCIO: 894, UVLOOP: 1004}
TOP = 128
TITLE, LINE, GAP = 36, 24, 20
LANE = {ASYNCIO: -5, UVLOOP: 5, NO_LOOP: 0}  # each loop has its own line within a row

STYLE = """
svg { --page: #ffffff; --ink: #1f2328; --soft: #59636e; --grid: #d8dee4; --limit: #818b98; --peer: #59636e;
      --ours: #0969da; --goal: #bf8700; --met: #1a7f37; --unmet: #cf222e; --band: #ddf4ff;
      font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 13px; }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --ink: #f0f6fc; --soft: #9198a1; --grid: #2a313c; --limit: #7d8590; --peer: #9198a1;
        --ours: #58a6ff; --goal: #d29922; --met: #3fb950; --unmet: #f85149; --band: #121d2f; }
}
text { fill: var(--ink); font-variant-numeric: tabular-nums; }
.page { fill: var(--page); } .band { fill: var(--band); }
.head { font-size: 20px; font-weight: 600; } .job { font-size: 15px; font-weight: 600; }
.soft { fill: var(--soft); } .small { font-size: 11px; } .end { text-anchor: end; } .middle { text-anchor: middle; }
.ours text { fill: var(--ours); font-weight: 600; }
.grid { stroke: var(--grid); } .limit { stroke: var(--limit); stroke-width: 2; }
.guide { stroke: var(--ours); stroke-opacity: 0.45; } .guide.asyncio { stroke-dasharray: 3 3; }
.range { stroke: var(--peer); stroke-width: 1.5; stroke-opacity: 0.6; } .ours .range { stroke: var(--ours); }
.mark { stroke: var(--peer); stroke-width: 1.8; fill: var(--peer); }
.ours .mark { stroke: var(--ours); fill: var(--ours); }
.mark.asyncio, .ours .mark.asyncio { fill: var(--page); }
.goal { stroke: var(--goal); stroke-width: 3; }
.met { fill: var(--met); font-weight: 600; } .unmet { fill: var(--unmet); font-weight: 600; }
"""


class Scale(NamedTuple):
    """A logarithmic axis from 10 ** low to 10 ** high."""

    low: int
    high: int

    def x(self, ratio: float) -> float:
        """Where a ratio stands, at most at the ends of the plot."""
        share = (math.log10(ratio) - self.low) / (self.high - self.low)
        return round(LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, share)), 1)

    @property
    def decades(self) -> list[float]:
        """The grid lines."""
        return [10.0**exponent for exponent in range(self.low, self.high + 1)]


def picture(results: Results, words: dict[str, str], machine: Machine) -> str:
    """The SVG as text."""
    scale = _scale(results)
    panels = [(job, [peer for peer in PEERS if peer is not RAW and job.key not in _same(peer)]) for job in FIGURES]
    height = TOP + sum(TITLE + LINE * len(peers) + GAP for _, peers in panels)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {height}", role="img")
    root.set("width", str(WIDTH))
    root.set("height", str(height))
    _add(root, "title").text = "Callboard's runtime and its peers, in ratio to a raw deque and future"
    _add(root, "style").text = STYLE
    _add(root, "rect", "page", width=WIDTH, height=height)
    _legend(root, machine)
    y = TOP
    for job, peers in panels:
        Panel(root, scale, results, words, job, y).draw(peers)
        y += TITLE + LINE * len(peers) + GAP
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _same(peer: Peer) -> tuple[str, ...]:
    return (*peer.without, "bytes") if "spawn" in peer.without else peer.without


def _scale(results: Results) -> Scale:
    spreads = [results.to_limit(Row(peer, loop), job.key) for peer in PEERS for loop in peer.loops for job in FIGURES]
    ratios = [ratio for spread in spreads if spread for ratio in (spread.least, spread.most)] or [1.0]
    return Scale(min(-1, math.floor(math.log10(min(ratios)))), max(1, math.ceil(math.log10(max(ratios)))))


def _legend(root: ET.Element, machine: Machine) -> None:
    _text(root, 16, 32, "Callboard's runtime beside its peers", "head")
    of = "a trial run: these figures mean nothing" if machine.quick else f"medians of {machine.rounds} rounds"
    _text(
        root, 16, 54, f"{machine.date}, {machine.processor}, {machine.python}; {of}, and lines over all of them", "soft"
    )
    what = "Ratio to a raw deque and future on the same loop (Pykka, Erlang: on uvloop). Further right is better."
    _text(root, 16, 74, what, "soft")
    for x, loop, name in ((24, ASYNCIO, ASYNCIO), (112, UVLOOP, UVLOOP), (192, NO_LOOP, "no event loop")):
        _mark(root, x, 96, loop)
        _text(root, x + 12, 100, name)
    _add(root, "line", "goal", x1=318, x2=318, y1=89, y2=103)
    _text(
        root,
        328,
        100,
        "goal: where Callboard has to be, in its own row beside the limit, in a peer's row beside that peer",
    )


@dataclass(frozen=True)
class Panel:
    """One job: a row a peer, with both of its loops in it."""

    root: ET.Element
    scale: Scale
    results: Results
    words: dict[str, str]
    job: Job
    top: int

    def draw(self, peers: list[Peer]) -> None:
        """Title and grid, then the rows over them."""
        first = self.top + TITLE
        bottom = first + LINE * len(peers)
        _text(self.root, 16, self.top + 20, self.job.title, "job")
        for loop in LOOPS:
            _text(self.root, RATIO[loop], first - 8, loop, "soft small end")
            _text(self.root, VERDICT[loop], first - 8, f"on {loop}", "soft small")
        _text(self.root, GOAL, first - 8, "goal", "soft small end")
        _add(self.root, "rect", "band", x=8, y=first, width=WIDTH - 16, height=LINE, rx=4)
        for decade in self.scale.decades:
            x = self.scale.x(decade)
            _add(self.root, "line", "limit" if decade == 1 else "grid", x1=x, x2=x, y1=first - 4, y2=bottom)
            _text(self.root, x, first - 8, "raw limit" if decade == 1 else f"{decade:g}", "soft small middle")
        for loop in LOOPS:
            if ours := self.results.to_limit(Row(CALLBOARD, loop), self.job.key):
                x = self.scale.x(ours.median)
                _add(self.root, "line", f"guide {loop}", x1=x, x2=x, y1=first, y2=bottom)
        for number, peer in enumerate(peers):
            y = first + LINE * number + LINE // 2
            self._goals(peer, y)
            self._row(peer, y)

    def _row(self, peer: Peer, y: int) -> None:
        """Its marks and its numbers, or the word why there are none."""
        group = _add(self.root, "g", "ours" if peer.ours else "")
        _text(group, 16, y + 4, peer.title)
        for loop in peer.loops:
            spread = self.results.to_limit(Row(peer, loop), self.job.key)
            if spread is None:
                word = self.words.get(Row(peer, loop).title, "not measured").partition(":")[0]
                _text(group, LEFT + 8, y + 4, word, "soft small")
                return
            line = y + LANE[loop]
            _add(group, "line", "range", x1=self.scale.x(spread.least), x2=self.scale.x(spread.most), y1=line, y2=line)
            _mark(group, self.scale.x(spread.median), line, loop)
            _text(group, RATIO[loop], y + 4, _figure(spread.median), "end")

    def _goals(self, peer: Peer, y: int) -> None:
        """A tick where Callboard has to be on each loop, and in words whether it is."""
        beside_it = {"raw", None} if peer is CALLBOARD else {peer.key}
        for verdict in self.results.verdicts():
            goal = verdict.goal
            if goal.job != self.job.key or goal.peer not in beside_it or goal.ours != CALLBOARD.key:
                continue
            aim = _figure(goal.times) if goal.peer is None else f"{goal.times:g} times"
            if verdict.loop == goal.loops[0]:
                _text(self.root, GOAL, y + 4, aim, "end")
            reached = "" if verdict.reached is None else f": {_figure(verdict.reached.median)}"
            kind = {"met": "met", "not met": "unmet"}.get(verdict.word, "soft")
            _text(self.root, VERDICT[verdict.loop], y + 4, f"{verdict.word}{reached}", kind)
            where = self._where(verdict)
            if where is not None:
                x, line = self.scale.x(where), y + LANE[verdict.loop]
                _add(self.root, "line", "goal", x1=x, x2=x, y1=line - 5, y2=line + 5)

    def _where(self, verdict: Verdict) -> float | None:
        """A goal as a ratio to the raw limit."""
        goal, raw = verdict.goal, Row(RAW, verdict.loop)
        if goal.peer == "raw":
            return goal.times
        if goal.peer is not None:
            other = self.results.times_as_good(beside(goal.peer, verdict.loop), raw, goal.job)
            return None if other is None else goal.times * other.median
        limit = self.results.spread(raw, goal.job)
        if limit is None:
            return None
        return limit.median / goal.times if goal.job == "bytes" else goal.times / limit.median


def _figure(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _mark(group: ET.Element, x: float, y: float, loop: str) -> None:
    if loop == NO_LOOP:
        corners = ((x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y))
        _add(group, "polygon", "mark", points=" ".join(f"{a:g},{b:g}" for a, b in corners))
    else:
        _add(group, "circle", f"mark {loop}", cx=x, cy=y, r=4)


def _text(group: ET.Element, x: float, y: float, words: str, kind: str = "") -> None:
    _add(group, "text", kind, x=x, y=y).text = words


def _add(group: ET.Element, tag: str, kind: str = "", **attributes: float | str) -> ET.Element:
    named = {"class": kind} if kind else {}
    return ET.SubElement(group, tag, named | {name: str(value) for name, value in attributes.items()})
