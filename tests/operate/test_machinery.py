"""`up` starts Ray and, where it is asked for, Prometheus; `down` ends both and nothing else."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raymlops.errors import ClusterError, ConfigError
from raymlops.monitor.alerts import AlertBook
from raymlops.monitor.metrics import PrometheusSettings, prometheus
from raymlops.monitor.metrics.prometheus import (
    recorded_prometheus,
    start_prometheus,
    stop_prometheus,
)
from raymlops.operate import Machinery, Workspace, down, start_exporter, start_sentinel, up
from raymlops.operate.settings import packaged_config
from raymlops.telemetry import FROM_RAY
from tests.coordination.processes import until
from tests.servers.prometheus import Prometheus

TEMPLATE = packaged_config("monitor/prometheus.yml")


def workspace(home: Path, *overrides: str) -> Workspace:
    wanted = ("monitor.prometheus.enabled=true", "monitor.prometheus.port=0")
    return Workspace.open(overrides=[f"home={home}", *wanted, *overrides])


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"port": 70000}, "port is 70000, not within 0 and 65535"),
        ({"retention_days": 0}, "retention_days is 0, it must be positive, and at most 36500"),
        ({"alertmanager": "http://host"}, "'http://host', expected 'local', 'auto' or HOST:PORT"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        PrometheusSettings(**wrong)  # type: ignore[arg-type]


def test_what_is_not_installed_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt-get install prometheus"):
        up(workspace(tmp_path))
    assert not (tmp_path / "cluster.json").exists()


def test_other_machines_have_their_targets_on_the_head(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="start Prometheus there"):
        up(workspace(tmp_path), Path("cluster.yaml"))


def test_a_prometheus_of_an_earlier_version_is_not_left_running_unseen(tmp_path: Path) -> None:
    record = tmp_path / "prometheus" / "process.json"
    record.parent.mkdir()
    leader = {"pid": 7, "started_s": 1.5}
    record.write_text(json.dumps({"leader": leader, "url": "http://127.0.0.1:9"}))
    with pytest.raises(ClusterError, match=f"then delete {record}"):
        stop_prometheus(tmp_path)


def test_prometheus_is_started_once_and_ended_alone(tmp_path: Path) -> None:
    settings = PrometheusSettings(enabled=True, port=0, alertmanager="127.0.0.1:9")
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    targets = {"raymlops": tmp_path / "none.json"}
    try:
        first, again = (
            start_prometheus(settings, home=tmp_path, template=TEMPLATE, targets=targets)
            for _ in range(2)
        )
        assert first == again == recorded_prometheus(tmp_path)
        server = Prometheus(first.url)
        until(lambda: server.get("alertmanagers")["activeAlertmanagers"])
        rules = server.get("rules")["groups"]
        assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}
        assert stop_prometheus(tmp_path)
        assert not first.running
        assert not stop_prometheus(tmp_path)
        assert bystander.poll() is None
    finally:
        stop_prometheus(tmp_path)
        bystander.kill()
        bystander.wait()


def test_a_prometheus_whose_start_was_cut_off_is_found_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It was on record only once it was ready: until then nothing knew what a killed `up` started.
    settings = PrometheusSettings(enabled=True, port=0)

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prometheus, "_wait_until_ready", cut_off)
        with pytest.raises(KeyboardInterrupt):
            start_prometheus(settings, home=tmp_path, template=TEMPLATE, targets={})
    left = recorded_prometheus(tmp_path)
    try:
        assert left is not None
        assert start_prometheus(settings, home=tmp_path, template=TEMPLATE, targets={}) == left
    finally:
        assert stop_prometheus(tmp_path)
    assert not left.running


def test_a_prometheus_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    template = tmp_path / "prometheus.yml"
    template.write_text(TEMPLATE.read_text().replace("10s", "ten seconds"))
    with pytest.raises(ClusterError, match="not a valid duration string"):
        start_prometheus(
            PrometheusSettings(enabled=True, port=0), home=tmp_path, template=template, targets={}
        )
    assert recorded_prometheus(tmp_path) is None


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[Workspace, Machinery]]:
    with workspace(tmp_path, "cluster.address=auto") as opened:
        machinery = up(opened)
        try:
            yield opened, machinery
        finally:
            down(opened)


@pytest.mark.cluster
@pytest.mark.endurance
def test_prometheus_scrapes_ray_and_the_exporter(started: tuple[Workspace, Machinery]) -> None:
    opened, machinery = started
    with opened.connect():
        start_exporter(opened)
        start_sentinel(opened)
        decision = {"kind": "gate", "outcome": "1.0.1 refused", "who": "test", "why": "worse"}
        opened.ledger.decisions.add(model="flights", evidence={}, **decision)
    assert machinery.prometheus_url is not None
    server = Prometheus(machinery.prometheus_url)
    wanted = {name for name in FROM_RAY if "_gpus_" not in name and "_gram_" not in name}
    wanted -= {"ray_serve_deployment_replica_healthy"}  # nothing is deployed here
    seen: set[str] = set()
    deadline = time.monotonic() + 120
    while not wanted | {"raymlops_ledger_up"} <= seen and time.monotonic() < deadline:
        seen = set(server.get("label/__name__/values"))
        time.sleep(0.2)
    assert wanted - seen == set()
    until(lambda: [each.name for each in AlertBook(opened.home).read().told] == ["gate"])
    (line,) = (opened.home / "logs" / "decisions.jsonl").read_text().splitlines()
    assert json.loads(line)["outcome"] == "1.0.1 refused"
    assert server.query('sum by (job) (up{job="raymlops"})')[0]["value"][1] == "1"
    recorded = recorded_prometheus(opened.home)
    assert recorded is not None
    assert recorded.running
    assert down(opened)
    assert not recorded.running
