"""That `make bench-jobs` says what it measures; not how fast anything is."""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

sys.path.insert(0, str(Path(__file__).with_name("jobs")))

import report

FACTS = report.Facts("2000-01-01", 3, 0.5, "pgqueuer 1.2.3")
SAMPLES = {
    "Callboard": {"noop_1": [300.0, 600.0, 900.0], "group": [60.0], "latency": [0.001, 0.002], "backlog": [0.9]},
    "procrastinate": {"noop_1": [10.0, 10.0, 10.0], "effect": [1.0]},
    "pgqueuer": {"noop_1": [100.0, 400.0, 450.0], "latency": [0.002, 0.002]},
}


def test_the_goals_are_ratios_within_a_round_and_their_median_decides() -> None:
    page = report.table(SAMPLES, FACTS)
    assert "| >= 50; met: 60 (30-90) | >= 2; met: 2 (1.5-3) |" in page
    assert "| >= 30; met: 60 (60-60) | >= 4; not compared |" in page
    assert "| <= 0.8; not compared | <= 1.1; met: 0.75 (0.5-1) |" in page
    assert "| >= 0.95 | not met: 0.9 (0.9-0.9) |" in page


def test_the_picture_is_one_and_has_a_bar_for_each_row_that_was_compared() -> None:
    root = ET.fromstring(report.picture(SAMPLES, FACTS))  # noqa: S314 - our own
    assert len([each for each in root.iter() if each.get("class") == "ours"]) == 2
