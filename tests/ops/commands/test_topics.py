"""`callboard topics` on a running product, and where nobody answers."""

import json
from pathlib import Path

import pytest
from kit.commands import run_command
from kit.running import Command, Up

from callboard.streams.topics import TOPICS

PARTITIONS = 4


def test_every_partition_is_listed_with_its_offsets_and_lag(up: Up) -> None:
    apart = Command("topics", "--data-dir", str(up.data), "--json")  # with its own imports
    assert (apart.wait(), apart.errors) == (0, "")
    rows = [json.loads(line) for line in apart.output.splitlines()]
    assert {row["topic"] for row in rows} == set(TOPICS)
    assert len(rows) == len(TOPICS) * PARTITIONS
    for row in rows:
        assert row["error"] == ""
        assert row["lag"] == row["end"] - max(row["begin"], row["committed"] or 0)


def test_a_person_gets_a_table(up: Up) -> None:
    status, output, _ = run_command("topics", up=up)
    assert status == 0
    assert "committed" in output
    assert "activity.v1" in output


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "set KAFKA_BROKERS"),
        ({"KAFKA_BROKERS": "127.0.0.1:1"}, "KAFKA_BROKERS (127.0.0.1:1): no broker responds"),
        ({"KAFKA_BROKERS": "::1:9092"}, "IPv6 as [::1]:9092"),
    ],
)
def test_why_there_is_nothing_to_list_is_one_line_and_status_2(
    tmp_path: Path, environment: dict[str, str], why: str
) -> None:
    words = ("topics", "--data-dir", str(tmp_path / "nothing"))
    status, output, errors = run_command(*words, environment=environment)
    assert (status, output) == (2, "")
    assert why in errors
    assert errors.count("\n") == 1
