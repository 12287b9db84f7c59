"""That `make bench-streams` says what it measures; not how fast anything is."""

import importlib.util
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET


def loaded() -> Any:
    """The report: another benchmark's has the same name."""
    spec = importlib.util.spec_from_file_location("streams_report", Path(__file__).parent / "streams" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REPORT = loaded()
FACTS = REPORT.Facts("2000-01-01", 0.5)
FIGURES = {"embedded broker": REPORT.Figures(49.0, 251.0, 5000.0, 4000.0, 1000.0, 4.0)}


def test_each_figure_stands_beside_its_goal() -> None:
    page = REPORT.table(FIGURES, FACTS)
    assert "| <= 50 | 49 (met) |" in page
    assert "| <= 250 | 251 (not met) |" in page
    assert "| >= 2 | 4 (met) |" in page


def test_the_picture_has_two_bars_for_each_broker() -> None:
    root = ET.fromstring(REPORT.picture(FIGURES, FACTS))  # noqa: S314 - our own
    assert len([each for each in root.iter() if each.get("class") in {"ours", "theirs"}]) == 2
