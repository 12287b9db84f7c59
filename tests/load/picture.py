"""The picture: one panel for each line over the seconds of the run."""

from typing import NamedTuple
from xml.etree import ElementTree as ET

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 120, 70, 50, 50
STYLE = """
svg { --page: #ffffff; --ink: #1f2328; --soft: #59636e; --grid: #d8dee4; --ours: #0969da;
      font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 13px; }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --ink: #f0f6fc; --soft: #9198a1; --grid: #2a313c; --ours: #58a6ff; }
}
text { fill: var(--ink); font-variant-numeric: tabular-nums; } .page { fill: var(--page); }
.head { font-size: 20px; font-weight: 600; } .soft { fill: var(--soft); font-size: 11px; } .end { text-anchor: end; }
.grid { stroke: var(--grid); } .line { stroke: var(--ours); stroke-width: 1.5; fill: none; }
"""


class Line(NamedTuple):
    """A figure over the seconds."""

    name: str
    points: list[tuple[float, float]]


def draw(title: str, lines: list[Line]) -> str:
    """Return the picture as SVG."""
    height = TOP + len(lines) * (HEIGHT + GAP)
    svg = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {height}", role="img")
    ET.SubElement(svg, "title").text = f"{title}: {', '.join(line.name for line in lines)}"
    ET.SubElement(svg, "style").text = STYLE
    ET.SubElement(svg, "rect", {"class": "page", "width": str(WIDTH), "height": str(height)})
    _text(svg, 20, 30, title, "head")
    last_s = max((at for line in lines for at, _ in line.points), default=1.0) or 1.0
    for n, line in enumerate(lines):
        _panel(svg, line, TOP + n * (HEIGHT + GAP) + 20, last_s)
    return ET.tostring(svg, encoding="unicode") + "\n"


def _panel(svg: ET.Element, line: Line, top: int, last_s: float) -> None:
    most = max((value for _, value in line.points), default=1.0) or 1.0
    _text(svg, LEFT, top - 6, line.name, "name")
    for share in (0.0, 0.5, 1.0):
        y = top + HEIGHT * (1 - share)
        ET.SubElement(
            svg, "line", {"class": "grid", "x1": str(LEFT), "x2": str(WIDTH - 20), "y1": f"{y}", "y2": f"{y}"}
        )
        _text(svg, LEFT - 8, y + 4, f"{most * share:,.0f}", "soft end")
    _text(svg, WIDTH - 20, top + HEIGHT + 16, f"{last_s:.0f} s", "soft end")
    x, y = (WIDTH - 20 - LEFT) / last_s, HEIGHT / most
    points = " ".join(f"{LEFT + at * x:.1f},{top + HEIGHT - value * y:.1f}" for at, value in line.points)
    ET.SubElement(svg, "polyline", {"class": "line", "points": points})


def _text(svg: ET.Element, x: float, y: float, text: str, kind: str) -> None:
    ET.SubElement(svg, "text", {"class": kind, "x": f"{x}", "y": f"{y}"}).text = text
