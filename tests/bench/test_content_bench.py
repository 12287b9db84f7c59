"""That `make bench-content` says what it measures, and sees a scan of a large table; not how fast anything is."""

import importlib.util
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

HERE = Path(__file__).parent / "content"


def loaded(name: str) -> Any:
    """A module of the benchmark: another benchmark's may have the same name."""
    spec = importlib.util.spec_from_file_location(f"content_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REPORT, PLANS, DATA = loaded("report"), loaded("plans"), loaded("data")
sys.modules["data"] = DATA
CALLS = loaded("calls")
del sys.modules["data"]
FACTS = REPORT.Facts("2000-01-01", 0.5, 200_000, 1_000_000)
TIMINGS = {"first": REPORT.Timing(10.0, 49.0, 400), "last": REPORT.Timing(16.0, 51.0, 400)}
LOG = """2026-01-01 10:00:00.000 UTC [1] LOG:  duration: 2.5 ms  plan:
\tQuery Text: select * from content
\tSeq Scan on content c  (cost=0.00..1.00 rows=1 width=1)
2026-01-01 10:00:00.001 UTC [1] LOG:  duration: 0.1 ms  plan:
\tQuery Text: select 1
\tResult  (cost=0.00..0.01 rows=1 width=4)
2026-01-01 10:00:00.002 UTC [1] ERROR:  something else
2026-01-01 10:00:00.003 UTC [1] LOG:  duration: 0.5 ms  plan:
\tQuery Text: select * from content join flags
\tNested Loop  (cost=0.00..1.00 rows=1 width=1)
\t  ->  Index Scan using content_published_idx on content  (cost=0.00..1.00 rows=1 width=1)
\t  ->  Seq Scan on flags  (cost=0.00..1.00 rows=1 width=1)
"""


def test_each_figure_stands_beside_its_goal() -> None:
    page = REPORT.table(TIMINGS, {"first": 7.0}, FACTS)
    assert "| first | 10.0 | 49.0 (met) | 50 | 7.0 | 400 |" in page
    assert "| last | 16.0 | 51.0 (not met) | 50 |  | 400 |" in page
    late = {"scheduled publication": REPORT.Timing(500.0, 2_100.0, 20)}
    assert "| scheduled publication | 500.0 | 2100.0 (not met) | 2000 |  | 20 |" in REPORT.table(late, {}, FACTS)
    assert "200,000 articles and 1,000,000 comments" in page


def test_a_slow_call_and_a_slow_last_page_are_missed_goals() -> None:
    assert len(REPORT.missed(TIMINGS, {"first": "last"})) == 2
    assert REPORT.missed({"first": TIMINGS["first"]}, {"first": "first"}) == []


def test_a_timing_is_of_the_middle_and_of_the_slowest_of_twenty() -> None:
    assert REPORT.Timing.of([float(each) for each in range(100)]) == (50.0, 95.0, 100)


def test_the_picture_has_a_bar_for_each_call_and_the_goal() -> None:
    late = {"scheduled publication": REPORT.Timing(500.0, 2_100.0, 20)}  # it has another scale
    root = ET.fromstring(REPORT.picture(TIMINGS | late, FACTS))  # noqa: S314 - our own
    assert [each.get("class") for each in root.iter("{http://www.w3.org/2000/svg}rect")] == [
        "page",
        "ours",
        "ours",
        "goal",
    ]


def test_a_scan_of_a_large_table_is_seen_in_the_log_of_the_server(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    log.write_text(LOG)
    found = PLANS.read_plans(log, 0)
    assert [(plan.ms, plan.scanned({"content", "comments"})) for plan in found] == [(2.5, {"content"}), (0.5, set())]
    assert [plan.ms for plan in PLANS.read_plans(log, LOG.index("2026-01-01 10:00:00.002"))] == [0.5]


def test_the_statements_of_calls_are_timed_by_the_log_of_the_server(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    before = "2026-01-01 09:00:00.000 UTC [1] LOG:  duration: 7.0 ms\n"
    log.write_text(f"{before}{before.replace('7.0', '1.25')}{LOG}{before.replace('7.0', '0.5')}")
    assert PLANS.read_ms(log, len(before)) == 1.75


def test_the_mix_has_every_share_of_a_hundred_searches() -> None:
    kinds = CALLS.searches()
    assert sum(CALLS.MIX.values()) == 100
    assert kinds.keys() >= CALLS.MIX.keys()
    mixed = CALLS.mixed(kinds)
    assert len(mixed) == 400
    assert mixed == CALLS.mixed(kinds)
    assert sum(query in kinds["two characters of Japanese"] for query in mixed) == 8


def test_the_data_are_the_same_each_time() -> None:
    rows = list(DATA.articles(range(20)))
    assert rows == list(DATA.articles(range(20)))
    assert [row[6] for row in rows] == ["published"] * 19 + ["draft"]
    assert len(set(DATA.vocabulary())) == DATA.VOCABULARY
