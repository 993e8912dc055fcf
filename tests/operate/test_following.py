"""Which settings the actors of a cluster follow, where `renew` is played."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from raymlops.monitor import DriftMonitor, DriftPolicy
from raymlops.operate import Workspace, start_monitor

SHARED = {"ledger_url", "store_uri", "slice_by"}
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
    monkeypatch.setattr("raymlops.operate.serving.renew", found.renew)
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
