"""Traffic that nobody asked for, nobody answers, or nobody measures."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raymlops import cluster
from raymlops.cluster import ClusterStatus
from raymlops.cluster.status import Application
from raymlops.ledger import Version
from raymlops.monitor.metrics import Exporter, ExporterSettings
from raymlops.operate import Workspace, sentinel, serving_privately, status
from raymlops.operate.exporter import exporter_address
from raymlops.operate.private import forget_killed
from raymlops.serve import Arm, TrafficTable
from tests.cluster.test_status import no_http
from tests.monitor.metrics.conftest import MODEL


def run_beside(patch: pytest.MonkeyPatch, *applications: Application) -> None:
    """A cluster that runs those applications."""
    found = ClusterStatus(running=True, applications=applications)
    patch.setattr(cluster, "status", lambda _: found)


def publish(workspace: Workspace, **shares: float) -> None:
    arms = tuple(
        Arm(name=name, version=version, share=share)
        for (name, share), version in zip(shares.items(), ("1.0.0", "1.0.1"), strict=False)
    )
    table = TrafficTable(model=MODEL, arms=arms)
    workspace.ledger.releases.publish(MODEL, table.to_dict())


def test_traffic_that_alias_and_releases_do_not_ask_for_is_a_problem(workspace: Workspace) -> None:
    # A canary that was rolled back went on answering, and everything was said to be well.
    publish(workspace, champion=0.9, canary=0.1)
    found = status(workspace)
    (model,) = found.models
    assert model.traffic == {"1.0.0": 0.9, "1.0.1": 0.1}
    assert (model.health, found.health) == ("attention", "attention")
    assert found.problems == (
        "flights is answered by 1.0.0, 1.0.1, while alias and releases name 1.0.0: "
        "let `raymlops watch` run, or `raymlops deploy flights@champion`",
    )
    workspace.ledger.releases.start(
        model=MODEL, champion=Version(1, 0, 0), challenger=Version(1, 0, 1), strategy={}, state={},
        outcome="canary 10%", who="test", why="it is asked for",
    )  # fmt: skip
    with workspace.coordinator.hold("operator-flights"):
        found = status(workspace)
    assert (found.health, found.models[0].problem) == ("ok", None)
    # An operator that had died left its canary where it was for weeks, and all was said to be well.
    found = status(workspace)
    assert (found.health, found.problems) == (
        "attention",
        ("release 2: 1.0.1 of flights runs, and no `raymlops watch` that takes its next step",),
    )
    workspace.ledger.releases.withdraw(MODEL)
    assert status(workspace).models[0].traffic == {}


@pytest.mark.parametrize(
    ("applications", "health"),
    [
        ((), "attention"),
        (("raymlops-model-other",), "attention"),
        (("raymlops-model-flights",), "ok"),
        (("raymlops-pool-shared",), "ok"),
    ],
)
def test_a_model_that_nobody_serves_any_more_is_a_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, applications: tuple[str, ...],
    health: str,
) -> None:  # fmt: skip
    """After a night in which the head died and was started again, all was said to be well."""
    run_beside(
        monkeypatch, *(Application(name=n, status="RUNNING", route=None) for n in applications)
    )
    assert status(workspace).models[0].health == "ok"
    publish(workspace, champion=1.0)
    model = status(workspace).models[0]
    assert model.health == health
    if health == "attention":
        assert model.problem == (
            "flights is not served: its cluster ended, or its deploy was killed: "
            "`raymlops deploy flights@champion`, or `raymlops undeploy flights`"
        )


def test_a_private_ray_that_was_killed_serves_nobody(
    workspace: Workspace, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its traffic stays in the ledger, and all was said to be well.
    publish(workspace, champion=1.0)
    assert status(workspace).models[0].health == "ok"  # whoever serves it may have joined a cluster
    serving = (
        "import pathlib, sys, time; from raymlops.operate import serving_privately\n"
        "with serving_privately(pathlib.Path(sys.argv[1]), ['flights', 'other']):\n"
        "    print('serving', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", serving, str(home)], stdout=subprocess.PIPE
    ) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"serving\n"
        assert status(workspace).models[0].health == "ok"
        with monkeypatch.context() as patched:  # beside a cluster, which knows nothing of it
            run_beside(patched)
            assert status(workspace).models[0].health == "ok"
        killed.kill()
    model = status(workspace).models[0]
    assert model.health == "attention"
    assert model.problem is not None
    assert model.problem.startswith("flights is not served: ")
    with serving_privately(home, [MODEL]):
        assert status(workspace).models[0].health == "ok"
    forget_killed(home, MODEL)
    assert status(workspace).models[0].health == "ok"
    assert list((home / "private").iterdir()) == []


def test_an_alert_of_no_model_is_a_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such alerts were a count."""
    closed = {"problem": "nobody is let in", "certificate": {"file": "c", "since": 0, "until": 1}}
    monkeypatch.setattr(sentinel, "doors", lambda: [closed])
    watching = sentinel.open_sentinel(workspace)
    watching.begin()
    watching.look(datetime.now(UTC))
    ran_out = "the certificate c ran out at 1970-01-01 00:00 UTC"
    found = status(workspace)
    assert found.problems == (f"critical certificate of doors: {ran_out}",)
    assert found.health == "broken"


def test_an_exporter_that_has_gone_is_not_shown(workspace: Workspace, home: Path) -> None:
    exporter = Exporter(
        workspace.ledger_url, ExporterSettings(), home, workspace.settings.monitor.drift
    )
    url = f"http://{exporter.address()}/metrics"
    assert status(workspace).monitor.exporter == url
    exporter.close()
    assert status(workspace).monitor.exporter is None


def test_an_exporter_whose_port_another_has_is_not_shown(workspace: Workspace, home: Path) -> None:
    targets = home / "prometheus" / "raymlops.json"
    targets.parent.mkdir()
    with no_http() as address:
        targets.write_text(json.dumps([{"targets": [address], "labels": {}}]))
        assert exporter_address(home) == address
        assert status(workspace).monitor.exporter is None


@pytest.mark.parametrize("name", ["raymlops-model-flights", "raymlops-pool-shared"])
def test_what_is_served_and_not_scraped_is_a_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    application = Application(name=name, status="RUNNING", route=None)
    run_beside(monkeypatch, application)
    assert status(workspace).problems == (
        "models are served and the exporter does not answer: nobody scrapes their metrics",
    )


@pytest.mark.parametrize(
    ("status_of", "minutes", "message", "told"),
    [
        ("DEPLOYING", 2, "", ()),
        ("DEPLOYING", 7, "", ("application other is DEPLOYING for 7 minutes",)),
        (
            "DEPLOY_FAILED",
            7,
            "no module named 'x'\nTraceback",
            ("application other is DEPLOY_FAILED: no module named 'x'",),
        ),
    ],
)
def test_an_application_that_does_not_come_up_is_a_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, status_of: str, minutes: int,
    message: str, told: tuple[str, ...],
) -> None:  # fmt: skip
    """One whose replicas found no room stayed DEPLOYING, and everything was said to be well."""
    application = Application(
        name="other",
        status=status_of,
        route=None,
        deployed_at=time.time() - 60 * minutes,
        message=message,
    )
    run_beside(monkeypatch, application)
    assert status(workspace).problems == told
