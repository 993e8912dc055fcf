"""Which settings the actors of a cluster follow, where `renew` is played."""

from __future__ import annotations

import importlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from raymlops.cluster import dismiss, find
from raymlops.cluster.address import free_port
from raymlops.ledger import Ledger
from raymlops.monitor import DriftMonitor, DriftPolicy
from raymlops.operate import (
    Workspace,
    exporter,
    sentinel,
    serving,
    start_exporter,
    start_mirror,
    start_monitor,
    start_sentinel,
)
from raymlops.operate.exporter import EXPORTER_NAME, exporter_address
from raymlops.operate.mirror import MIRROR_NAME
from raymlops.operate.sentinel import SENTINEL_NAME
from raymlops.operate.settings import Settings
from tests.coordination.processes import until

MIRROR = importlib.import_module("raymlops.operate.mirror")  # the package shows the function
SHARED = {"code", "ledger_url", "store_uri", "slice_by"}
POLICIES = {"windows", "drift", "concept", "joins"}


@dataclass
class Renewals:
    """What `renew` was last asked for."""

    cls: type = object
    name: str = ""
    made_from: Mapping[str, Any] = field(default_factory=dict)
    follow: set[str] = field(default_factory=set)

    def renew(
        self,
        cls: type,
        name: str,
        made_from: Mapping[str, Any],
        *,
        follow: Collection[str],
        **_: object,
    ) -> None:
        self.cls, self.name, self.made_from, self.follow = cls, name, made_from, set(follow)


@pytest.fixture
def renewals(monkeypatch: pytest.MonkeyPatch) -> Renewals:
    found = Renewals()
    for module in (serving, sentinel, exporter, MIRROR):
        monkeypatch.setattr(module, "renew", found.renew)
    return found


@pytest.mark.parametrize(
    ("overrides", "followed"),
    [
        ([], SHARED),
        (["serve.num_replicas=2"], SHARED),
        (["model=digits"], SHARED),
        (["model=flights"], SHARED | POLICIES),
        (["monitor.drift.alpha=0.01"], SHARED | {"drift"}),
        (["monitor.prometheus.enabled=true"], SHARED),
    ],
)
def test_a_monitor_follows_its_models_configuration_and_no_default_of_another(
    tmp_path: Path, renewals: Renewals, overrides: list[str], followed: set[str]
) -> None:
    with Workspace.open(overrides=[f"home={tmp_path}", *overrides]) as workspace:
        start_monitor(workspace, "flights")
    assert renewals.name == "raymlops-monitor-flights"
    assert renewals.follow == followed


def test_a_monitor_says_what_it_was_made_from(tmp_path: Path, renewals: Renewals) -> None:
    overrides = [f"home={tmp_path}", "monitor.drift.alpha=0.01"]
    with Workspace.open(overrides=overrides) as workspace:
        start_monitor(workspace, "flights")
        monitor = DriftMonitor(**renewals.made_from)
        assert monitor.made_from() == renewals.made_from
        assert monitor.made_from()["drift"] == DriftPolicy(alpha=0.01)
        # Elsewhere read anew, the same settings are equal: nothing is replaced for them.
        with Workspace.open(overrides=overrides) as again:
            start_monitor(again, "flights")
        assert monitor.made_from() == renewals.made_from


@pytest.mark.parametrize(
    ("overrides", "followed"),
    [
        ([], {"code"}),
        (["monitor.exporter.port=9464", "serve.log.share=0.5"], {"code", "log"}),
        (["alerts.min_severity=critical"], {"code", "alerts"}),
    ],
)
def test_the_sentinel_follows_whoever_says_something_of_alerts(
    tmp_path: Path, renewals: Renewals, overrides: list[str], followed: set[str]
) -> None:
    with Workspace.open(overrides=[f"home={tmp_path}", *overrides]) as workspace:
        start_sentinel(workspace)
    assert (renewals.name, renewals.follow) == (SENTINEL_NAME, followed)


def test_a_sentinel_is_told_nothing_it_does_not_need(tmp_path: Path, renewals: Renewals) -> None:
    # It was given all settings: one made from them would have been another with each model.
    made_from = []
    for overrides in (["serve.num_replicas=2", "model=flights"], ["serve.log.share=0.5"]):
        with Workspace.open(overrides=[f"home={tmp_path}", *overrides]) as workspace:
            start_sentinel(workspace)
        made_from.append(renewals.made_from)
    assert made_from[0] == made_from[1]


def test_the_mirror_follows_whoever_names_its_store(
    tmp_path: Path, renewals: Renewals, monkeypatch: pytest.MonkeyPatch
) -> None:
    dismissed: list[tuple[str, Settings]] = []
    monkeypatch.setattr(MIRROR, "dismiss", lambda name, of: dismissed.append((name, of["site"])))

    def start(*overrides: str) -> None:
        with Workspace.open(overrides=[f"home={tmp_path}", *overrides]) as workspace:
            start_mirror(workspace)

    start()
    assert (renewals.name, dismissed) == ("", [])
    start(f"ledger.mlflow.url=sqlite:///{tmp_path}/mlflow.db", "ledger.mlflow.max_file_mb=1")
    assert (renewals.name, renewals.follow) == (MIRROR_NAME, {"code", "mlflow"})
    assert renewals.made_from["mlflow"].max_file_mb == 1
    start("ledger.mlflow.url=null")
    assert dismissed == [(MIRROR_NAME, renewals.made_from["site"])]


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_actors_of_an_earlier_raymlops_are_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After an upgrade under a cluster that runs, windows were judged as before it, and nobody was
    # told, though the replicas were new ones.
    names = ("raymlops-monitor-flights", EXPORTER_NAME, SENTINEL_NAME)
    overrides = [f"home={tmp_path}", f"monitor.exporter.port={free_port('127.0.0.1')}"]
    try:
        for code in ("a1", "a1", "b2"):
            for module in (serving, exporter, sentinel):
                monkeypatch.setattr(module, "code_digest", lambda code=code: code)
            with Workspace.open(overrides=overrides) as workspace:
                start_monitor(workspace, "flights")
                start_exporter(workspace)
                start_sentinel(workspace)
        assert caplog.messages == [
            f"actor {name} is made anew for other settings: code b2, not a1" for name in names
        ]
    finally:
        for name in names:
            dismiss(name, {})


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_actors_that_run_follow_what_is_set_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def start(*overrides: str) -> None:
        settings = [f"home={tmp_path}", "alerts.every_s=0.1", *overrides]
        with Workspace.open(overrides=settings) as workspace:
            start_monitor(workspace, "flights")
            start_exporter(workspace)
            start_sentinel(workspace)

    def tell(outcome: str) -> None:
        with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
            decision = {"kind": "gate", "outcome": outcome, "who": "test", "why": "worse"}
            ledger.decisions.add(model="flights", evidence={}, **decision)
        until(lambda: outcome in logged())

    def logged() -> list[str]:
        path = tmp_path / "logs" / "decisions.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["outcome"] for line in lines]

    names = ("raymlops-monitor-flights", EXPORTER_NAME, SENTINEL_NAME)
    try:
        start(f"monitor.exporter.port={free_port('127.0.0.1')}")
        tell("1.0.1 refused")
        first, address = [find(name) for name in names], exporter_address(tmp_path)
        start("serve.num_replicas=2")
        assert [find(name) for name in names] == first
        # The exporter is to have the port it had.
        start("monitor.drift.alpha=0.01", "alerts.min_severity=critical")
        assert all(find(name) != old for name, old in zip(names, first, strict=True))
        assert exporter_address(tmp_path) == address
        tell("1.0.2 refused")
        assert logged() == ["1.0.1 refused", "1.0.2 refused"]
        assert caplog.messages == [
            f"actor {name} is made anew for other settings: {change}"
            for name, change in zip(
                names,
                (
                    "drift.alpha 0.01, not 0.05",
                    "drift.alpha 0.01, not 0.05",
                    "alerts.min_severity critical, not info",
                ),
                strict=True,
            )
        ]
    finally:
        for name in names:
            dismiss(name, {})
