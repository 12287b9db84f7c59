"""That `make bench-runtime` measures what it says; not how fast anything is."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.long
COMPARE = Path(__file__).with_name("runtime") / "compare.py"
FIGURE = r"[\d,.]+(e[+-]\d+)?"
RANGE = rf"{FIGURE}( \({FIGURE}-{FIGURE}\))?"
WORD = "as Callboard|not installed|not measured|no goal|not compared"
CELL = re.compile(rf"{RANGE}|(not )?met: {RANGE}|{WORD}")
JOBS = ["tell", "ask", "1,000 asks in flight", "fan-out", "ring", "spawn", "bytes an actor"]
MACHINE = {"processor": "", "system": "", "python": "", "versions": "", "load": "0", "quick": False}


def compare(*arguments: object, environment: dict[str, str] | None = None) -> str:
    command = [sys.executable, str(COMPARE), *(str(each) for each in arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - our own
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def tables(page: str) -> dict[str, list[list[str]]]:
    """The cells of each table, its head first, by the heading above it."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in page.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|") and "---" not in line:
            found.setdefault(heading, []).append([cell.strip() for cell in line[1:-1].split("|")])
    return found


def written(folder: Path, samples: dict[str, Any]) -> str:
    """The page made of these samples."""
    saved = folder / "saved.json"
    saved.write_text(
        json.dumps({"samples": samples, "words": {}, "machine": {"date": "2000-01-01", "rounds": 3, **MACHINE}})
    )
    compare("--load", saved, "--out", folder)
    return (folder / "results.md").read_text()


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny round of all that is installed here."""
    folder = tmp_path_factory.mktemp("results")
    compare("--quick", "--rounds", 1, "--date", "2000-01-01", "--out", folder)
    return folder


def test_every_cell_of_every_table_has_a_number_or_a_word(trial: Path) -> None:
    found = tables((trial / "results.md").read_text())
    assert len(found) == 5
    for heading, (head, *rows) in found.items():
        assert rows, heading
        first = 2 if heading == "Goals" else 1
        assert [row for row in rows if len(row) != len(head)] == []
        assert [cell for row in rows for cell in row[first:] if not CELL.fullmatch(cell)] == [], heading


def test_the_runtime_and_the_raw_limit_have_a_number_for_every_job_on_both_loops(trial: Path) -> None:
    head, *rows = tables((trial / "results.md").read_text())["Thousand a second"]
    assert head[1:] == JOBS
    by_title = {row[0]: row[1:] for row in rows}
    for loop in ("asyncio", "uvloop"):
        for title in (f"Callboard, {loop}", f"raw deque + future (the limit), {loop}"):
            # A tiny trial may fit into memory that the process held before: then its bytes have a word.
            assert [cell for cell in by_title[title][:-1] if not re.fullmatch(RANGE, cell)] == [], title


def test_the_picture_names_every_job_and_every_peer(trial: Path) -> None:
    words = {element.text for element in ET.parse(trial / "results.svg").iter("{http://www.w3.org/2000/svg}text")}  # noqa: S314 - ours
    assert words.issuperset(JOBS)
    assert words >= {"Callboard", "asyncio.Queue", "anyio stream", "Pykka", "xoscar", "Erlang/OTP, one scheduler"}


def test_a_peer_that_is_missing_is_said_and_the_rest_runs(tmp_path: Path) -> None:
    options = ("--quick", "--rounds", 1, "--only", "raw", "erlang", "--out", tmp_path)
    compare(*options, environment={"PATH": str(tmp_path)})
    page = (tmp_path / "results.md").read_text()
    assert "- Erlang/OTP, one scheduler: not installed: erl and erlc" in page
    rows = {row[0]: row[1:] for row in tables(page)["Thousand a second"]}
    assert set(rows["Erlang/OTP, one scheduler"]) == {"not installed"}
    assert re.fullmatch(RANGE, rows["raw deque + future (the limit), asyncio"][0])


def test_a_ratio_is_the_median_of_the_rounds_ratios(tmp_path: Path) -> None:
    limit, ours = "raw deque + future (the limit), asyncio", "Callboard, asyncio"
    page = written(tmp_path, {limit: {"tell": [100.0, 200.0, 400.0]}, ours: {"tell": [50.0, 50.0, 400.0]}})
    assert [ours, "0.5 (0.25-1)"] in [row[:2] for row in tables(page)["To the raw limit"]]
    assert ["tell", "0.47 times the raw limit", "met: 0.5 (0.25-1)", "not compared"] in tables(page)["Goals"]


def test_few_bytes_are_good(tmp_path: Path) -> None:
    limit, ours = "raw deque + future (the limit), uvloop", "Callboard, uvloop"
    page = written(tmp_path, {limit: {"bytes": [1800.0]}, ours: {"bytes": [450.0]}})
    assert ["bytes an actor", "at most 400 bytes", "not compared", "not met: 450"] in tables(page)["Goals"]
    assert next(row for row in tables(page)["To the raw limit"] if row[0] == ours)[-1] == "4"


@pytest.mark.parametrize("what", ["ask", "tell"])
def test_the_profile_finds_every_part_in_the_source(what: str) -> None:
    said = tables(compare("--profile", what, "--quick"))[""]
    assert len(said) > 8
    cells = [cell for row in said for cell in row[1:] if row[1] != "asyncio"]
    assert [cell for cell in cells if not re.fullmatch(r"-?\d+", cell)] == []
