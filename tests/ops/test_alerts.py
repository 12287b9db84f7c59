"""The alert rules and the dashboard: their series exist, each alert has its section, each fires in its drill."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.alert_drills import DRILLS, FAULTY_STEPS, HEALTHY_STEPS, STEP_S, record, stage, take
from kit.promtool import needs_promtool, promtool
from kit.running import Up, request, until
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from callboard.actors.infrastructure.database import Database
from callboard.ops.application import dry_run
from callboard.ops.metrics import DatabaseCollector

OPS = Path(__file__).parents[2] / "ops"
RULES = OPS / "deploy" / "alerts.yaml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
DASHBOARD = json.loads((OPS / "deploy" / "grafana-dashboard.json").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
WORDS = {"by", "on", "ignoring", "without", "and", "or", "unless", "group_left", "group_right"}
OWN = {"up"}  # of Prometheus itself
AFTER_MINUTES = (HEALTHY_STEPS + FAULTY_STEPS) * STEP_S // 60 - 1


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """The names of the series in an expression, each with the labels that are asked for."""
    bare = re.sub(r"\b(?:by|on|ignoring|without)\s*\([^)]*\)", "", re.sub(r'"[^"]*"', '""', expression))
    found = re.findall(r"\b([a-z_][a-z0-9_:]*)\b(?!\s*\()\s*(\{[^}]*\})?", re.sub(r"\[[^\]]*\]", "", bare))
    outside = re.sub(r"\{[^}]*\}", "", re.sub(r"\[[^\]]*\]", "", bare))
    names = set(re.findall(r"(?<![\w$])([a-z_][a-z0-9_:]*)\b(?!\s*\()", outside)) - WORDS
    return [(name, set(re.findall(r"(\w+)\s*[=!]", labels))) for name, labels in found if name in names]


def test_selectors_are_read_as_promql_means_them() -> None:
    expression = 'sum by (le) (rate(a_total{x=~"b", y!="c"}[5m])) / on (kind) max(d) > 0.2 and e_bytes'
    assert selectors(expression) == [("a_total", {"x", "y"}), ("d", set()), ("e_bytes", set())]


@pytest.fixture(scope="module")
def families(up: Up) -> Mapping[str, set[str]]:
    """The labels of each series of a running process, by its name; None is in those of which there is no sample yet."""
    up.join()

    def page() -> str | None:
        body = request("GET", f"{up.operators}/metrics", token=up.facts["OPS_TOKEN"]).body
        text = body if isinstance(body, str) else body.decode()
        return text if "\nactive_users " in text else None  # it is counted from time to time

    text = until("the count of active users", page)
    found: dict[str, set[str]] = {}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        for ending in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            found[name + ending] = set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, set()) | set(sample.labels)
    return found


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in ALERTS.values()), *EXPRESSIONS])
def test_every_series_and_every_label_exists_in_a_running_process(
    expression: str, families: Mapping[str, set[str]]
) -> None:
    assert selectors(expression)
    for name, labels in selectors(expression):
        assert name in families or name in OWN, name
        if families.get(name):
            assert labels <= families[name] | {"instance", "job"}, (name, labels)


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_how_bad_it_is_and_has_its_section_in_the_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    sections = re.split(r"^### ", (OPS.parent / page).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    (section,) = [each for each in sections if each.splitlines()[0].lower().replace(" ", "-") == anchor]
    assert all(f"**{part}.** " in section for part in ("Means", "Look", "Do"))


def test_the_runbook_has_no_section_for_an_alert_that_is_not_there() -> None:
    headings = re.findall(r"^### (Callboard\w+)$", (OPS / "RUNBOOK.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)


@needs_promtool
def test_promtool_takes_the_rules_and_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    status, said = promtool("check", "rules", str(RULES))
    assert status == 0, said
    shown = [
        {"record": f"panel:{n}", "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for n, expression in enumerate(EXPRESSIONS)
    ]
    page = tmp_path / "dashboard.yaml"
    page.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": shown}]}), encoding="utf-8")
    status, said = promtool("check", "rules", str(page))
    assert status == 0, said


def as_test(name: str, series: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """A test for promtool: the alert fires at the end of the drill, and is not even pending before its trouble: only
    the lag of the loop may be there before, on a busy machine.
    """
    firing = f'min(ALERTS{{alertname="{name}",alertstate="firing"}})'
    before = {
        "expr": f'count(ALERTS{{alertname="{name}"}})',
        "eval_time": f"{(HEALTHY_STEPS - 1) * STEP_S}s",
        "exp_samples": [],
    }
    return {
        "name": name,
        "interval": f"{STEP_S}s",
        "input_series": [
            {"series": selector, "values": " ".join("_" if value is None else repr(value) for value in values)}
            for selector, values in series.items()
        ],
        "promql_expr_test": [
            *([] if name == "CallboardLoopLag" else [before]),
            {"expr": firing, "eval_time": f"{AFTER_MINUTES}m", "exp_samples": [{"labels": "{}", "value": 1}]},
        ],
    }


async def exhausted(url: str) -> dict[str, list[float | None]]:
    """The series of a real pool of two connections, both of which are taken in the second part."""
    database = Database(url, size=2)
    await database.connect()
    registry = CollectorRegistry()
    registry.register(DatabaseCollector(database))
    series: dict[str, list[float | None]] = {}
    try:
        for number in range(HEALTHY_STEPS):
            take(series, generate_latest(registry).decode(), {"db_connection_pool_size"}, number)
        async with database.acquire(), database.acquire():
            for number in range(HEALTHY_STEPS, HEALTHY_STEPS + FAULTY_STEPS):
                take(series, generate_latest(registry).decode(), {"db_connection_pool_size"}, number)
    finally:
        database.disconnect()
    return series


@needs_promtool
async def test_each_alert_fires_in_its_drill_and_not_before(up: Up, tmp_path: Path) -> None:
    tests = [
        as_test(
            "CallboardProcessDown",
            {'up{instance="a:9000",job="callboard"}': [1.0] * HEALTHY_STEPS + [0.0] * FAULTY_STEPS},
        ),
        as_test("CallboardPoolExhausted", await exhausted(up.facts["DATABASE_URL"])),
    ]
    names = [name for name in ALERTS if name not in {test["name"] for test in tests}]
    app = dry_run()
    for name in names:
        async with stage(app) as on:
            named = [series for series, _ in selectors(ALERTS[name]["expr"])]
            tests.append(as_test(name, await record(on, DRILLS[name], named)))
    assert len(tests) == len(ALERTS)
    page = tmp_path / "drills.yaml"
    whole = {"rule_files": [str(RULES)], "evaluation_interval": f"{STEP_S}s", "tests": tests}
    page.write_text(json.dumps(whole), encoding="utf-8")
    status, said = promtool("test", "rules", str(page))
    assert status == 0, said


def test_each_alert_has_a_drill() -> None:
    assert set(ALERTS) == {*DRILLS, "CallboardProcessDown", "CallboardPoolExhausted"}
