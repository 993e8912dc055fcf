"""The files for Prometheus, Alertmanager and Grafana, held against their own tools."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from raymlops.data.drift import DriftPolicy
from raymlops.errors import ConfigError
from raymlops.ledger import Ledger
from raymlops.monitor.metrics import recorded_series
from raymlops.monitor.metrics.prometheus import filled_in
from raymlops.operate.settings import packaged_config
from raymlops.telemetry import CATALOGUE, FROM_RAY, RequestMeter, Series
from tests.monitor.metrics.conftest import decide, make_champion, roll_back, start_release
from tests.servers.process import program
from tests.servers.prometheus import promtool

CONFIGS = packaged_config("monitor/prometheus.yml").parent
RULES = yaml.safe_load((CONFIGS / "rules" / "raymlops.yml").read_text())
ALL_RULES = [rule for group in RULES["groups"] for rule in group["rules"]]
RECORDED = {rule["record"] for rule in ALL_RULES if "record" in rule}
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (CONFIGS / "grafana").iterdir()}

_METRIC = re.compile(r"(?:[a-z]+:)?(?:raymlops|ray)_[a-z0-9_]+(?::[a-z0-9_]+)?")
_OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")
_OF_PROMETHEUS = ("le", "job", "instance")
_LABELS = re.compile(
    r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)|(\w+)\s*(?:=~|!~|!=|=)\s*\"|\{\{\s*(\w+)\s*\}\}"
)


def known() -> set[str]:
    histograms = [name for name, metric in CATALOGUE.items() if metric.kind == "histogram"]
    parts = {f"{name}{suffix}" for name in histograms for suffix in _OF_A_HISTOGRAM}
    return (set(CATALOGUE) - set(histograms)) | parts | set(FROM_RAY) | RECORDED


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def labels_in(text: str) -> set[str]:
    """Those that an expression or a legend names."""
    found = {name for names in _LABELS.findall(text) for each in names for name in each.split(",")}
    return {name.strip() for name in found} - {"", *_OF_PROMETHEUS}


def labels_of(expression: str) -> set[str]:
    """Those of our metrics that an expression asks for, whose rules may be of rules."""
    found: set[str] = set()
    for name in _METRIC.findall(expression):
        if name in RECORDED:
            (rule,) = (rule for rule in ALL_RULES if rule.get("record") == name)
            found |= labels_of(rule["expr"])
        else:
            histogram = re.sub(r"_(bucket|sum|count)$", "", name)
            if (metric := CATALOGUE.get(name, CATALOGUE.get(histogram))) is not None:
                found |= set(metric.labels)
    return found


def test_the_rules_fire_when_they_should(tmp_path: Path) -> None:
    cases = (Path(__file__).parent / "rules_test.yml").read_text()
    path = tmp_path / "rules_test.yml"
    path.write_text(cases.replace("RULES", str(CONFIGS / "rules" / "raymlops.yml")))
    assert "SUCCESS" in promtool("test", "rules", path)


def test_the_first_rollback_and_the_first_refusal_of_a_model_alert(
    ledger: Ledger, tmp_path: Path
) -> None:
    """By the series that the exporter makes of a ledger, a minute apart."""

    def read() -> dict[str, float]:
        found = recorded_series(ledger, DriftPolicy())
        return {_written(each): each.value for each in found if each.metric.endswith("_total")}

    make_champion(ledger)
    before = read()
    roll_back(ledger, start_release(ledger))
    decide(ledger, "gate", "1.0.2 refused")
    alerts = ("RaymlopsReleaseRolledBack", "RaymlopsChallengerRefused")
    _assert_alerts([before, *[read()] * 6], "3m", alerts, tmp_path)


def test_the_first_requests_of_a_version_that_fail_alert(tmp_path: Path) -> None:
    """Ten seconds in which every second request failed were told to nobody: to Prometheus a
    series that begins with them has not increased."""
    meter = RequestMeter("flights")

    def after(answered: int, failed: int) -> dict[str, float]:
        for status in [200] * answered + [500] * failed:
            meter.note("1.0.0", "champion", status, rows=1, total_s=1e-3)
        counts = [each for each in meter.series() if each.metric == "raymlops_requests_total"]
        return {_written(each): each.value for each in counts}

    steps = [after(100, 0), after(100, 0), after(100, 100), *(after(100, 0) for _ in range(4))]
    _assert_alerts(steps, "5m", ("RaymlopsRequestsFail",), tmp_path)


def _assert_alerts(
    steps: Sequence[Mapping[str, float]], eval_time: str, alerts: Sequence[str], folder: Path
) -> None:
    """Of series as they are at each minute."""
    names = dict.fromkeys(name for step in steps for name in step)
    case = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": " ".join(str(step.get(name, "_")) for step in steps)}
            for name in names
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": eval_time,
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts
                ],
            }
        ],
    }
    path = folder / "alerts_test.yml"
    rules = str(CONFIGS / "rules" / "raymlops.yml")
    path.write_text(yaml.safe_dump({"rule_files": [rules], "tests": [case]}))
    assert "SUCCESS" in promtool("test", "rules", path)


def _written(series: Series) -> str:
    labels = zip(CATALOGUE[series.metric].labels, series.labels, strict=True)
    selector = ",".join(f'{name}="{value}"' for name, value in labels)
    return f"{series.metric}{{{selector}}}"


def test_every_alert_is_tested() -> None:
    cases = yaml.safe_load((Path(__file__).parent / "rules_test.yml").read_text())
    tested = {
        case["alertname"]
        for test in cases["tests"]
        for case in test.get("alert_rule_test", ())
        if "exp_alerts" in case
    }
    assert tested == {rule["alert"] for rule in ALL_RULES if "alert" in rule}


def test_rules_ask_for_metrics_that_there_are() -> None:
    asked = {name for rule in ALL_RULES for name in _METRIC.findall(rule["expr"])}
    assert asked <= known()


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.get("record", rule.get("alert")))
def test_rules_ask_for_labels_that_there_are(rule: dict[str, Any]) -> None:
    """A rule of cache hits once asked for labels that no series has, and had no samples."""
    if "raymlops" in rule["expr"]:
        assert labels_in(rule["expr"]) <= labels_of(rule["expr"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_asks_for_labels_that_there_are(name: str) -> None:
    for panel in DASHBOARDS[name]["panels"]:
        for target in panel["targets"]:
            if "raymlops" in target["expr"]:
                asked = labels_in(target["expr"]) | labels_in(target.get("legendFormat", ""))
                assert asked <= labels_of(target["expr"]), panel["title"]


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    targets = {"ray": tmp_path / "ray.json", "raymlops": tmp_path / "raymlops.json"}
    for path in targets.values():
        path.write_text("[]")
    config = tmp_path / "prometheus.yml"
    config.write_text(filled_in(CONFIGS / "prometheus.yml", targets, ["127.0.0.1:9093"]))
    told = promtool("check", "config", config)
    assert "1 rule files found" in told
    assert "WARNING" not in told
    with pytest.raises(ConfigError, match=r"has no jobs \['rays'\], only \['ray', 'raymlops'\]"):
        filled_in(CONFIGS / "prometheus.yml", {"rays": tmp_path}, [])


def test_alertmanager_takes_its_routes() -> None:
    amtool = program("amtool", package="prometheus-alertmanager")
    config = CONFIGS / "alertmanager.yml"
    checked = subprocess.run([amtool, "check-config", config], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    for labels, receiver in (
        (["severity=critical", "model=flights"], "on-call"),
        (["severity=warning"], "everybody"),
        (["severity=info"], "nobody"),
    ):
        command = [amtool, "config", "routes", "test", f"--config.file={config}", *labels]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == receiver


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_one_that_grafana_takes(name: str) -> None:
    board = DASHBOARDS[name]
    assert board["uid"] == f"raymlops-{name}"
    assert {"title", "schemaVersion", "templating", "time", "panels"} <= board.keys()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    for panel in panels:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_draws_metrics_that_there_are(name: str, tmp_path: Path) -> None:
    """Prometheus parses each expression, and knows every name in it."""
    asked = [
        expression.replace("$__rate_interval", "5m").replace("$model", ".*")
        for expression in expressions(DASHBOARDS[name])
    ]
    assert {found for each in asked for found in _METRIC.findall(each)} <= known()
    rules = [{"record": f"panel:number_{n}", "expr": each} for n, each in enumerate(asked)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert "SUCCESS" in promtool("check", "rules", path)


def test_every_metric_is_drawn_or_ruled() -> None:
    text = "".join(expression for board in DASHBOARDS.values() for expression in expressions(board))
    text += "".join(rule["expr"] for rule in ALL_RULES)
    assert [name for name in (*CATALOGUE, *FROM_RAY) if name not in text] == []
